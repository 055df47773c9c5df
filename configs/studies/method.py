"""Question 1: which evaluation branch pays, at equal images and at equal GFLOPs, and does any beat random weights?

    tools/lab/study.py method --jobs 2 --data FILE

Data: CIFAR-10 (an .npz of JPEG bytes, or the folder of cifar-10-batches-py), or a folder {train,test}/<class>/*
Hardware: 2 CPU cores, 50 cells of a quarter of an hour to two hours; --size gpu: 1 GPU.
Results: docs/evidence.md
"""

data = 'COMA_MM_CIFAR10'
config = '../_base_/coma_dyvit-p_cifar10.py'
off = {'model.evaluation.mode': 'off'}
align = {'model.evaluation': dict(mode='align', weight=1.0), 'model.predict_visible': 1.0, 'model.keep_apart': 1.0}
hide_75 = {'train_dataloader.dataset.pipeline.2.ratio': 0.75}
crop = {**align, 'model.type': 'coma_mm.CroppedCoMA'}
# the weights that come along
weights = dict(type='coma_mm.Pretrained', checkpoint='coma_mm://dyvit-p_cifar10')
teacher = dict(type='coma_mm.DyViT', arch='pico', img_size=32, patch_size=1, init_cfg=weights)
frozen = dict(mode='frozen', encoder=teacher)
taught = {'model.evaluation': frozen, 'model.keep_apart': 3.0}
apart75 = {**off, **hide_75, 'model.keep_apart': 0.3}
cells = dict(
    off=dict(options=off),
    copy=dict(),
    # ten passes
    longest=dict(options=off, length=6.25, seeds=[0, 1]),
    # as many GFLOPs as longest
    mae75_longest=dict(options={**off, **hide_75}, length=8.75, seeds=[0, 1]),
    align75_longest=dict(options={**align, **hide_75}, length=4.6875, seeds=[0, 1]),
    # sixty: the weights that are shipped
    shipped=dict(config='../pretrain/mae_dyvit-p_cifar10.py', seeds=[0], smoke={'train_cfg.max_epochs': 2}),
    # as many GFLOPs as shipped
    align75_shipped=dict(options={**align, **hide_75}, length=19.9375, seeds=[0]),
    # as many GFLOPs as copy
    off_long=dict(options=off, length=1.56),
    # the default of coma-mm pretrain beyond a million images, at nearly as many GFLOPs as copy
    align=dict(options=align),
    # runs from random weights; operations of the teacher's training come on top
    taught=dict(options=taught, length=0.875),
    taught_1=dict(options={'model.evaluation': dict(weight=1.0, **frozen)}, length=0.875),
    # as many GFLOPs as longest, the teacher's aside
    taught_longest=dict(options=taught, length=3.375, seeds=[0, 1]),
    # as many as shipped: a network that teaches one of its own size
    taught_shipped=dict(options=taught, length=14.375, seeds=[0]),
    random=dict(length=0),
    mae75=dict(options={**off, **hide_75}),
    # as many GFLOPs as off_long
    mae75_long=dict(options={**off, **hide_75}, length=2.1875),
    # kept apart in the first tenth, as those that are taught
    apart75_long=dict(options=apart75, length=2.1875),
    apart75_longest=dict(options=apart75, length=8.75, seeds=[0, 1]),
    # what is hidden is most of the image: the branch sees it, the encoder learns from the rest
    align75=dict(options={**align, **hide_75}, length=1.125),
    ema=dict(options={'model.evaluation': dict(mode='ema', momentum=0.004)}),
    # ways for the branch to teach, of tools/lab/studies/branches.py
    uniform=dict(options={'model.type': 'coma_mm.UniformCoMA', **off}),
    uniform_long=dict(options={'model.type': 'coma_mm.UniformCoMA', **off}, length=1.56),
    which=dict(options={'model.type': 'coma_mm.ContrastCoMA', **off}),
    align_crop=dict(options=crop),
    align_crop75=dict(options={**crop, **hide_75}, length=1.125),
    align_crop5=dict(options={**crop, 'model.evaluation': dict(mode='align', weight=5.0)}),
    cae=dict(options={'model.type': 'coma_mm.LatentCoMA', **off}),
)
first = ('off', 'copy', 'longest')
# of the curves: they end as one that is drawn, or did not pay
omit = (
    'random shipped taught_shipped off mae75 taught_1 uniform uniform_long which align_crop align_crop75 align_crop5 '
    'cae joint frozen'
).split()
finetune = '_base_/finetune_cifar10.py'
half_tested = {'val_dataloader.dataset.fraction': 0.5}
measures = dict(
    reconstruction=dict(),
    features=dict(),
    finetune_1=dict(config=finetune, percent=1, epochs=30),
    finetune_10=dict(config=finetune, percent=10, epochs=6),
)
extra = dict(finetune_100=dict(config=finetune, percent=100, epochs=4))  # with --extra
sizes = dict(
    smoke=dict(
        seeds=[0],
        epochs=2,
        options={
            'model.backbone.arch': dict(_delete_=True, dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), heads=(4, 8, 4, 4)),
            'model.decoder': dict(dim=32, depth=1),
            'train_dataloader': dict(batch_size=16, sampler=dict(parts=1)),
        },
        measures=dict(reconstruction=dict(images=32), finetune_1=dict(epochs=2), finetune_10=dict(epochs=2)),
    ),
    cpu=dict(
        seeds=[0, 1],
        epochs=16,  # of a tenth of the images each: 1.6 passes
        measures=dict(
            features=dict(labels=10000, queries=5000),
            finetune_1=dict(epochs=16, options=half_tested),
            finetune_10=dict(epochs=2, options=half_tested),
            finetune_100=dict(epochs=1, options=half_tested),
        ),
    ),
    gpu=dict(
        seeds=[0, 1, 2],
        cells=[name for name in cells if name != 'shipped'],
        epochs=80,  # passes: ten times as many images
        options={
            'model.backbone.arch': 'tiny',
            'model.compile': True,
            'train_dataloader': dict(
                batch_size=1024, num_workers=8, persistent_workers=True, sampler=dict(parts=1), pin_memory=True
            ),
            'optim_wrapper.optimizer.lr': 2e-3,  # for 16 times the batch
        },
    ),
)
report = dict(
    qualities=dict(
        loss='loss',
        psnr='PSNR (dB)',
        knn='kNN (%)',
        probe='linear probe (%)',
        probe_positions='probe of positions (%)',
        finetune_1='1 % of labels (%)',
        finetune_10='10 % of labels (%)',
        finetune_100='all labels (%)',
        rankme='RankMe',
    ),
    reach=dict(reference='off', quality='loss'),
    plots=[
        dict(x=['images', 'gflops'], y='loss', xscale='log', omit=omit),
        dict(x='images', y=['loss', 'rankme'], xscale='log', only=['shipped', 'taught_shipped']),
    ],
    bars=dict(
        qualities=['probe', 'finetune_10'],
        cells=dict(
            taught='with a teacher (default of --arch)',
            align='align (default beyond a million images)',
            align75='align, 75 % hidden',
            mae75_long='off, 75 % hidden',
            off_long='off',
            ema='ema',
            copy='copy (paper)',
            joint='both branches trained, 1.6 times the GFLOPs',
            random='random weights',
        ),
    ),
)
