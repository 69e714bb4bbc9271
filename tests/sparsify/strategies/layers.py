"""Layers with given weights, and the moments of noise on them."""

import math

import torch
from torch import nn


def layer_of(values, dtype=torch.float64):
    weight = torch.as_tensor(values, dtype=dtype)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def draws(layer, count):
    """The noisy weights of many calls."""
    eye = torch.eye(layer.weight.shape[1], dtype=layer.weight.dtype)
    with torch.no_grad():
        return torch.stack([layer(eye).T for _ in range(count)])


def assert_moments(samples, mean, variance):
    """Within four standard errors; of the variance as for a normal distribution, doubled."""
    count = len(samples)
    error = (variance / count).sqrt()
    assert ((samples.mean(0) - mean).abs() <= 4.5 * error + 1e-7).all()
    assert ((samples.var(0) - variance).abs() <= 9 * variance * math.sqrt(2 / count) + 1e-7).all()
