"""Write the backbone of any checkpoint: its weights (.pth, .safetensors), a graph (.onnx, .pt2), or a hub folder."""

import os
import re
from argparse import Namespace
from pathlib import Path

from ..export import GRAPHS, WEIGHTS
from ..utils.files import require_new
from . import types
from .outputs import add_force, check_output
from .parser import ArgumentParser


def parse_args() -> Namespace:
    """Parse the options."""
    parser = ArgumentParser(
        description=__doc__,
        epilog='.pth and .safetensors are loaded by init_cfg=dict(type="coma_mm.Pretrained", checkpoint=OUT), by '
        'coma_mm.load_backbone(OUT), or in plain PyTorch by '
        'DyViT(arch).load_state_dict(torch.load(OUT, weights_only=True)["state_dict"]). More: docs/export.md.',
    )
    parser.add_argument(
        'checkpoint',
        type=types.init_weights,
        help='folder of a run, or a checkpoint of pre-training or of any model with a backbone',
    )
    parser.add_argument(
        'out',
        nargs='?',
        type=types.output_file(*WEIGHTS, *GRAPHS),
        help=f'a name that ends in {", ".join(WEIGHTS)}, {" or ".join(GRAPHS)}',
    )
    parser.add_argument(
        '--config', type=types.config, help='config of the backbone, if the checkpoint does not state its backbone'
    )
    parser.add_argument('--prefix', help="prefix of the backbone's names (default: found in the checkpoint)")
    _add_groups(parser)
    add_force(parser)
    args = parser.parse_args()
    _check(parser, args)
    return args


def _add_groups(parser: ArgumentParser) -> None:
    graphs = parser.add_argument_group('for .onnx and .pt2')
    size = graphs.add_mutually_exclusive_group()
    size.add_argument(
        '--size',
        type=types.image_size,
        nargs=2,
        metavar=('H', 'W'),
        help="size of the images in pixels (default: the backbone's img_size, or 224)",
    )
    size.add_argument('--dynamic', action='store_true', help='images of any size')
    graphs.add_argument(
        '--out-indices',
        type=types.whole(0, 1000),
        nargs='+',
        metavar='I',
        help='stages whose maps are returned (default: those of the checkpoint)',
    )
    graphs.add_argument(
        '--head', action='store_true', help='for a classifier, e.g. of coma-mm finetune: scores in place of maps'
    )
    hub = parser.add_argument_group('for the hub')
    hub.add_argument(
        '--hub-dir',
        type=types.output_folder,
        metavar='DIR',
        help='a new folder: config.json, model.safetensors and a model card',
    )
    hub.add_argument(
        '--license',
        type=types.text,
        default='unknown',
        metavar='ID',
        help="licence of the weights, in the hub's terms: apache-2.0, ... (default: unknown)",
    )


def _check(parser: ArgumentParser, args: Namespace) -> None:
    if not args.out and not args.hub_dir:
        parser.error('say what to write: OUT, --hub-dir DIR or both')
    if args.out_indices and args.out_indices != sorted({*args.out_indices}):
        parser.error(f'argument --out-indices: must be different numbers in ascending order, got {args.out_indices}')
    if (args.size or args.dynamic or args.out_indices or args.head) and not (args.out or '').endswith(GRAPHS):
        parser.error('--size, --dynamic, --out-indices and --head are for .onnx and .pt2')
    if args.head and args.out_indices:
        parser.error('--head takes the last map: leave --out-indices out')
    if not re.fullmatch(r'[a-z0-9][a-z0-9.-]*', args.license):
        parser.error(f"--license takes the hub's name of a licence, such as apache-2.0, not {args.license!r}")
    if args.hub_dir:
        hub = Path(args.hub_dir).absolute()
        if not hub.parent.is_dir():
            parser.error(f'there is no folder {Path(args.hub_dir).parent}')
        require_new(hub)
        if args.out and (hub := Path(os.path.realpath(hub))) in (out := Path(os.path.realpath(args.out)), *out.parents):
            parser.error('OUT is, or lies in, --hub-dir, which is made as a whole: name another place')
    if args.out:
        check_output(args.out, 'OUT', [args.checkpoint, args.config], args.force)


def main() -> None:
    """Export."""
    args = parse_args()
    from ..checkpoints.finding import find_weights
    from ..export.weights import export
    from ..finetuning import CLASSIFIER

    best = Path(args.checkpoint, CLASSIFIER)
    source = str(best) if best.is_file() else find_weights(args.checkpoint)
    if args.out:
        check_output(args.out, 'OUT', [source], args.force)  # of a folder the file is known now
    graph = dict(size=args.size, dynamic=args.dynamic, out_indices=args.out_indices, head=args.head)
    export(source, args.out, args.config, args.prefix, hub_dir=args.hub_dir, licence=args.license, **graph)
