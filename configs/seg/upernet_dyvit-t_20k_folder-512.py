"""UperNet on DyViT-T, images and masks of your own, crops of 512 px, 20,000 iterations.

    tools/train.py configs/seg/upernet_dyvit-t_20k_folder-512.py

Data: copy this file beside itself, and write your folder and your classes into the copy. A mask is a png file of one
channel with the name of its image. Its pixels are numbers of classes (0 is the first); 255 is ignored.
    data/scenes/{images,annotations}/{training,validation}
Hardware: 1 GPU x 8 images; for more GPUs tools/dist_train.sh and --auto-scale-lr
Hours, result: not run as a whole; its first steps run in the tests
"""

_base_ = 'upernet_dyvit-t_160k_ade20k-512.py'

classes = ('background', 'road', 'car')
dataset = dict(
    type='BaseSegDataset',
    data_root='data/scenes',
    img_suffix='.jpg',
    seg_map_suffix='.png',
    metainfo=dict(classes=classes),
)
train_dataloader = dict(batch_size=8, dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
model = dict(decode_head=dict(num_classes=len(classes)), auxiliary_head=dict(num_classes=len(classes)))

param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], end=20000)]
train_cfg = dict(max_iters=20000, val_interval=2000)
default_hooks = dict(checkpoint=dict(interval=2000))
auto_scale_lr = dict(base_batch_size=8)
