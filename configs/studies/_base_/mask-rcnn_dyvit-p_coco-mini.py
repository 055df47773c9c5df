"""Mask R-CNN with a narrow FPN on DyViT-P, some hundred photos of COCO at 320 px, 6 epochs.

    tools/lab/study.py transfer --data FOLDER

Data: FOLDER/coco_mini/{train,val,annotations/instances_{train,val}.json}. Hardware: 2 CPU cores, a quarter
of an hour. A detector learns almost nothing from so few photos. The run shows that the weights are loaded, and whose
loss falls faster.
Result: docs/evidence.md
"""

_base_ = [
    '../../_base_/models/mask-rcnn_dyvit-t_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    '../../_base_/schedules/det_1x.py',
]

data_root = '{{$COMA_MM_PHOTOS:data}}/coco_mini/'
model = dict(
    backbone=dict(arch='pico', img_size=128, patch_size=4, attn_window=4, drop_path_rate=0.0, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(in_channels=64, conv_out_channels=64),
    ),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(480, 320), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(480, 320), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=dict(layer_decay_rate=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', milestones=[4, 5], begin=0, end=6),
]
train_cfg = dict(max_epochs=6, val_begin=1000)  # validated afterwards
