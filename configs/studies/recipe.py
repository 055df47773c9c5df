"""Question 10: which recipe should `coma-mm pretrain` have? Methods and settings, on folders of labelled photos.

    tools/lab/study.py recipe --folder NAME=FOLDER --folder NAME=FOLDER --jobs 2

Each cell is run on each folder, as align@NAME, for example. Later calls remember the folders. The study measures probes
with few labels, RankMe and the loss on held-out photos, during the whole run. `random` adds a probe of 8 x 8 pixels.
Data: FOLDER/CLASS/**, or FOLDER/{train,val}/CLASS/**. Hardware: 2 CPU cores, a quarter of an hour a cell
"""

config = '_base_/mae_dyvit-p_folder64.py'
folders = ('train_dataloader.dataset.data_root', 'held_out.data_root', 'labelled.data_root')
rate = 'optim_wrapper.optimizer.lr'
decay = 'optim_wrapper.optimizer.weight_decay'
align = {'model.evaluation': dict(mode='align', weight=1.0), 'model.predict_visible': 1.0, 'model.keep_apart': 1.0}
hide_75 = {'train_dataloader.dataset.pipeline.2.ratio': 0.75}
crop = {**align, 'model.type': 'coma_mm.CroppedCoMA'}  # of tools/lab/studies/branches.py
# the weights that come along, which see the photos at 32 px
weights = dict(type='coma_mm.Pretrained', checkpoint='coma_mm://dyvit-p_cifar10')
teacher = dict(type='coma_mm.DyViT', arch='pico', img_size=32, patch_size=1, init_cfg=weights)
frozen = dict(mode='frozen', encoder=teacher)
taught = {'model.evaluation': frozen, 'model.keep_apart': 3.0}
second = dict(type='coma_mm.Pretrained', checkpoint='coma_mm://dyvit-p_cifar10_taught')
short = {'train_cfg.max_iters': 352}
resized = dict(from_patch_size=1, **second)
own = {'model.evaluation.encoder.init_cfg': second}
start = {'model.backbone.init_cfg': resized, 'model.decoder.init_cfg': dict(prefix='decoder.', **resized)}
cells = dict(
    random=dict(length=0, measures=dict(few=dict(pixels=8))),
    mae=dict(),
    align=dict(options=align),
    visible=dict(options={'model.predict_visible': 1.0}),
    # as many GFLOPs as align
    mae_long=dict(options={'train_cfg.max_iters': 643}),
    mae75_long=dict(options={**hide_75, 'train_cfg.max_iters': 900}),
    align75=dict(options={**align, **hide_75, 'train_cfg.max_iters': 480}),
    apart75=dict(options={**hide_75, 'model.keep_apart': 0.3, 'train_cfg.max_iters': 900}),
    taught=dict(options={**taught, **short}),
    taught_second=dict(options={**taught, **short, **own}),
    taught75=dict(options={**taught, **hide_75}),
    # not kept apart in the first tenth
    taught_10=dict(options={**short, 'model.evaluation': frozen}),
    taught_1=dict(options={**short, 'model.evaluation': dict(weight=1.0, **frozen)}),
    taught_30=dict(options={**short, 'model.evaluation': dict(weight=30.0, **frozen)}),
    # settings, beside a teacher
    taught_lr_half=dict(options={**taught, **short, rate: 5e-4}),
    taught_lr_2=dict(options={**taught, **short, rate: 2e-3}),
    taught_decay_0=dict(options={**taught, **short, decay: 0.0}),
    taught_decay_4=dict(options={**taught, **short, decay: 0.2}),
    taught_narrow=dict(options={**taught, **short, 'model.decoder.dim': 64}),
    taught_deep=dict(options={**taught, **short, 'model.decoder.depth': 4}),
    taught_crop=dict(options={**taught, **short, 'train_dataloader.dataset.pipeline.0.crop_ratio_range': (0.5, 1.0)}),
    # four and sixteen times as long, at equal GFLOPs
    taught_longer=dict(options={**taught, 'train_cfg.max_iters': 1408}),
    align75_longer=dict(options={**align, **hide_75, 'train_cfg.max_iters': 1920}),
    taught_longest=dict(options={**taught, 'train_cfg.max_iters': 5632}),
    apart75_longest=dict(options={**hide_75, 'model.keep_apart': 0.3, 'train_cfg.max_iters': 14400}),
    align75_longest=dict(options={**align, **hide_75, 'train_cfg.max_iters': 7680}),
    # from the weights that come along, for as many GFLOPs as these
    start=dict(options=start, length=0),
    start_longer=dict(options={**start, **hide_75, 'train_cfg.max_iters': 3600}),
    start_taught_longer=dict(options={**start, **taught, 'train_cfg.max_iters': 1408}),
    start_second_longer=dict(options={**start, **taught, 'train_cfg.max_iters': 1408, **own}),
    start_second_longest=dict(options={**start, **taught, 'train_cfg.max_iters': 5632, **own}),
    coma=dict(options={'model.evaluation.mode': 'copy'}),
    visible_half=dict(options={'model.predict_visible': 0.5}),
    align_quarter=dict(options={**align, 'model.evaluation': dict(mode='align', weight=0.25)}),
    align_5=dict(options={**align, 'model.evaluation': dict(mode='align', weight=5.0)}),
    align_crop=dict(options=crop),
    align_crop5=dict(options={**crop, 'model.evaluation': dict(mode='align', weight=5.0)}),
    align_crop75=dict(options={**crop, **hide_75, 'train_cfg.max_iters': 480}),
    align_lr2=dict(options={**align, rate: 2e-3}),
    align_hidden=dict(options={**align, 'model.predict_visible': 0.0}),
    lr_quarter=dict(options={rate: 2.5e-4}),
    lr_4=dict(options={rate: 4e-3}),
    warm_up_2=dict(options={'param_scheduler.0.end': 8, 'param_scheduler.1': dict(begin=8, T_max=412)}),
    warm_up_40=dict(options={'param_scheduler.0.end': 168, 'param_scheduler.1': dict(begin=168, T_max=252)}),
    # as many images, and the rate by the root of the batch
    batch_16=dict(options={'train_dataloader.batch_size': 16, 'train_cfg.max_iters': 1680, rate: 5e-4}),
    batch_256=dict(options={'train_dataloader.batch_size': 256, 'train_cfg.max_iters': 105, rate: 2e-3}),
    patch_1=dict(options={'model.backbone.patch_size': 1, 'train_dataloader.dataset.pipeline.2.unit_size': 8}),
    patch_4=dict(options={'model.backbone.patch_size': 4, 'train_dataloader.dataset.pipeline.2.unit_size': 32}),
    crop_half=dict(options={'train_dataloader.dataset.pipeline.0.crop_ratio_range': (0.5, 1.0)}),
    mae_2000=dict(options={'train_cfg.max_iters': 2000}),
    align_1400=dict(options={**align, 'train_cfg.max_iters': 1400}),  # as long as mae_2000 on a CPU
)
first = ('random', 'mae', 'align')
measures = dict(reconstruction=dict(images=1000), few=dict())
extra = dict(features=dict(labels=9000, queries=2000))  # with --extra
sizes = dict(
    smoke=dict(
        seeds=[0],
        cells=['random', 'align'],
        options={
            'model.backbone.arch': dict(_delete_=True, dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), heads=(4, 8, 4, 4)),
            'model.decoder': dict(dim=32, depth=1),
            'train_dataloader.batch_size': 4,
            'train_cfg.max_iters': 6,
        },
        measures=dict(few=dict(per_class=2, labels=40)),
    ),
    cpu=dict(seeds=[0, 1, 2]),
    gpu=dict(
        seeds=[0, 1, 2],
        options={
            'model.backbone.arch': 'tiny',
            'model.compile': True,
            'train_dataloader': dict(num_workers=8, persistent_workers=True),
        },
    ),
)
report = dict(
    qualities=dict(
        few='probe, few labels (%)',
        few_deviation='deviation over labels',
        few_pixels='probe of 8 x 8 pixels (%)',
        knn='kNN (%)',
        probe='probe, 9,000 labels (%)',
        rankme='RankMe',
        rankme_start='at the start',
        rankme_least='at the least',
        loss='loss',
    ),
    plots=[dict(x='images', y=['loss', 'rankme'], only=['mae', 'align', 'mae_long', 'mae75_long'])],
)
