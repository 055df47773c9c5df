"""A data set in COCO's layout, of noise: three photos of different shape, the last one without annotations."""

import json

from mmdet.datasets import CocoDataset
from noise import write_noise

SIZES = ((107, 160), (120, 140), (90, 150))  # height, width


def write_coco(root, parts=('train2017', 'val2017'), images=True, empty=(2,)):
    """Write images and annotations below ``root``; ``empty`` are the numbers of photos without annotations."""
    categories = [dict(id=number, name=name) for number, name in enumerate(CocoDataset.METAINFO['classes'])]
    (root / 'annotations').mkdir(parents=True)
    for part in parts:
        (root / part).mkdir()
        content = dict(images=[], annotations=[], categories=categories)
        for number, (height, width) in enumerate(SIZES):
            name = f'{number}.jpg'
            content['images'].append(dict(id=number, file_name=name, height=height, width=width))
            if images:
                write_noise(root / part / name, (height, width), seed=number)
            if number in empty:
                continue
            for category, (x, y, w, h) in ((0, (8, 8, 60, 70)), (16, (60, 20, 50, 40))):
                content['annotations'].append(
                    dict(
                        id=1 + len(content['annotations']),
                        image_id=number,
                        category_id=category,
                        iscrowd=0,
                        bbox=[x, y, w, h],
                        area=w * h,
                        segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                    )
                )
        (root / 'annotations' / f'instances_{part}.json').write_text(json.dumps(content))
