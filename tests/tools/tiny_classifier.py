"""A classifier of seconds, on the classes of a folder of photos."""

default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='coma_mm.DyViT', arch='pico', img_size=64, patch_size=2),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=256, topk=(1,)),
)
data = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset',
        data_root='photos',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64)), dict(type='PackInputs')],
    ),
)
train_dataloader = val_dataloader = test_dataloader = data
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = test_cfg = dict()
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1,))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
default_hooks = dict(visualization=dict(type='VisualizationHook'))
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
