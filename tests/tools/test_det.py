"""A shipped detection config through the tools: train, validate, resume, test."""

import pickle
from pathlib import Path

from tiny_coco import write_coco

CONFIG = Path(__file__).parents[2] / 'configs/det/mask-rcnn_dyvit-t_fpn_1x_coco.py'
OPTIONS = [
    'model.backbone.init_cfg=None',
    'model.backbone.arch=pico',
    'model.neck.in_channels=[32,64,128,256]',
    'model.test_cfg.rcnn.score_thr=0.0',  # or weights as fresh as these find nothing
    'model.test_cfg.rcnn.max_per_img=5',
    'model.test_cfg.rpn.max_per_img=20',
    'model.train_cfg.rcnn.sampler.num=16',
    'train_dataloader.dataset.data_root=photos/',
    'train_dataloader.dataset.pipeline.2.scale=(160,96)',
    'train_cfg.max_epochs=1',
]
for name in ('train', 'val', 'test'):
    OPTIONS += [f'{name}_dataloader.num_workers=0', f'{name}_dataloader.persistent_workers=False']
for name in ('val', 'test'):
    OPTIONS += [
        f'{name}_dataloader.dataset.data_root=photos/',
        f'{name}_dataloader.dataset.pipeline.1.scale=(160,96)',
        f'{name}_evaluator.ann_file=photos/annotations/instances_val2017.json',
    ]


def test_train_validate_resume_test(perform, tmp_path):
    write_coco(tmp_path / 'photos')
    common = [CONFIG, '--work-dir', 'out', '--cfg-options', *OPTIONS]
    printed = perform(tmp_path, 'train.py', *common, '--amp')  # bf16 also where there is no GPU
    assert 'coco/bbox_mAP: ' in printed and 'coco/segm_mAP: ' in printed

    printed = perform(tmp_path, 'train.py', *common, 'train_cfg.max_epochs=2', '--resume')  # in two processes: test_seg
    assert 'resumed epoch: 1' in printed and 'Epoch(val) [2][3/3]' in printed and 'Epoch(val) [1]' not in printed

    common[1:1] = ['out/epoch_2.pth', '--out', 'predictions.pkl', '--show-dir', 'pictures']
    printed = perform(tmp_path, 'test.py', *common)
    assert 'coco/segm_mAP: ' in printed
    predictions = pickle.loads((tmp_path / 'predictions.pkl').read_bytes())
    found = predictions[0]['pred_instances']
    assert len(predictions) == 3 and len(found['bboxes']) == len(found['masks']) > 0
    assert sorted(path.name for path in (tmp_path / 'pictures').iterdir()) == ['0.jpg', '1.jpg', '2.jpg']
