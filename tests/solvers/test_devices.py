"""Steps of solvers make nothing on another device than that of the measurements, and ask for no values."""

import itertools

import pytest
import torch

from unrolled.operators import Blur, GaussianKernel, MaskedFourier, UniformMask
from unrolled.penalties import L1, MCP
from unrolled.solvers import gradient_methods, least_squares, reweighted, splitting
from unrolled.solvers.priors import SparsePrior, TotalVariation
from unrolled.solvers.solution import Problem
from unrolled.solvers.transforms import DCT, CycleSpinning, FiniteDifferences, Wavelet

STEPS = {
    "proximal_gradient": (gradient_methods, gradient_methods.proximal_gradient, {"step": 1.0}),
    # A restart is decided by a value.
    "fista": (gradient_methods, gradient_methods.fista, {"step": 1.0, "restart": False}),
    "extra, plain": (
        gradient_methods,
        gradient_methods.extra_proximal_gradient,
        {"alpha": 0.5, "beta": 0.5, "variant": "plain"},
    ),
    "extra, accelerated": (
        gradient_methods,
        gradient_methods.extra_proximal_gradient,
        {"alpha": 1.0, "beta": 1.0, "momentum": 0.3},
    ),
}
PRIORS = {
    "DCT": SparsePrior(L1(), 0.1, DCT()),
    "wavelets, MCP": SparsePrior(MCP(1.0, 2.0), 0.1, Wavelet(2, 1), spare_coarsest=True),
}


@pytest.fixture
def first_iterates(monkeypatch):
    """Solvers that give the image after two iterations, without checks of values."""

    def first(name, iterates, problem, *_):
        return list(itertools.islice(iterates, 2))[-1]

    def start(self):
        self.start = self.operator.estimate(self.y) if self.start is None else self.start

    for module in (gradient_methods, least_squares, reweighted, splitting):
        monkeypatch.setattr(module, "solve", first)
    monkeypatch.setattr(Problem, "__post_init__", start)


def case(kind):
    operator = (
        MaskedFourier(UniformMask(0.5), 8, 8, complex_images=True) if kind == "Fourier" else Blur(GaussianKernel(1.0))
    )
    x = torch.rand(2, 1, 8, 8, dtype=torch.complex64 if kind == "Fourier" else torch.float32)
    y = operator(x)
    return operator.to("meta"), y.to("meta")


@pytest.mark.usefixtures("first_iterates")
@pytest.mark.parametrize("kind", ["Fourier", "blur"])
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", STEPS)
def test_steps_stay_on_the_device_of_the_measurements(name, prior, kind):
    _, solver, options = STEPS[name]
    operator, y = case(kind)
    x = solver(y, operator, PRIORS[prior], **options)
    assert x.device.type == "meta"
    assert x.shape == (2, 1, 8, 8)


@pytest.mark.usefixtures("first_iterates")
@pytest.mark.parametrize("prior", [TotalVariation(0.1), SparsePrior(L1(), 0.1, CycleSpinning(Wavelet(2, 1)))])
def test_primal_dual_stays_on_the_device_of_the_measurements(prior, monkeypatch):
    monkeypatch.setattr(Problem, "step", lambda self: 1.0)  # from ‖A‖, a value
    operator, y = case("Fourier")
    assert splitting.primal_dual(y, operator, prior).device.type == "meta"


@pytest.mark.parametrize("transform", [DCT(), Wavelet(2, 1), CycleSpinning(Wavelet(2, 1)), FiniteDifferences()])
def test_transforms_stay_on_the_device_of_the_image(transform):
    c = transform(torch.empty(2, 1, 8, 8, device="meta"))
    assert c.device.type == "meta"
    assert transform.adjoint(c).device.type == "meta"
