#!/usr/bin/env python
"""Write the backbone of any checkpoint: its weights (.pth, .safetensors), a graph (.onnx, .pt2), or a hub folder."""

from _cli import run

if __name__ == '__main__':
    run('export')
