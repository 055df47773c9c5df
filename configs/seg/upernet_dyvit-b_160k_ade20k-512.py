"""UperNet on DyViT-B, ADE20K, crops of 512 px, 160,000 iterations.

    tools/dist_train.sh configs/seg/upernet_dyvit-b_160k_ade20k-512.py 8

Data: data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}
Weights: of coma_dyvit-b_in1k.py; others by --cfg-options model.backbone.init_cfg.checkpoint=FILE
Hardware: 8 GPUs x 2 images; one GPU: --cfg-options train_dataloader.batch_size=16
Recipe: adapted from MAE's, BEiT's and Swin's for UperNet. Hours, result: not run, needs ADE20K and the weights
"""

_base_ = [
    '../_base_/models/upernet_dyvit-b.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/seg_160k.py',
    '../_base_/seg_runtime.py',
]
