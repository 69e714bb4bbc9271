"""Steps of training on noise, for strategies whose zeros do not depend on a task."""

import torch


def train(model, sparsifier, optimizer, steps, start=0, shape=(8, 10)):
    """Take steps one by one, and yield the number of each."""
    for seed in range(start, start + steps):
        inputs = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        (model(inputs) - 1).square().mean().backward()
        optimizer.step()
        sparsifier.step(optimizer)
        yield seed
