"""The one thing pyproject.toml cannot say: what travels inside the package, in ``coma_mm/.mim``, beside its modules.

That is where OpenMMLab's packages keep them and where mmengine and mim look for them.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command import build_py

ROOT = Path(__file__).parent
SHIPPED = ('configs', 'tools', 'weights', 'model-index.yml')


class BuildWithMim(build_py.build_py):
    """Copy them into the wheel; link to them from a checkout installed in place."""

    def run(self):
        if self.editable_mode:
            super().run()
            self._link(ROOT / 'coma_mm' / '.mim')
        else:
            built = Path(self.build_lib, 'coma_mm')
            shutil.rmtree(built, ignore_errors=True)  # or modules deleted since the last build would be in the wheel
            super().run()
            self._copy(built / '.mim')

    @staticmethod
    def _link(mim):
        mim.mkdir(exist_ok=True)
        for name in SHIPPED:
            link = mim / name
            link.unlink(missing_ok=True)
            link.symlink_to(Path('..', '..', name))

    @staticmethod
    def _copy(mim):
        unwanted = shutil.ignore_patterns('__pycache__', 'env', 'lab', 'studies')  # for those who work on the project
        for name in SHIPPED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, mim / name, ignore=unwanted)
            else:
                shutil.copy(ROOT / name, mim / name)


setup(cmdclass={'build_py': BuildWithMim})
