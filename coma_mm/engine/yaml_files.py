"""YAML files that mmengine reads, configs above all: data, and no objects of Python."""

from typing import Any, TextIO

import yaml
from mmengine.fileio import YamlHandler, register_handler


class SafeYamlHandler(YamlHandler):
    """Reads YAML with the safe loader, in place of mmengine's handler, whose loader runs what tags name."""

    def load_from_fileobj(self, file: TextIO, **kwargs: Any) -> Any:
        """Read.

        Raises:
            ValueError: If it is no YAML, or holds objects of Python.
        """
        try:
            return yaml.load(file, Loader=yaml.SafeLoader)
        except yaml.constructor.ConstructorError as error:
            raise ValueError(
                f'it holds an object of Python, which is not read ({error.problem}); leave it out'
            ) from None
        except (yaml.YAMLError, RecursionError) as error:
            raise ValueError(f'it is no YAML: {type(error).__name__}') from None


def read_yaml_safely() -> None:
    """Have mmengine read all YAML in this process without running anything."""
    register_handler(['yaml', 'yml'])(SafeYamlHandler)
