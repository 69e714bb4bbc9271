"""Learned numbers that stay positive."""

import math

import torch
from torch import nn


def positive(value: float) -> nn.Parameter:
    """A learned step size that starts at a value; read it through `softplus`, which keeps it positive."""
    return nn.Parameter(torch.tensor(value).expm1().log())


def check_positive(owner: str, **numbers: float) -> None:
    """Raise ValueError, with the name of the owner and of the argument, unless numbers are finite and > 0."""
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{owner}: {name} must be a finite number > 0, got {number!r}")
