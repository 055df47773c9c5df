"""``python -m coma_mm COMMAND``, where the command ``coma-mm`` is not on the path."""

from .cli import main

if __name__ == '__main__':
    main()
