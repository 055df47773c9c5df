"""The site of `make docs`: README, the pages of docs/ as they are, the notebook, and the API from the docstrings.

The source folder is that of the repository, so that links between README, docs and code hold on the site too: what is
no page is copied into it. The package is read, not imported, so nothing that it requires is needed.
"""

import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from coma_mm import __version__  # noqa: E402

project, author, copyright = 'coma_mm', 'The coma_mm maintainers', 'The coma_mm maintainers. Apache 2.0'
version = release = __version__

extensions = ['myst_parser', 'autoapi.extension', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
root_doc = 'README'
source_suffix = {'.md': 'markdown', '.ipynb': 'markdown', '.rst': 'restructuredtext'}
include_patterns = ['*.md', 'docs/*', 'docs/api/*']
exclude_patterns = ['.*', 'build', 'coma_mm', 'configs', 'data', 'dist', 'tests', 'tools', 'weights', 'work_dirs']
myst_enable_extensions = ['html_image']
myst_heading_anchors = 4

autoapi_dirs = [ROOT / 'coma_mm']
autoapi_generate_api_docs = False
python_use_unqualified_type_names = True
add_module_names = False

html_theme = 'furo'
html_title = f'coma_mm {release}'
html_static_path, html_css_files = ['static'], ['site.css']
html_copy_source = html_show_sphinx = False

CONTENTS = """
```{toctree}
:hidden:
:caption: Use

docs/installation
docs/tutorial
docs/pretraining
docs/classification
docs/detection
docs/segmentation
docs/start-from-weights
docs/compare
docs/finetune
docs/your-config
docs/export
```

```{toctree}
:hidden:
:caption: Know

docs/gallery
docs/model_zoo
docs/models
docs/benchmarks
docs/scale
docs/reliability
docs/evidence
docs/paper-map
```

```{toctree}
:hidden:
:caption: Look up

docs/api/index
CHANGELOG
CONTRIBUTING
SECURITY
```
"""


def read(app, docname: str, source: list[str]) -> None:
    """Append the table of contents to README, which has none on GitHub; turn the notebook into a page."""
    if docname == root_doc:
        source[0] += CONTENTS
    elif app.env.doc2path(docname).suffix == '.ipynb':
        texts = {'markdown': '{}', 'code': '```python\n{}\n```'}
        cells = json.loads(source[0])['cells']
        source[0] = '\n\n'.join(texts[cell['cell_type']].format(''.join(cell['source'])) for cell in cells)


def skip(app, what: str, name: str, obj, skipped: bool, options) -> bool | None:
    """Leave out attributes that no text explains: the arguments of a constructor, mostly."""
    return True if getattr(obj, 'type', None) == 'attribute' and not obj.docstring else None


def finish(app, exception: Exception | None) -> None:
    """Let the site open with README."""
    if exception is None:
        shutil.copy(Path(app.outdir, 'README.html'), Path(app.outdir, 'index.html'))


def setup(app) -> None:
    """Connect them."""
    app.connect('source-read', read)
    app.connect('autodoc-skip-member', skip)
    app.connect('build-finished', finish)
