"""Question 6: do weights from unlabelled photos help segmentation and detection, and those of copy more than of off?

    tools/lab/study.py transfer --data FOLDER

Cells: pre-training with off and with copy. Then, from each and from scratch: UperNet on CamVid with 5, 20 and 100 % of
its labels, and Mask R-CNN on a few photos of COCO.
Data: FOLDER/photos/{train,val}/**, any photos; FOLDER/camvid11/{images,labels}/{train,val}; FOLDER/coco_mini/{train,
val,annotations}. Links to folders will do. Hardware: 2 CPU cores, 28 cells of ten minutes to half an hour
"""

data = 'COMA_MM_PHOTOS'
config = '_base_/coma_dyvit-p_photos128.py'
upernet = '_base_/upernet_dyvit-p_camvid.py'
mask_rcnn = '_base_/mask-rcnn_dyvit-p_coco-mini.py'
validated = dict(validation=dict())
smallest = dict(_delete_=True, dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), heads=(4, 8, 4, 4))
smoke_seg = {
    'model.backbone.arch': smallest,
    'model.decode_head.in_channels': [16, 32, 48, 64],
    'model.auxiliary_head.in_channels': 48,
    'train_dataloader.batch_size': 2,
    'train_dataloader.dataset.indices': None,
    'train_cfg.max_iters': 2,
    'param_scheduler': None,
}
smoke_det = {
    'model.backbone.arch': smallest,
    'model.neck.in_channels': [16, 32, 48, 64],
    'train_dataloader.batch_size': 2,
    'train_cfg.max_epochs': 1,
    'param_scheduler': None,
}
starts = dict(scratch=None, off='pretrain_off', copy='pretrain_copy')
cells = dict(
    pretrain_off=dict(options={'model.evaluation.mode': 'off'}),
    pretrain_copy=dict(),
    **{
        f'camvid{percent}_{name}': dict(
            config=upernet,
            start=start,
            options={'train_dataloader.dataset.indices': indices} if indices else {},
            measures=validated,
            smoke=smoke_seg,
        )
        for percent, indices in ((5, list(range(0, 367, 20))), (20, list(range(0, 367, 5))), (100, None))
        for name, start in starts.items()
    },
    **{
        f'coco_{name}': dict(config=mask_rcnn, start=start, measures=validated, smoke=smoke_det)
        for name, start in starts.items()
    },
)
measures = dict(reconstruction=dict(images=200))
sizes = dict(
    smoke=dict(
        seeds=[0],
        epochs=2,
        options={
            'model.backbone.arch': smallest,
            'model.decoder': dict(dim=32, depth=1),
            'train_dataloader.batch_size': 2,
        },
        cells=['pretrain_copy', 'camvid100_copy', 'coco_copy'],
    ),
    cpu=dict(seeds=[0, 1], epochs=100),
    gpu=dict(
        seeds=[0, 1, 2],
        epochs=1000,
        options={'train_dataloader': dict(batch_size=256, num_workers=8, persistent_workers=True)},
    ),
)
report = dict(
    qualities=dict(
        loss='loss',
        psnr='PSNR (dB)',
        mIoU='mIoU (%)',
        aAcc='pixels right (%)',
        bbox_mAP='box AP',
        segm_mAP='mask AP',
        last_training_loss='last training loss',
    ),
    plots=[dict(x=['images', 'gflops', 'seconds'], y='loss')],
)
