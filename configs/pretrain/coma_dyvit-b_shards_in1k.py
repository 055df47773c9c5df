"""CoMA pre-training of DyViT-B on ImageNet-1K from tar files, for disks and networks that are slow with small files.

    tools/make_shards.py data/imagenet/train data/imagenet_shards
    tools/dist_train.sh configs/pretrain/coma_dyvit-b_shards_in1k.py 8

Data: any folder of .tar files with images in it, WebDataset's included, by --cfg-options
train_dataloader.dataset.data_root=FOLDER
Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_in1k.py'
train_dataloader = dict(
    dataset=dict(type='coma_mm.ImageShards', data_root='data/imagenet_shards', data_prefix=''),
)
