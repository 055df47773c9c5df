"""Write a config for coma-mm train: a detector or a segmentor that starts from pre-trained weights."""

from argparse import Namespace
from pathlib import Path

from ..utils import ranges
from ..utils.paths import quoted_path
from ..utils.text import printable
from . import types
from .outputs import add_force, check_output
from .parser import ArgumentParser
from .streams import announce


def make_parser() -> ArgumentParser:
    """Return the parser of the options."""
    parser = ArgumentParser(
        prog='coma-mm config',
        description=__doc__,
        epilog='det: Mask R-CNN of mmdet, or Faster R-CNN if annotations are only boxes. seg: UperNet of mmseg. Patch '
        'size, channels, mean and deviation come from the weights, classes from the data. docs/detection.md and '
        'docs/segmentation.md have an example of each.',
    )
    parser.add_argument('task', choices=('det', 'seg'), help='det: a detector; seg: a segmentor')
    parser.add_argument(
        'weights',
        type=types.weights,
        help='folder of a run, a file of weights that states its architecture, or an address',
    )
    parser.add_argument(
        '--data',
        required=True,
        type=types.path,
        help='det: a COCO file (.json); seg: a folder with images and masks (or labels, annotations), with train and '
        'val in both or in neither',
    )
    parser.add_argument('--out', required=True, type=types.output_path('.py'), help='the config to write')
    parser.add_argument(
        '--val', type=types.file, help='det: a COCO file to validate with (default: a fifth of the images)'
    )
    parser.add_argument(
        '--images', type=types.folder, help='det: folder of the images (default: looked for around the file)'
    )
    parser.add_argument('--val-images', type=types.folder, help='det: folder of the images of --val')
    parser.add_argument(
        '--classes',
        nargs='+',
        type=types.text,
        metavar='NAME',
        help='seg: names of the classes 0, 1, ... (default: classes.txt in the folder)',
    )
    parser.add_argument(
        '--size',
        type=types.image_size,
        help='det: short side of the images in pixels; seg: side of the crops (default: from the patch size)',
    )
    parser.add_argument('--batch-size', type=types.batch_size, help='images in a step (default: det 2, seg 8)')
    parser.add_argument(
        '--epochs',
        type=types.whole(1, ranges.EPOCHS.high),
        help='passes over the images (default: from the number of images)',
    )
    add_force(parser)
    return parser


def parse_args() -> Namespace:
    """Parse the options and check them together; imports nothing that takes time."""
    parser = make_parser()
    args = parser.parse_args()
    wrong = ('classes',) if args.task == 'det' else ('val', 'images', 'val_images')
    if given := [f'--{name.replace("_", "-")}' for name in wrong if getattr(args, name)]:
        parser.error(f'{args.task} takes no {", ".join(given)}')
    if args.task == 'seg' and args.batch_size == 1:
        parser.error('argument --batch-size: must be 2 or more, for the batch norm of UperNet')
    args.data = parser.read(types.file if args.task == 'det' else types.folder, args.data, 'argument --data: {}')
    files = [args.data, args.val, args.weights]
    out = Path(args.out)
    ending = 'json' if args.task == 'det' else 'txt'
    names = () if args.val else (f'_train.{ending}', f'_val.{ending}')  # of the parts of what is not divided yet
    for place in (out, *(out.with_name(out.stem + name) for name in names)):
        check_output(place, '--out', files, args.force)
    return args


def main() -> None:
    """Write the config."""
    args = parse_args()
    announce(f'reading {args.data}')
    from mmengine.logging import MMLogger

    from ..configuring import Options, configure_detector, configure_segmentor, open_backbone
    from ..datasets.coco_file import read_coco
    from ..datasets.mask_folder import read_masks

    MMLogger.get_current_instance().setLevel('WARNING')
    options = Options(Path(args.out), args.size, args.batch_size, args.epochs)
    if args.task == 'seg':
        data = read_masks(args.data, args.classes)
        what = configure_segmentor(open_backbone(args.weights), data, options)
    else:
        train = read_coco(args.data, args.images)
        val = None if args.val is None else read_coco(args.val, args.val_images)
        if val is not None and val.classes != train.classes:
            raise ValueError(f'{args.val} has other categories than {args.data}, or in another order')
        if train.unmasked and train.unmasked < len(train.content['annotations']):
            print(f'{train.unmasked} of {len(train.content["annotations"])} annotations have no mask, so none is used')
        what = configure_detector(open_backbone(args.weights), train, val, options)
    print(printable(f'{args.out}: {what}'))
    folder = quoted_path(Path('work_dirs', options.out.stem))
    print(printable(f'next: coma-mm train {quoted_path(args.out)} --work-dir {folder}'))
