"""Numbers of channels that do not match are found before the first image, with the numbers to write."""

import pytest
from mmengine.registry import MODELS, DefaultScope

from coma_mm.engine.channels import check_channels


def check(scope, **model):
    with DefaultScope.overwrite_default_scope(scope):
        check_channels(MODELS.build(model))


def dyvit(*out_indices):
    return dict(type='coma_mm.DyViT', arch='pico', out_indices=out_indices)


def classifier(channels):
    head = dict(type='LinearClsHead', num_classes=2, in_channels=channels)
    check('mmpretrain', type='ImageClassifier', backbone=dyvit(3), neck=dict(type='GlobalAveragePooling'), head=head)


def segmentor(channels=(32, 64, 128, 256), aux=128, backbone=None, neck=None, aux_index=2):
    common = dict(num_classes=2, channels=8)
    auxiliary = dict(type='FCNHead', in_channels=aux, in_index=aux_index, **common)
    check(
        'mmseg',
        type='EncoderDecoder',
        backbone=backbone or dyvit(0, 1, 2, 3),
        neck=neck,
        decode_head=dict(type='UPerHead', in_channels=channels, in_index=[0, 1, 2, 3], **common),
        auxiliary_head=[auxiliary],
    )


def detector(channels, backbone=None):
    neck = dict(type='FPN', in_channels=channels, out_channels=32, num_outs=5)
    head = dict(type='FCOSHead', num_classes=2, in_channels=32, feat_channels=32)
    check('mmdet', type='FCOS', backbone=backbone or dyvit(0, 1, 2, 3), neck=neck, bbox_head=head)


def test_matching_channels_pass():
    classifier(256)
    segmentor()
    detector([32, 64, 128, 256])
    detector([256, 512, 1024, 2048], dict(type='ResNet', depth=50))  # does not say what it returns
    pyramid = dict(type='FPN', in_channels=[32, 64, 128, 256], out_channels=16, num_outs=4)
    segmentor([16] * 4, aux=16, neck=pyramid)


@pytest.mark.parametrize(
    ('build', 'arguments', 'error'),
    [
        (classifier, [512], r'head.in_channels=512 does not fit .* set model.head.in_channels=256'),
        (segmentor, [(64, 128, 256, 512)], r'set model.decode_head.in_channels=\[32, 64, 128, 256\]'),
        (segmentor, [(32, 64, 128, 256), 64], r'set model.auxiliary_head\[0\].in_channels=128'),
        (segmentor, [(32, 64, 128, 256), 64, dyvit(3)], r'more maps than the 1 that .*out_indices=\(0,1,2,3\)'),
        (detector, [[64, 128, 256, 512]], r'set model.neck.in_channels=\[32, 64, 128, 256\]'),
        (detector, [[32, 64, 128, 256], dyvit(1, 2, 3)], r'set model.neck.in_channels=\[64, 128, 256\]'),
    ],
)
def test_others_are_an_error_with_the_numbers_to_write(build, arguments, error):
    with pytest.raises(ValueError, match=error):
        build(*arguments)
