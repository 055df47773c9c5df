"""kNN classification of ImageNet-1K by DyViT-B's frozen features: the training images classify every validation image.

    tools/dist_test.sh configs/cls/knn_dyvit-b_in1k.py work_dirs/coma_dyvit-b_in1k/epoch_200.pth 8

Checkpoint: any that has the backbone: of pre-training, exported, fine-tuned, of a detector or segmentor
Data: data/imagenet/{train,val}/<class>/*, mmpretrain's ImageNet
Hardware: 8 GPUs x 256 images; each GPU needs 16 GB for the training images' features (1.28 M x 1024, three copies)
Hours, result: not run, needs ImageNet
"""

_base_ = '../_base_/default_runtime.py'

model = dict(
    type='coma_mm.FeatureExtractor',
    backbone=dict(type='coma_mm.DyViT', arch='base', img_size=224),
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=False,  # coma_mm.LoadImage reads RGB
    ),
)
pipeline = [
    dict(type='coma_mm.LoadImage'),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
dataset = dict(type='ImageNet', data_root='data/imagenet', pipeline=pipeline)
dataloader = dict(
    batch_size=256,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
test_dataloader = dict(**dataloader, dataset=dict(**dataset, split='val'))
test_cfg = dict(type='coma_mm.KNNLoop', bank=dict(**dataloader, dataset=dict(**dataset, split='train')))
test_evaluator = dict(type='coma_mm.KNN', k=(10, 20, 100), temperature=0.07)
