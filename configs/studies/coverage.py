"""Question 2: how often has each unit been seen and predicted after k epochs: MAE 75 %, MAE 60 %, CoMA?

    tools/study.py coverage

Masks of 224 px images, 49 units, are drawn and counted; nothing is trained, no data needed. Hardware: 1 CPU core, one
minute. Results: docs/evidence.md
"""

cells = dict(
    mae75=dict(config=None, measures=dict(coverage=dict(ratio=0.75, complementary=False))),
    mae60=dict(config=None, measures=dict(coverage=dict(ratio=0.6, complementary=False))),
    coma=dict(config=None, measures=dict(coverage=dict(ratio=0.6, complementary=True))),
)
sizes = dict(
    smoke=dict(seeds=[0], measures=dict(coverage=dict(images=10, epochs=10))),
    cpu=dict(seeds=[0]),
    gpu=dict(seeds=[0]),
)
report = dict(
    qualities={
        f'{key} after {epochs}': f'{title} after {epochs} epochs'
        for epochs in (10, 200)
        for key, title in dict(
            never_encoded='never seen',
            never_learnt_from='never seen with a gradient',
            never_predicted='never predicted',
            spread_encoded='spread of times seen',
            spread_predicted='spread of times predicted',
        ).items()
    },
    plots=[
        dict(x='epochs', y=['never_encoded', 'never_predicted', 'spread_encoded', 'spread_predicted'], xscale='log')
    ],
)
