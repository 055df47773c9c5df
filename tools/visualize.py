#!/usr/bin/env python
"""Show what a pre-trained model makes of images: what each branch sees, the assembled reconstruction, the error."""

from _cli import run

if __name__ == '__main__':
    run('visualize')
