"""The binary activation, forward and backward, and its coarse gradient against the expected closed forms."""

import copy
import math

import pytest
import torch
from scipy.integrate import quad
from scipy.special import erf
from torch import nn

from unrolled.classifiers.activations import BinaryActivation

ESTIMATORS = ("identity", "relu", "clipped_relu")
X = [-math.inf, -2.0, -0.5, 0.0, 0.25, 1.0, 1.5, math.inf]
SLOPES = {
    "identity": [0, 1, 1, 1, 1, 1, 1, 0],
    "relu": [0, 0, 0, 0, 1, 1, 1, 0],
    "clipped_relu": [0, 0, 0, 0, 1, 1, 0, 0],
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_forward_is_the_step_and_backward_the_slope_of_the_estimator(estimator, dtype):
    x = torch.tensor(X, dtype=dtype, requires_grad=True)
    y = BinaryActivation(estimator)(x)
    assert y.dtype == dtype
    assert y.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert slope.tolist() == SLOPES[estimator]
    assert BinaryActivation(estimator)(torch.tensor([math.nan], dtype=dtype)).isnan()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # of torch's own forward mode
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_transforms_of_functions_agree_with_backward(estimator):
    x = torch.tensor(X[1:-1])
    layer = BinaryActivation(estimator)
    slopes = torch.vmap(torch.func.grad(lambda z: layer(z)))(x)
    values, tangents = torch.func.jvp(layer, (x,), (torch.full_like(x, 2.0),))
    assert slopes.tolist() == SLOPES[estimator][1:-1]
    assert torch.equal(tangents, 2 * slopes)
    assert torch.equal(values, (x > 0).float())


@pytest.mark.full
def test_it_compiles_without_breaks(fresh_compiler):
    network = nn.Sequential(nn.Linear(3, 4), BinaryActivation("relu"), nn.Linear(4, 1))
    x = torch.randn(5, 3)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    gradients = [torch.autograd.grad(call(x).sum(), list(network.parameters())) for call in (network, compiled)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(theirs, ours)


def test_it_works_under_autocast_and_copies():
    network = nn.Sequential(nn.Linear(3, 4), BinaryActivation(), nn.Linear(4, 1))
    assert not network[1].state_dict()
    with torch.autocast("cpu", torch.bfloat16):
        y = copy.deepcopy(network)(torch.randn(5, 3))
    assert y.dtype == torch.bfloat16
    assert "clipped_relu" in repr(network)


def test_another_estimator_is_refused():
    with pytest.raises(ValueError, match=r"estimator must be one of .*'relu'.* got 'tanh'"):
        BinaryActivation("tanh")


# The model of the theory: h(w, x) = Σ_i 1{w·x_i > 0} of k Gaussian vectors x_i, loss ½(h(w) − h(w*))².


def expected(estimator, w, teacher, k):
    """E of the coarse gradient of the loss."""
    norm = w.norm()
    a, b = w / norm, teacher / teacher.norm()
    if estimator != "clipped_relu":
        return k / math.sqrt(2 * math.pi) * (a - b) / (1 if estimator == "identity" else 2)
    theta = torch.acos(a @ b).item()

    def moment(angle, wave):
        def integrand(phi):
            c = 1 / (math.cos(phi) * norm.item())
            return wave(phi) * (math.sqrt(math.pi / 2) * erf(c / math.sqrt(2)) - c * math.exp(-c * c / 2))

        return quad(integrand, angle - math.pi / 2, math.pi / 2, epsabs=1e-10)[0] / (2 * math.pi)

    p0, p, q = moment(0, math.cos), moment(theta, math.cos), moment(theta, math.sin)
    along = p0 - p + q / math.tan(theta / 2)
    return k * (along * a - q / math.sin(theta / 2) * (a + b) / (a + b).norm())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_coarse_gradients_have_the_expected_mean(estimator):
    k, d, batches, size = 3, 4, 200, 1000
    generator = torch.Generator().manual_seed(0)
    w, teacher = torch.tensor([0.9, -0.3, 0.5, 0.2]).double(), torch.tensor([0.2, 0.8, 0.4, -0.1]).double()
    layer = BinaryActivation(estimator)

    def loss(w, x):
        return 0.5 * (layer(x @ w).sum(-1) - (x @ teacher > 0).sum(-1)).square().mean()

    x = torch.randn(batches, size, k, d, generator=generator, dtype=torch.float64)
    gradients = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(w, x)
    error = gradients.std(0) / math.sqrt(batches)
    wanted = expected(estimator, w, teacher, k)
    assert (gradients.mean(0) - wanted).abs().div(error).max() < 4
    assert error.max() < 0.02 * wanted.norm()  # so that the comparison says something
