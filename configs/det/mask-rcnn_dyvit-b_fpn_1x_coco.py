"""Mask R-CNN with FPN and DyViT-B on COCO, 12 epochs.

    tools/dist_train.sh configs/det/mask-rcnn_dyvit-b_fpn_1x_coco.py 8

Data: data/coco/{train2017,val2017,annotations}; weights of configs/pretrain/coma_dyvit-b_in1k.py
Hardware: 8 GPUs x 2 images; with fewer add --auto-scale-lr, or --cfg-options optim_wrapper.accumulative_counts=N
Hours, result: not run, needs COCO and the weights; adapted from Swin's
"""

_base_ = [
    '../_base_/models/mask-rcnn_dyvit-b_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    '../_base_/schedules/det_1x.py',
]
