"""Question 3: do several windows per head pay, at equal GFLOPs, and which depths should the stages have?

    tools/lab/study.py attention --data FILE

Cells: the default, windows of 4 and 8 tokens in stage 1 and of 2 and 4 in stage 2 for all heads; the same with dense
convolutions, ordinary ones or ones that start as an average; one window per head; one size; plain attention with equal
depths, and with equal GMACs of masked pre-training; two blocks in each of the first stages.
``speed`` times all of them in turns.
Pre-training is ``off``, the cheapest mode of question 1. Data, hardware: as method.py, 19 cells of ten minutes, two of
which are also in question 1
"""

_base_ = 'method.py'

dims, heads = (32, 64, 128, 256), (4, 8, 4, 8)
off = {'model.evaluation.mode': 'off'}
plain = {**off, 'model.backbone.attention': ('msa', 'msa', 'msa', 'msa')}


def windows(*stages):
    return {**off, 'model.backbone.windows': (*stages, None, None)}


def depths(*stages):
    return {'model.backbone.arch': dict(_delete_=True, dims=dims, depths=stages, heads=heads)}


cells = dict(
    _delete_=True,
    shared=dict(options=off),
    plain=dict(options=plain),
    averaged=dict(options={**off, 'model.backbone.kv_conv': 'averaged'}),
    dense=dict(options={**off, 'model.backbone.kv_conv': 'dense'}),
    per_head=dict(options=windows((2, 4, 4, 8), (1, 1, 2, 2, 2, 2, 4, 4))),
    depths_2221=dict(options={**off, **depths(2, 2, 2, 1)}),
    plain_equal=dict(options={**plain, **depths(1, 1, 2, 1)}),
    single_small=dict(options=windows(4, 2)),
    single_large=dict(options=windows(8, 4)),
    speed=dict(config=None, seeds=[0], measures=dict(speed=dict())),
)
first = ('shared', 'plain', 'averaged', 'dense')
sizes = dict(
    smoke=dict(measures=dict(speed=dict(batch=2, rounds=1))),
    cpu=dict(epochs=16),
    gpu=dict(
        epochs=80,
        cells=('shared', 'plain', 'averaged', 'dense', 'per_head', 'single_small', 'single_large', 'speed'),
    ),
)
report = dict(
    bars=None,
    qualities=dict(
        _delete_=True,
        loss='loss',
        knn='kNN (%)',
        probe='linear probe (%)',
        probe_positions='probe of positions (%)',
        finetune_1='1 % of labels (%)',
        finetune_10='10 % of labels (%)',
        rankme='RankMe',
        parameters_m='parameters (M)',
        gmacs='GMACs',
        ms_forward='ms forward',
        ms_step='ms step',
    ),
    reach=dict(reference='plain'),
)
