import numpy as np
import torch
from mmengine.dataset import default_collate
from mmpretrain.registry import MODELS, TRANSFORMS

from coma_mm.datasets import PackMaskedImage


def test_a_batch_has_one_tensor_of_each_list_of_units():
    pack = TRANSFORMS.build(dict(type='coma_mm.PackMaskedImage'))
    assert isinstance(pack, PackMaskedImage)
    rng = np.random.default_rng(0)
    items = [
        dict(
            img=rng.integers(256, size=(32, 48, 3), dtype=np.uint8),
            mask=rng.permutation(6).reshape(2, 3) < 4,
            img_path=f'{i}.jpg',
        )
        for i in range(4)
    ]
    items[1]['img'] = items[1]['img'][:, ::-1]  # what a flip leaves
    batch = default_collate([pack(dict(item, other=1)) for item in items])
    assert batch['inputs'].dtype == torch.uint8 and batch['data_samples']['ids_mask'].shape == (4, 4)

    preprocessor = MODELS.build(
        dict(type='mmpretrain.SelfSupDataPreprocessor', mean=[1, 2, 3], std=[2, 2, 2], non_blocking=True)
    )
    data = preprocessor(batch, training=True)
    for i, item in enumerate(items):
        expected = (item['img'].astype(np.float32) - (1, 2, 3)) / 2
        assert np.allclose(data['inputs'][i].permute(1, 2, 0), expected)
        for name, hidden in (('ids_keep', False), ('ids_mask', True)):
            assert np.array_equal(data['data_samples'][name][i], np.flatnonzero(item['mask'] == hidden))
    assert data['data_samples']['img_path'] == ['0.jpg', '1.jpg', '2.jpg', '3.jpg']


def test_images_without_a_file():
    packed = PackMaskedImage()(dict(img=np.zeros((8, 8, 3), np.uint8), mask=np.zeros((1, 1), bool)))
    assert list(packed['data_samples']) == ['ids_keep', 'ids_mask'] and packed['inputs'].shape == (3, 8, 8)
