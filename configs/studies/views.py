"""Question 11: how much of a large image must be seen at once? Attention in blocks, with global blocks and without.

    tools/lab/study.py views --data FOLDER

Cells: a short pre-training, then UperNet on CamVid and Mask R-CNN on a few photos of COCO. Attention is in blocks of
128 px. ``none``: all transformer blocks attend in such blocks. ``four``: all transformer blocks of stage 3 are global.
``two``: two of them are global, and their keys are means of 2 x 2 tokens (the default).
Data: as for the study transfer. Hardware: 2 CPU cores, 21 cells of some minutes
"""

_base_ = 'transfer.py'

views = dict(
    none=dict(global_blocks=()),
    four=dict(global_blocks=(2, 3, 4, 5), global_window=1),
    two=dict(global_blocks=(3, 5), global_window=2),
)
cells = dict(
    _delete_=True,
    pretrain=dict(options={'model.evaluation.mode': 'off'}),
    **{
        f'{data}_{name}': dict(
            config=config,
            start='pretrain',
            options={'model.backbone.attn_window': 4, **{f'model.backbone.{key}': one for key, one in view.items()}},
            measures=dict(validation=dict()),
            smoke=smoke,
        )
        for data, config, smoke in (
            ('camvid', {{_base_.upernet}}, {{_base_.smoke_seg}}),
            ('coco', {{_base_.mask_rcnn}}, {{_base_.smoke_det}}),
        )
        for name, view in views.items()
    },
)
sizes = dict(
    smoke=dict(cells=['pretrain', 'camvid_none', 'coco_none']),
    cpu=dict(seeds=[0, 1, 2], epochs=40),
)
report = dict(plots=[])
