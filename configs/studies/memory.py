"""Question 5: the memory of each mode, and memory x time to the loss of ``off`` in question 1.

    tools/lab/study.py memory --data FILE

Each cell is the peak of two steps of question 1's config, in a process of its own: weights, optimiser and activations.
The time to the loss of ``off`` comes from the results of the study method, which has to be run before.
Hardware: 2 CPU cores, minutes; --size gpu: 1 GPU
"""

_base_ = 'method.py'

cells = dict(
    _delete_=True,
    off=dict(options={'model.evaluation.mode': 'off'}),
    mae75=dict(
        options={
            'model.evaluation.mode': 'off',
            'train_dataloader.dataset.pipeline.2.ratio': 0.75,
        }
    ),
    copy=dict(),
    ema=dict(options={'model.evaluation': dict(mode='ema', momentum=0.004)}),
)
measures = dict(_delete_=True, memory=dict())
sizes = dict(
    smoke=dict(epochs=0, measures=dict(_delete_=True, memory=dict(batch=16))),
    cpu=dict(seeds=[0], epochs=0),
    gpu=dict(seeds=[0], epochs=0, measures=dict(memory=dict(batch=1024))),
)
report = dict(
    _delete_=True,
    qualities=dict(peak_mib='peak memory (MiB)'),
    reach=dict(study='method', reference='off', quality='loss', times='peak_mib'),
)
