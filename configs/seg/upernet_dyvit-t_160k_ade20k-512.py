"""UperNet on DyViT-T, ADE20K, crops of 512 px, 160,000 iterations.

    tools/dist_train.sh configs/seg/upernet_dyvit-t_160k_ade20k-512.py 8

Hardware: 8 GPUs x 2 images. Hours, result: not run, needs ADE20K and pre-trained weights
"""

_base_ = 'upernet_dyvit-b_160k_ade20k-512.py'
model = dict(
    backbone=dict(
        arch='tiny', drop_path_rate=0.1, init_cfg=dict(checkpoint='work_dirs/coma_dyvit-t_in1k/epoch_200.pth')
    ),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
)
