"""UperNet on DyViT-L, ADE20K, crops of 640 px, 160,000 iterations.

    tools/dist_train.sh configs/seg/upernet_dyvit-l_160k_ade20k-640.py 8

Hardware: 8 GPUs x 2 images. Hours, result: not run, needs ADE20K and pre-trained weights
"""

_base_ = [
    '../_base_/models/upernet_dyvit-b.py',
    '../_base_/datasets/ade20k_640.py',
    '../_base_/schedules/seg_160k.py',
    '../_base_/seg_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(
        arch='large', drop_path_rate=0.3, init_cfg=dict(checkpoint='work_dirs/coma_dyvit-l_in1k/epoch_200.pth')
    ),
    decode_head=dict(in_channels=[192, 384, 768, 1536]),
    auxiliary_head=dict(in_channels=768),
    test_cfg=dict(crop_size=(640, 640), stride=(426, 426)),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
