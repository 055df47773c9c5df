"""kNN classification of any folder of images by DyViT-B's frozen features: data/images/{train,val}/<class>/*

    tools/test.py configs/cls/knn_dyvit-b_folder.py work_dirs/coma_dyvit-b_folder/epoch_400.pth

Another folder: --cfg-options test_cfg.bank.dataset.data_root=FOLDER test_dataloader.dataset.data_root=FOLDER
Checkpoint: any that holds the backbone; of a smaller one with model.backbone.arch=tiny (or small)
Hardware: 1 GPU x 256 images, or CPU cores. Hours, result: not run; it runs in the tests, with a small model
"""

_base_ = 'knn_dyvit-b_in1k.py'

extensions = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')
dataset = dict(
    _delete_=True,
    type='CustomDataset',
    data_root='data/images',
    extensions=extensions,
    pipeline=_base_.pipeline,
)
test_dataloader = dict(dataset=dict(**dataset, data_prefix='val'))
test_cfg = dict(bank=dict(dataset=dict(**dataset, data_prefix='train')))
