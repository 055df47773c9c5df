"""CoMA pre-training of DyViT-B on ImageNet-1K, 200 epochs: the paper's main setting.

    tools/dist_train.sh configs/pretrain/coma_dyvit-b_in1k.py 8

Data: data/imagenet/train (any sub-folders), or --cfg-options train_dataloader.dataset.data_root=FOLDER
Hardware: 8 GPUs x 512 images; with fewer add --auto-scale-lr, or --cfg-options optim_wrapper.accumulative_counts=N
Hours, result: not run, needs ImageNet (the paper: fine-tuning on par with MAE's 1600 epochs)
"""

_base_ = [
    '../_base_/models/coma_dyvit-b.py',
    '../_base_/datasets/imagenet_pretrain.py',
    '../_base_/schedules/pretrain_200e.py',
    '../_base_/default_runtime.py',
]

custom_hooks = [
    *_base_.custom_hooks,
    dict(type='coma_mm.ReconstructionHook', interval=20),
    dict(type='coma_mm.FeaturesHook', interval=20),
    dict(type='coma_mm.QualityHook', interval=20),  # held-out images: dataset=dict(...)
    dict(type='coma_mm.ReportHook'),
]
