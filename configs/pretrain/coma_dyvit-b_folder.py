"""CoMA pre-training of DyViT-B on any folder of images, sub-folders and all; no labels, no annotation file.

    tools/train.py configs/pretrain/coma_dyvit-b_folder.py --cfg-options train_dataloader.dataset.data_root=FOLDER

It reads all that Pillow opens, and TIFFs of any depth: grey, CMYK, 16-bit and transparent images too. For a smaller
model add model.backbone.arch=tiny (or small). To start from weights add load_from=CHECKPOINT.
Hardware: 1 GPU x 256 images; for more GPUs tools/dist_train.sh and --auto-scale-lr.
Schedule: 400 epochs, with a picture every 20 epochs; for 10,000 images these are 15,600 steps.
Hours, result: not run as a whole; its first steps run in the tests
"""

_base_ = 'coma_dyvit-b_in1k.py'

train_dataloader = dict(batch_size=256, dataset=dict(data_root='data/images', data_prefix=''))
optim_wrapper = dict(optimizer=dict(lr=1.5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=360, by_epoch=True, begin=40, end=400, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=400)
auto_scale_lr = dict(base_batch_size=256)
