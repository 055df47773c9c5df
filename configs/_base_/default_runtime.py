"""The runtime of all recipes: mmpretrain's scope (our own types carry the prefix coma_mm), logging, checkpoints."""

default_scope = 'mmpretrain'
default_hooks = dict(
    runtime_info=dict(type='coma_mm.DeferredRuntimeInfoHook'),  # no wait for the GPU in each step
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=10, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
custom_hooks = [
    dict(type='coma_mm.EpochSeedHook'),  # a resumed run draws what an uninterrupted one would have
    dict(type='coma_mm.StopOnNaNHook', interval=100),
]
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='mmengine.Visualizer', vis_backends=vis_backends)
log_processor = dict(by_epoch=True)
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0, diff_rank_seed=True)  # every rank draws masks and crops of its own
