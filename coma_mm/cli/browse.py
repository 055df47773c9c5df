"""Draw random training images as the training pipeline delivers them, with their masks."""

from ..utils.text import printable
from . import types
from .outputs import add_force, check_output, find_files, find_roots
from .parser import ArgumentParser, add_max_pixels, add_overrides


def main() -> None:
    """Draw."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('config', type=types.config, help='a config of mmpretrain, mmdet or mmseg')
    parser.add_argument('--out', type=types.picture, default='browse.png', help='the picture (default: %(default)s)')
    parser.add_argument('--max-images', type=types.rows, default=8, help='rows of the picture (default: %(default)s)')
    parser.add_argument('--seed', type=types.seed, default=0, help='seed of the draw (default: %(default)s)')
    add_max_pixels(parser)
    add_overrides(parser)
    add_force(parser)
    args = parser.parse_args()
    from mmengine.registry import DATASETS, init_default_scope

    from ..engine.checks.data import explain_data
    from ..engine.common import find_steps, import_toolbox, read_loading, read_normalisation
    from ..engine.hooks.pictures import draw_items, name_of
    from ..engine.runner.config_files import read_config
    from ..visualization.figures import ImageGrid, shorten
    from ..visualization.reconstruction import make_columns

    cfg = read_config(args.config, args.cfg_options)
    roots = find_roots(cfg.get('train_dataloader'))
    files = find_files(cfg.get('train_dataloader'), ['', *roots])
    check_output(args.out, '--out', [args.config, *roots, *files], args.force)
    if not cfg.get('train_dataloader'):
        raise ValueError(f'{args.config} has no train_dataloader, so there is nothing that training would see')
    if args.max_pixels is not None:
        for step in find_steps(cfg.train_dataloader):
            step['max_pixels'] = args.max_pixels
    import_toolbox(cfg.get('default_scope'))
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    with explain_data('train_dataloader'):
        items = draw_items(DATASETS.build(cfg.train_dataloader.dataset), args.max_images, args.seed)
    preprocessor = (cfg.get('model') or {}).get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    is_bgr = read_normalisation(preprocessor, str(cfg.train_dataloader))['channel_order'] == 'BGR'
    columns = make_columns(items, is_bgr, read_loading(cfg))
    grid = ImageGrid(columns, [shorten(name_of(item, i)) for i, item in enumerate(items, 1)])
    grid.finish(args.out)
    print(f'{len(items)} of the training images, as the model gets them; written to {printable(args.out)}')
