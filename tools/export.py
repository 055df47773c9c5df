#!/usr/bin/env python
"""Write the backbone of any checkpoint, alone, to a file that plain PyTorch (.pth) or safetensors reads."""

from _cli import run

if __name__ == '__main__':
    run('export')
