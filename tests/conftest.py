"""Shared by all tests: modules beside a test file can be imported by it, and tiny models gain nothing from more threads."""

import torch

torch.set_num_threads(1)
