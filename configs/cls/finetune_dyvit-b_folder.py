"""Fine-tuning of DyViT-B on any folder of images, a sub-folder for each class

    tools/train.py configs/cls/finetune_dyvit-b_folder.py --cfg-options model.head.num_classes=N \
        model.data_preprocessor.num_classes=N

Data: data/images/{train,val}/<class>/*; without train and val a tenth of each class is held out, always the same
Another folder: add train_dataloader.dataset.data_root=FOLDER val_dataloader.dataset.data_root=FOLDER; to test with
tools/test.py test_dataloader.dataset.data_root=FOLDER
Weights: of configs/pretrain/coma_dyvit-b_folder.py, or add model.backbone.init_cfg.checkpoint=FILE
Weights of any size: with model.backbone.arch=from:FILE, the model and the images follow the file
Hardware: 1 GPU x 128 images; for more GPUs tools/dist_train.sh and --auto-scale-lr
Hours, result: not run as a whole; its first steps run in the tests, with a small model
"""

_base_ = 'finetune_dyvit-b_in1k.py'

dataset = dict(_delete_=True, type='coma_mm.ClassFolder', data_root='data/images')
train_dataloader = dict(dataset=dict(**dataset, part='train', pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(**dataset, part='val', pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(topk=(1,))
model = dict(
    data_preprocessor=dict(num_classes=10),
    backbone=dict(init_cfg=dict(checkpoint='work_dirs/coma_dyvit-b_folder/epoch_400.pth')),
    head=dict(num_classes=10),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4 * 128 / 256))
auto_scale_lr = dict(base_batch_size=128)
custom_hooks = [*_base_.custom_hooks, dict(type='coma_mm.CheckClassesHook')]
