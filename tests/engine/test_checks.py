"""Numbers of channels that do not match are found before the first image, and the advice works when followed."""

import re

import pytest
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, DefaultScope

from coma_mm.engine.checks.channels import check_channels

MAPS, TINY, RESNET = [32, 64, 128, 256], [64, 128, 256, 512], [256, 512, 1024, 2048]
UPPER = 'model.neck.in_channels=[64,128,256]'


def check(scope, model):
    with DefaultScope.overwrite_default_scope(scope):
        check_channels(MODELS.build(model))


def dyvit(*out_indices):
    return dict(type='coma_mm.DyViT', arch='pico', out_indices=list(out_indices))


def classifier(channels, neck=True):
    model = dict(
        type='ImageClassifier',
        backbone=dyvit(3),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=channels),
    )
    return 'mmpretrain', model | (dict(neck=dict(type='GlobalAveragePooling')) if neck else {})


def projected(channels, head):
    neck = [dict(type='GlobalAveragePooling'), dict(type='LinearNeck', in_channels=channels, out_channels=16)]
    head = dict(type='LinearClsHead', num_classes=2, in_channels=head)
    return 'mmpretrain', dict(type='ImageClassifier', backbone=dyvit(3), neck=neck, head=head)


def retriever(channels, *pooling):
    head = dict(type='ArcFaceClsHead', num_classes=2, in_channels=channels)
    return 'mmpretrain', dict(
        type='ImageToImageRetriever', image_encoder=[dyvit(3), *pooling], head=head, prototype='none'
    )


def segmentor(channels=MAPS, aux=128, backbone=None, neck=None, aux_index=2):
    common = dict(num_classes=3, channels=8)
    return 'mmseg', dict(
        type='EncoderDecoder',
        backbone=backbone or dyvit(0, 1, 2, 3),
        neck=neck,
        decode_head=dict(type='UPerHead', in_channels=channels, in_index=[0, 1, 2, 3], **common),
        auxiliary_head=[dict(type='FCNHead', in_channels=aux, in_index=aux_index, **common)],
    )


def side_by_side(*channels):
    head = dict(input_transform='resize_concat', in_index=(0, 1, 2, 3), num_classes=3, channels=8)
    heads = [dict(type='FCNHead', in_channels=list(some), **head) for some in channels]
    return 'mmseg', dict(type='CascadeEncoderDecoder', num_stages=2, backbone=dyvit(0, 1, 2, 3), decode_head=heads)


def iterative(channels):
    kernels = dict(type='FCNHead', in_channels=channels, in_index=3, num_classes=3, channels=8)
    updator = dict(type='KernelUpdator', in_channels=8, feat_channels=8, out_channels=8)
    update = dict(type='KernelUpdateHead', num_classes=3, in_channels=8, out_channels=8, kernel_updator_cfg=updator)
    head = dict(type='IterativeDecodeHead', num_stages=1, kernel_generate_head=kernels, kernel_update_head=[update])
    return 'mmseg', dict(type='EncoderDecoder', backbone=dyvit(0, 1, 2, 3), decode_head=head)


def detector(channels, backbone=None, kind='FPN', **neck):
    neck = dict(type=kind, in_channels=channels, out_channels=32, **neck)
    if kind == 'FPN':
        neck = dict(num_outs=5) | neck
    head = dict(type='FCOSHead', num_classes=2, in_channels=32, feat_channels=32)
    return 'mmdet', dict(type='FCOS', backbone=backbone or dyvit(0, 1, 2, 3), neck=neck, bbox_head=head)


def dilated(channels):
    blocks = dict(block_mid_channels=8, num_residual_blocks=1, block_dilations=[2])
    return detector(channels, dyvit(3), 'DilatedEncoder', **blocks)


def listed(channels):
    scope, model = detector(channels)
    dyhead = dict(type='DyHead', in_channels=32, out_channels=32, num_blocks=1)
    return scope, model | dict(neck=[model['neck'], dyhead])


def student(channels):
    return 'mmdet', dict(type='SoftTeacher', detector=detector(channels)[1], semi_train_cfg=dict(freeze_teacher=True))


def test_matching_channels_pass():
    pyramid = dict(type='FPN', in_channels=MAPS, out_channels=16, num_outs=4)
    for model in (
        classifier(256),
        projected(256, 16),
        retriever(256, dict(type='GlobalAveragePooling')),
        segmentor(),
        segmentor([16] * 4, aux=16, neck=pyramid),
        side_by_side(MAPS, MAPS),
        iterative(256),
        detector(MAPS),
        detector(RESNET, dict(type='ResNet', depth=50)),  # does not say what it returns
        detector(MAPS[1:], dyvit(1, 2, 3), 'ChannelMapper'),
        dilated(256),
        listed(MAPS),
        student(MAPS),
    ):
        check(*model)


@pytest.mark.parametrize(
    ('model', 'advice'),
    [
        (classifier(512), 'model.head.in_channels=256'),
        (classifier(256, neck=False), 'model.neck.type=GlobalAveragePooling'),
        (projected(512, 16), 'model.neck.1.in_channels=256'),
        (retriever(512, dict(type='GlobalAveragePooling')), 'model.head.in_channels=256'),
        (segmentor(TINY), 'model.decode_head.in_channels=[32,64,128,256]'),
        (segmentor(aux=64), 'model.auxiliary_head.0.in_channels=128'),
        (segmentor(backbone=dyvit(3)), 'model.backbone.out_indices=[0,1,2,3]'),
        (side_by_side(MAPS, [18, 36, 72, 144]), 'model.decode_head.1.in_channels=[32,64,128,256]'),
        (iterative(2048), 'model.decode_head.kernel_generate_head.in_channels=256'),
        (detector(TINY), 'model.neck.in_channels=[32,64,128,256]'),
        (listed(TINY), 'model.neck.0.in_channels=[32,64,128,256]'),
        (student(TINY), 'model.detector.neck.in_channels=[32,64,128,256]'),
        (dilated(2048), 'model.neck.in_channels=256'),
        # As many maps as the neck reads.
        (detector(RESNET[1:], kind='ChannelMapper'), f'{UPPER} model.backbone.out_indices=[1,2,3]'),
        (detector(RESNET, start_level=1), f'{UPPER} model.backbone.out_indices=[1,2,3] model.neck.start_level=0'),
        (detector(RESNET, dyvit(1, 2, 3), start_level=1), f'{UPPER} model.neck.start_level=0'),
        (detector(RESNET, dyvit(3)), 'model.backbone.out_indices=[0,1,2,3]'),
        (detector(RESNET, dyvit(3), start_level=1), 'model.backbone.out_indices=[1,2,3]'),
    ],
)
def test_others_are_an_error_with_the_settings_to_write(model, advice):
    scope, model = model
    config = Config(dict(model=model))
    for _ in range(2):  # where maps are missing, the second error has their channels
        with pytest.raises(ValueError) as error:
            check(scope, config.model)
        given = re.search('; set (.*)', str(error.value))[1]
        assert advice in (given, None)
        advice = None
        options = (part.split('=') for part in given.split())
        config.merge_from_dict({key: DictAction._parse_iterable(value) for key, value in options})
        try:
            return check(scope, config.model)
        except ValueError:
            continue
    raise AssertionError('following the advice does not help')


def test_a_retriever_that_does_not_pool():
    scope, model = retriever(256)
    with pytest.raises(ValueError, match='append .*GlobalAveragePooling.* to the list image_encoder'):
        check(scope, model)
