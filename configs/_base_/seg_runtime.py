"""The runtime of segmentation: mmseg's scope, logging and checkpoints by iterations, pictures, flips and scales."""

_base_ = 'default_runtime.py'

default_scope = 'mmseg'
default_hooks = dict(
    logger=dict(interval=50, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=16000, max_keep_ckpts=2, save_best='mIoU'),
    visualization=dict(type='SegVisualizationHook'),
)
custom_hooks = [dict(type='coma_mm.StopOnNaNHook', interval=50)]
env_cfg = dict(cudnn_benchmark=True)
visualizer = dict(type='SegLocalVisualizer')
log_processor = dict(by_epoch=False)
tta_model = dict(type='SegTTAModel')
