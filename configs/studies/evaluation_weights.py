"""Question 9: which weights for the evaluation branch: every step's copy, an older copy, or a moving average?

    tools/lab/study.py evaluation_weights --data FILE

Data, hardware: as method.py, 16 cells of a quarter of an hour, 6 of which are also in question 1
"""

_base_ = 'method.py'

cells = dict(
    _delete_=True,
    copy=dict(),
    ema_99=dict(options={'model.evaluation': dict(mode='ema', momentum=0.01)}),
    copy_100=dict(options={'model.evaluation.interval': 100}),
    ema_90=dict(options={'model.evaluation': dict(mode='ema', momentum=0.1)}),
    ema_999=dict(options={'model.evaluation': dict(mode='ema', momentum=0.001)}),
    copy_10=dict(options={'model.evaluation.interval': 10}),
    # as in method.py
    ema_996=dict(options={'model.evaluation': dict(mode='ema', momentum=0.004)}),
    off=dict(options={'model.evaluation.mode': 'off'}),
)
first = ('copy', 'ema_99', 'copy_100')
sizes = dict(cpu=dict(epochs=16))
report = dict(
    bars=None,
    qualities=dict(
        _delete_=True,
        loss='loss',
        loss_evaluation='loss of the evaluation branch',
        spikes='spikes',
        largest_spike='largest spike',
        knn='kNN (%)',
        probe='linear probe (%)',
        probe_positions='probe of positions (%)',
        finetune_1='1 % of labels (%)',
        finetune_10='10 % of labels (%)',
        rankme='RankMe',
    ),
    reach=dict(reference='copy'),
    plots=[dict(x=['images', 'gflops', 'seconds'], y=['loss', 'loss_evaluation'], xscale='log')],
)
