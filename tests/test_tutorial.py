"""The notebook of the docs runs from start to end, in this process: it is plain Python, with no magic of Jupyter's."""

import json
import math
from pathlib import Path

from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

NOTEBOOK = Path(__file__).parents[1] / 'docs/tutorial.ipynb'
CELLS = json.loads(NOTEBOOK.read_text())['cells']


def test_cells_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MMLogger._instance_dict.clear()
    names = {}
    with DefaultScope.overwrite_default_scope('mmengine'):
        for number, cell in enumerate(CELLS):
            if cell['cell_type'] == 'code':
                source = ''.join(cell['source']).replace('steps = 100', 'steps = 4')
                exec(compile(source, f'{NOTEBOOK.name}, cell {number}', 'exec'), names)
    assert Path('tutorial/run/reconstruction.png').is_file() and Path('tutorial/features.png').is_file()
    assert names['same'] == len(names['pretrained']) > 100
    assert math.isfinite(names['losses']['loss'].item()) and 'loss_mask' in names['losses']


def test_no_outputs_are_stored():
    assert not any(cell.get('outputs') or cell.get('execution_count') for cell in CELLS)
