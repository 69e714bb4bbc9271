"""Steps of solvers make nothing on another device than that of the measurements, and ask for no values.

On each device that there is, solvers give the same numbers.
"""

import inspect
import itertools

import pytest
import torch

from tests.helpers import assert_alike, picture
from unrolled import solvers
from unrolled.operators import Blur, GaussianKernel, MaskedFourier, UniformMask
from unrolled.penalties import L1, MCP, LogSum
from unrolled.solvers import gradient_methods, least_squares, reweighted, splitting
from unrolled.solvers.methods import METHODS, classical
from unrolled.solvers.priors import SparsePrior, TotalVariation
from unrolled.solvers.solution import Problem
from unrolled.solvers.transforms import DCT, CycleSpinning, FiniteDifferences, Wavelet

pytestmark = pytest.mark.device

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


FUNCTIONS = {name: getattr(solvers, name) for name in solvers.__all__ if inspect.isfunction(getattr(solvers, name))}
OF_IMAGES = [name for name, solver in FUNCTIONS.items() if "operator" in inspect.signature(solver).parameters]


@pytest.mark.parametrize("name", OF_IMAGES)
def test_images_are_the_same_on_every_device(name, device):
    operator, solver = MaskedFourier(UniformMask(0.5), 8, 8, complex_images=True), FUNCTIONS[name]
    prior = {"prior": SparsePrior(LogSum(), 0.1, DCT())} if "prior" in inspect.signature(solver).parameters else {}
    short = {"iterations": 2, **({"inner": 200} if name == "image_irls" else {})}
    y = operator(torch.polar(picture(8, 8)[None], picture(8, 8, 1)[None]))

    def image(y):
        return solver(y, operator, **prior, **short).image

    expected = image(y)
    operator.to(device)
    assert_alike(image(y.to(device)), expected, device)


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - set(OF_IMAGES)))
def test_weights_are_the_same_on_every_device(name, device):
    generator = torch.Generator().manual_seed(0)
    X, y = torch.randn(20, 6, generator=generator), torch.randn(20, generator=generator)
    # What is drawn differs between devices.
    smoothly = {"strength": 1e-6} if "generator" in inspect.signature(FUNCTIONS[name]).parameters else {"strength": 0.5}

    def weights(X, y):
        return FUNCTIONS[name](X, y, L1(), **smoothly, iterations=200).w

    assert_alike(weights(X.to(device), y.to(device)), weights(X, y), device, 1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_methods_by_name_are_the_same_on_every_device(method, device):
    operator = Blur(GaussianKernel(1.0))
    y = operator(picture(16, 16)[None])
    expected = classical(method, y, operator, iterations=2)
    assert_alike(classical(method, y.to(device), operator.to(device), iterations=2), expected, device, 1e-2)
