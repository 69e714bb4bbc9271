"""A small network that tells images apart, and its training."""

import torch
import torch.nn.functional as F
from torch import nn


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 12), nn.ReLU(), nn.Linear(12, 3))


def train(model, sparsifier, steps, rate=3e-3):
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        x = torch.randn(32, 1, 6, 6, generator=generator)
        y = torch.stack([x[:, 0, 2, 2], x[:, 0, 3, 3], x[:, 0, 2, 3]], 1).argmax(1)
        optimizer.zero_grad()
        (F.cross_entropy(model(x), y) + sparsifier.loss()).backward()
        optimizer.step()
        sparsifier.step(optimizer)
