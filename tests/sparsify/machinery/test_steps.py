"""Every step of every optimiser is noticed, however it is implemented and wrapped."""

import gc
import inspect
import weakref

import pytest
import torch
from torch import nn

from unrolled.penalties import L1
from unrolled.sparsify import MagnitudePruning, ProximalStep
from unrolled.sparsify.machinery import steps

OPTIMIZERS = {
    name: kind
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
}
WAYS = ("foreach", "fused")
"""Besides there are "capturable", on CUDA alone, and "differentiable", for weights with a history."""

IMPLEMENTATIONS = {
    " ".join([name, *way]): (kind, dict.fromkeys(way, True))
    for name, kind in OPTIMIZERS.items()
    for way in [(), *((way,) for way in WAYS if way in inspect.signature(kind).parameters)]
}
REFUSED = {
    "Adafactor": "are cut by a factor that it does not keep",
    "LBFGS": "are not multiples of the gradient",
    "Muon": "are orthogonal matrices",
    "Rprop": "are not multiples of the gradient",
}


class Rows(nn.Module):
    """One matrix, 8 × 4, of which rows are read; with gradients of those rows alone if asked."""

    def __init__(self, sparse=False):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(8, 4))
        self.sparse = sparse

    def forward(self):
        return nn.functional.embedding(torch.arange(8), self.weight, sparse=self.sparse)


def made(kind, model, options):
    return kind(model.parameters(), lr=0.1 if kind is torch.optim.LBFGS else 1e-3, **options)


def step(model, optimizer, step=None):
    def closure():
        optimizer.zero_grad()
        loss = model().square().sum()
        loss.backward()
        return loss

    if isinstance(optimizer, torch.optim.LBFGS):
        optimizer.step(closure)
    else:
        closure()
        (step or optimizer.step)()


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_zeros_are_made_after_the_steps_of_every_optimiser(name):
    kind, options = IMPLEMENTATIONS[name]
    model = Rows(kind is torch.optim.SparseAdam)
    sparsifier = MagnitudePruning(model, 0.5, steps=4)
    optimizer = made(kind, model, options)
    sparsifier.step(optimizer)
    assert sparsifier.step_count == 0
    for _ in range(4):
        step(model, optimizer)
        sparsifier.step(optimizer)
        sparsifier.step(optimizer)
    assert sparsifier.step_count == 4
    sparsifier.finalize()
    assert int((model.weight == 0).sum()) == 16


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_proximal_step_belongs_to_an_optimiser_or_it_is_refused_by_name(name):
    kind = OPTIMIZERS[name]
    model = Rows(kind is torch.optim.SparseAdam)
    sparsifier, optimizer = ProximalStep(model, L1(), 10.0), made(kind, model, {})
    step(model, optimizer)
    if name in REFUSED:
        with pytest.raises(ValueError, match=f"optimizer: the steps of {name} {REFUSED[name]}"):
            sparsifier.step(optimizer)
        return
    before = model.weight.detach().clone()
    sparsifier.step(optimizer)
    assert (model.weight.detach() - before).abs().max() > 1e-6


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_what_loss_scaling_skips_is_no_step(kind, fused):
    model, scaler = Rows(), torch.amp.GradScaler("cpu")
    sparsifier = MagnitudePruning(model, 0.5, steps=2)
    optimizer = made(kind, model, {"fused": fused})
    for number in (float("inf"), 1.0, float("nan"), 1.0):
        optimizer.zero_grad()
        scaler.scale(number * model().sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        sparsifier.step(optimizer)
    assert sparsifier.step_count == 2


class Wrapper(torch.optim.Optimizer):
    """An optimiser that hands everything on to another one."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    param_groups = property(lambda self: self.optimizer.param_groups)
    state = property(lambda self: self.optimizer.state)

    def step(self, closure=None):
        return self.optimizer.step(closure)

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none)


def test_the_optimiser_inside_of_a_wrapper_is_followed_and_refused():
    model = Rows()
    sparsifier = ProximalStep(model, L1(), 1.0)
    optimizer = Wrapper(torch.optim.SGD(model.parameters(), lr=1e-3, fused=True))
    step(model, optimizer)
    sparsifier.step(optimizer)
    assert sparsifier.step_count == 1
    optimizer = Wrapper(torch.optim.Rprop(model.parameters()))
    step(model, optimizer)
    with pytest.raises(ValueError, match="the steps of Rprop are not multiples"):
        sparsifier.step(optimizer)
    with pytest.raises(ValueError, match=r"optimizer: must be one of torch\.optim or made like these, got 'SGD'"):
        sparsifier.step("SGD")


@pytest.mark.full
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_a_compiled_step_is_noticed():
    model = Rows()
    sparsifier = MagnitudePruning(model, 0.5, steps=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, fused=True)
    compiled = torch.compile(optimizer.step, backend="eager")
    for _ in range(2):
        step(model, optimizer, compiled)
        sparsifier.step(optimizer)
    assert sparsifier.step_count == 2


def test_steps_of_what_holds_no_weight_are_none_and_nobody_is_told_after_the_end():
    model, other = Rows(), Rows()
    gc.freeze()  # sparsifiers of other tests, and then little is left to collect
    before = len(steps._listeners)
    sparsifier = MagnitudePruning(model, 0.5, steps=2)
    step(other, torch.optim.SGD(other.parameters(), lr=1e-3, fused=True))
    assert not sparsifier.guard.has_stepped()
    sparsifier.release()
    assert len(steps._listeners) == before
    sparsifier = MagnitudePruning(model, 0.5, steps=2)
    guard = weakref.ref(sparsifier.guard)
    del sparsifier
    gc.collect()
    assert guard() is None
    assert len(steps._listeners) == before
