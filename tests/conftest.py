"""Shared by all tests: tiny models gain nothing from more threads."""

import torch

torch.set_num_threads(1)
