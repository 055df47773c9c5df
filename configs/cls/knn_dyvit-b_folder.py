"""kNN classification of any folder of images by DyViT-B's frozen features

    tools/test.py configs/cls/knn_dyvit-b_folder.py work_dirs/coma_dyvit-b_folder/epoch_400.pth

Data: data/images/{train,val}/<class>/*; without train and val a tenth of each class is held out, always the same
Another folder: --cfg-options test_cfg.bank.dataset.data_root=FOLDER test_dataloader.dataset.data_root=FOLDER
Checkpoint: any that has the backbone; for a smaller DyViT add model.backbone.arch=tiny (or small)
Hardware: 1 GPU x 256 images, or CPU cores. Hours, result: not run; it runs in the tests, with a small model
"""

_base_ = 'knn_dyvit-b_in1k.py'

dataset = dict(_delete_=True, type='coma_mm.ClassFolder', data_root='data/images', pipeline=_base_.pipeline)
test_dataloader = dict(dataset=dict(**dataset, part='val'))
test_cfg = dict(bank=dict(dataset=dict(**dataset, part='train')))
