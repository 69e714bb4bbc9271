"""Learned numbers that stay positive."""

import torch
from torch import nn


def positive(value: float) -> nn.Parameter:
    """A learned step size that starts at a value; read it through `softplus`, which keeps it positive."""
    return nn.Parameter(torch.tensor(value).expm1().log())
