"""Cascade Mask R-CNN with FPN and DyViT-B on COCO, 36 epochs, short sides of 480-800 px.

    tools/dist_train.sh configs/det/cascade-mask-rcnn_dyvit-b_fpn_3x-ms_coco.py 8

Data: data/coco/{train2017,val2017,annotations}; weights of configs/pretrain/coma_dyvit-b_in1k.py
Hardware: 8 GPUs x 2 images; with fewer add --auto-scale-lr, or --cfg-options optim_wrapper.accumulative_counts=N
Hours, result: not run, needs COCO and the weights; adapted from Swin's
"""

_base_ = [
    '../_base_/models/cascade-mask-rcnn_dyvit-b_fpn.py',
    '../_base_/datasets/coco_instance_ms.py',
    '../_base_/schedules/det_3x.py',
]
