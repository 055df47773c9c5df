"""Configs whose text is read back as what they are, whatever folders and classes are called."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import dump

from ...utils.files import naming

# mmengine replaces variables ({{ fileDirname }}, {{$HOME:x}}, {{ _base_.x }}) in a config's text, before it is parsed.
BRACES = re.compile(r'{(?={)|(?<={){')


class WrittenConfig(Config):
    """A config as mmengine has it, in whose text no value is taken for one of mmengine's variables.

    Two braces next to each other are written as escapes, which Python (or JSON) turns back when the text is parsed.

    Attributes:
        given: What the tools add to, as it was before they did. It is no setting, and not in the text.
    """

    given: dict[str, Any] | None = None

    @classmethod
    def of(cls, cfg: Config) -> 'WrittenConfig':
        """Return a config that shares the settings of another one."""
        written = cls(cfg._cfg_dict, cfg.text, cfg.filename, cfg.env_variables, cfg._format_python_code)
        object.__setattr__(written, '_imported_names', cfg._imported_names)
        return written

    def keep_given(self, given: dict[str, Any]) -> None:
        """Set :attr:`given`; mmengine takes an assignment for a setting."""
        object.__setattr__(self, 'given', given)

    @property
    def pretty_text(self) -> str:
        """The settings as Python, laid out once while they stay the same: every checkpoint has this text."""
        plain = Config(self._cfg_dict, format_python_code=False).pretty_text
        return BRACES.sub(r'\\x7b', _lay_out(plain))  # two in a row stand in strings only

    def dump(self, file: str | Path | None = None) -> str | None:
        """Write the text into a file, as its ending says, or return it.

        YAML is written as JSON, which is YAML, too, and can escape braces in any string.
        """
        kind = Path(file or self.filename or '.py').suffix
        if kind not in ('.json', '.yaml', '.yml'):
            with naming(file or 'a config'):
                return super().dump(file)
        text = BRACES.sub(r'\\u007b', dump(self.to_dict(), file_format='json'))
        if file is None:
            return text
        Path(file).write_text(text, encoding='utf-8')
        return None


@lru_cache(maxsize=4)
def _lay_out(text: str) -> str:
    """Break the lines of a config's text as PEP 8 has it, which takes a fifth of a second."""
    from yapf.yapflib.yapf_api import FormatCode

    return FormatCode(text, style_config='pep8')[0]
