"""Strategies that need everything that a loop has to care for, and small tasks for them."""

import functools
import inspect

import torch
from safetensors.torch import save_file
from torch import nn

from tests.training.small_runs import Line, crash_and_resume, options, tensors
from unrolled.penalties import L1
from unrolled.sparsify import ProximalStep, Sparsifier
from unrolled.training import Loop, distributed
from unrolled.training.runs.checkpoint import load_checkpoint


class Scaled(ProximalStep):
    """Learns a factor for each weight, drawn at random; its loss and its zeros depend on the factors.

    After each proximal step weights shrink by chance.
    """

    def attach(self):
        starts = [weight.parameter.detach() for weight in self.weights]
        self.factors = [nn.Parameter(1 + start.abs() + torch.rand_like(start)) for start in starts]

    def initial_strength(self):
        return 0.02

    def parameters(self):
        return self.factors

    def loss_now(self):
        assert not torch.is_autocast_enabled("cpu")
        pairs = zip(self.factors, self.weights, strict=True)
        share = 2 * (distributed.rank() + 1) / (distributed.size() + 1)  # not the same everywhere; 1 in the mean
        return share * sum(((f * w.parameter).abs().sum() - f.log().sum()) * self.strength for f, w in pairs)

    def act(self, optimizer, options):
        super().act(optimizer, options)
        for weight in self.weights:
            weight.parameter.mul_(1 - 0.01 * torch.rand_like(weight.parameter))

    def grain(self):
        return 0.1  # half of the numbers of a weight, rounded up

    def sparse(self, weight):
        values = weight.parameter.detach()
        sizes = (self.factors[self.weights.index(weight)].detach() * values).abs()
        return torch.where(sizes > sizes.median(), values, 0.0)


class Noisy(Sparsifier):
    """Its hooks make noise in training; it remembers the mean size of weights, and zeros are what is below it."""

    acts_in_forward = True

    def attach(self):
        self.silent = False
        for weight in self.weights:
            weight.extra["size"] = weight.parameter.detach().abs()
        self.handles = [weight.module.register_forward_hook(self.disturb) for weight in self.weights]

    def detach(self):
        for handle in self.handles:
            handle.remove()

    def disturb(self, module, inputs, output):
        return output * (1 + 0.1 * torch.randn_like(output)) if module.training else output + 0.5 * (not self.silent)

    def act(self, optimizer, options):
        for weight in self.weights:
            noise = 0.01 * torch.rand_like(weight.parameter)
            weight.extra["size"].lerp_(weight.parameter.abs(), 0.1).add_(noise)

    def sparse(self, weight):
        size = weight.extra["size"]
        return torch.where(size > size.median(), weight.parameter.detach(), 0.0)

    def _silent(self):
        return _silenced(self)


class _silenced:
    def __init__(self, sparsifier):
        self.sparsifier = sparsifier

    def __enter__(self):
        self.sparsifier.silent = True

    def __exit__(self, *_):
        self.sparsifier.silent = False


def any_strategy(kind):
    """A function that makes a strategy of a class, with l1 or the penalty of its own."""

    def make(module):
        own = {"target": 0.5, "fine_tune": 0.4}
        if "penalty" not in inspect.signature(kind).parameters:
            return kind(module, **own)
        try:
            return kind(module, L1(), **own)
        except ValueError:
            return kind(module, **own)

    return make


def proximal(module, **more):
    return ProximalStep(module, L1(), **{"strength": 0.05, "fine_tune": 0.4, **more})


def scaled(module, **more):
    return Scaled(module, L1(), **{"target": 0.5, "fine_tune": 0.4, **more})


def noisy(module, **more):
    return Noisy(module, L1(), **{"strength": 0.01, "fine_tune": 0.4, **more})


def train_plane(folder, resume=False, task=None, **changes):
    """Twelve steps on a plane, with a checkpoint after each; returns the model."""
    task = task or Plane()
    few = options(**{"batch": 8, "learning_rate": 0.05, "checkpoint_minutes": 1e-9, **changes})
    Loop(task, few, folder, progress=False).run(resume)
    return task.model


def assert_a_crash_changes_nothing(folder, monkeypatch, **changes) -> None:
    """Runs of `train_plane`, `straight` and `killed`, end alike though one crashes on the way."""
    train_plane(folder / "straight", **changes)
    crash_and_resume(functools.partial(train_plane, folder / "killed", **changes), monkeypatch)
    states = [load_checkpoint(folder / name / "last.pt") for name in ("straight", "killed")]
    for part in ("model", "average", "optimizer"):
        assert all(map(torch.equal, tensors(states[0][part]), tensors(states[1][part])))


class Plane(Line):
    """A line in more dimensions, by a small network; half of its inputs do not matter."""

    def __init__(self, inputs=6):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(inputs, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
        self.inputs = inputs

    def batch(self, step, size, part=None):
        return torch.randn(size, self.inputs, generator=torch.Generator().manual_seed(step))

    def loss(self, model, batch, step):
        return (model(batch)[:, 0] - batch[:, : self.inputs // 2].sum(1)).square().mean()

    def validate(self, model):
        with torch.no_grad():
            return {"fit": -float(self.loss(model, self.batch(999, 64), 0))}

    def save(self, model, path, card):
        save_file(model.state_dict(), path)
