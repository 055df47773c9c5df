"""Mask R-CNN with FPN and DyViT-S on COCO, 100 epochs of large-scale jitter at 1024 px.

    tools/dist_train.sh configs/det/mask-rcnn_dyvit-s_fpn_100e-lsj_coco.py 8

Data: data/coco/{train2017,val2017,annotations}; weights of configs/pretrain/coma_dyvit-s_in1k.py
Hardware: 8 GPUs x 8 images; with fewer add --auto-scale-lr, or --cfg-options optim_wrapper.accumulative_counts=N
Hours, result: not run, needs COCO and the weights; adapted from ViTDet's
"""

_base_ = [
    '../_base_/models/mask-rcnn_dyvit-s_fpn.py',
    '../_base_/datasets/coco_instance_lsj.py',
    '../_base_/schedules/det_100e.py',
]

model = dict(data_preprocessor=dict(pad_size_divisor=1024))
