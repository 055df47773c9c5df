"""Question 2: how often has each unit been seen and predicted after k epochs: MAE 75 %, MAE 60 %, CoMA?

    tools/lab/study.py coverage

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
        'never_encoded after 10': 'never seen after 10 epochs',
        'never_learnt_from after 10': 'never seen with a gradient',
        'never_predicted after 10': 'never predicted',
        'spread_encoded after 10': 'spread of times seen',
        'spread_predicted after 10': 'spread of times predicted',
        'spread_predicted after 200': 'the same after 200 epochs',
    },
    plots=[
        dict(x='epochs', y=['never_encoded', 'never_predicted', 'spread_encoded', 'spread_predicted'], xscale='log')
    ],
)
