"""The model of the theory: one hidden layer without overlap, Gaussian inputs, and a teacher w* to be found.

h(w, x) = (1/k) Σ_i σ(w·x_i) of k independent vectors x_i of d standard normal numbers; θ is the angle between w and w*.
With the ReLU the population loss is E(h(w, x) − h(w*, x))² (Dinh, Xin, 2018, RVSM), with the step function half of that
(Dinh, Xin, 2019, RVSCGD), trained by the expectation of its coarse gradient. Tensors are (…, d), float64; what is not
documented by a reference is derived where it stands.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from unrolled.classifiers.activations import BinaryActivation
from unrolled.penalties import Penalty

Field = Callable[[Tensor, Tensor, int], Tensor]
"""(w, w*, k) ↦ a gradient in w, or a number for each w."""

_HALF = 1 / (2 * math.sqrt(2 * math.pi))
"""E max(x, 0)/2 of a standard normal x."""


def teachers(count: int, d: int, nonzeros: int, seed: int) -> Tensor:
    """Sparse w* of unit norm, (count, d): normal numbers at random places."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, d, generator=generator, dtype=torch.float64)
    places = torch.rand(count, d, generator=generator).argsort(1) < nonzeros
    return unit(values * places)


def unit(w: Tensor) -> Tensor:
    """w/‖w‖ along the last axis."""
    return w / w.norm(dim=-1, keepdim=True)


def angle(w: Tensor, v: Tensor) -> Tensor:
    """Between vectors, (…), in [0, π]; accurate also where it is small."""
    a, b = unit(w), unit(v)
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


# The ReLU. With I(w, v) = 2π E relu(w·x)relu(v·x) = ‖w‖‖v‖(sinθ + (π − θ)cosθ), and ‖w‖‖v‖ for independent x and x',
# k²E h(w)h(v) = (k I(w, v) + (k² − k)‖w‖‖v‖)/2π.


def relu_loss(w: Tensor, v: Tensor, k: int) -> Tensor:
    """E(h(w) − h(v))² of the ReLU, (…)."""

    def product(w: Tensor, v: Tensor, theta: Tensor) -> Tensor:
        shape = torch.sin(theta) + (math.pi - theta) * torch.cos(theta)
        return w.norm(dim=-1) * v.norm(dim=-1) * (k * shape + k * k - k) / (2 * math.pi * k**2)

    zero = w.new_zeros(())
    return product(w, w, zero) - 2 * product(w, v, angle(w, v)) + product(v, v, zero)


def relu_gradient(w: Tensor, v: Tensor, k: int) -> Tensor:
    """The gradient of `relu_loss`."""
    theta, length = angle(w, v)[..., None], v.norm(dim=-1, keepdim=True)
    mixed = length * torch.sin(theta) * unit(w) + (math.pi - theta) * v
    return (k * w + (k * k - k) / math.pi * (w - length * unit(w)) - k / math.pi * mixed) / k**2


def relu_smoothness(k: int) -> float:
    """The largest curvature of `relu_loss`, attained at w*: L = 1/k + (k − 1)/(πk).

    Its Hessian is a sum of 1/k, of (k − 1)/(πk) times I − (‖w*‖/‖w‖)(I − ŵŵᵀ) ≤ I, and of minus that of I(w, w*)/(πk),
    which is convex in w. So the loss lies below all its parabolas of curvature L, which is what descent needs; its
    curvature from below is not bounded, near w = 0.
    """
    return 1 / k + (k - 1) / (math.pi * k)


# The step function. A patch counts where w·x > 0 and w*·x ≤ 0, a wedge of the angle θ, or the other way round; other
# patches are independent and add nothing on average. So the coarse gradient is E[x μ'(w·x); wedge]/k, μ' the slope that
# the estimator has. In the plane of w and w* the integral over the wedge is elementary, also if it is cut off at
# w·x ≤ 1, as the clipped ReLU does: with m = 1/‖w‖,
#
#   k∇ = (h − φ(m)Φ(−m cotθ)) ŵ − h erf(m/(√2 sinθ)) ŵ*,    h = 1/(2√(2π)), φ and Φ of the normal distribution,
#
# of which the ReLU's h(ŵ − ŵ*) is the limit m → ∞; the identity sees both wedges, which are alike: twice the ReLU's.


def binary_loss(w: Tensor, v: Tensor, k: int) -> Tensor:
    """½E(h(w) − h(v))² of the step function, (…)."""
    return angle(w, v) / (2 * math.pi * k)


def identity_gradient(w: Tensor, v: Tensor, k: int) -> Tensor:
    """The expected coarse gradient of the estimator "identity"."""
    return 2 * _HALF / k * (unit(w) - unit(v))


def step_gradient(w: Tensor, v: Tensor, k: int) -> Tensor:
    """The expected coarse gradient of the estimator "relu"."""
    return _HALF / k * (unit(w) - unit(v))


def clipped_gradient(w: Tensor, v: Tensor, k: int) -> Tensor:
    """The expected coarse gradient of the estimator "clipped_relu"."""
    theta, m = angle(w, v)[..., None], 1 / w.norm(dim=-1, keepdim=True)
    density = torch.exp(-m.square() / 2) / math.sqrt(2 * math.pi)
    along = _HALF - density * torch.special.ndtr(-m / torch.tan(theta))
    return (along * unit(w) - _seen(theta, m) * unit(v)) / k


def _seen(theta: Tensor, m: Tensor | float) -> Tensor:
    """The pull of the clipped ReLU, times k: what of the wedge lies in front of w·x = 1."""
    return _HALF * torch.erf(m / (math.sqrt(2) * torch.sin(theta)))


GRADIENTS: dict[str, Field] = {
    "ReLU": relu_gradient,
    "step, identity": identity_gradient,
    "step, ReLU": step_gradient,
    "step, clipped ReLU": clipped_gradient,
}
"""By activation and, for the step function, estimator."""

LOSSES: dict[str, Field] = {name: relu_loss if name == "ReLU" else binary_loss for name in GRADIENTS}


def pull(name: str, theta: Tensor, k: int) -> Tensor:
    """How strongly a gradient draws a w of unit norm to w*: c of −∇f = c w* + (…) w."""
    constant = {"step, identity": 2 * _HALF, "step, ReLU": _HALF}
    if name in constant:
        return torch.full_like(theta, constant[name] / k)
    return (math.pi - theta) / (math.pi * k) if name == "ReLU" else _seen(theta, 1.0) / k


def sampled_gradients(w: Tensor, v: Tensor, x: Tensor) -> Tensor:
    """All gradients on a sample, by backpropagation through the network.

    Parameters
    ----------
    w : Tensor, (gradients, cases, d)
        in the order of GRADIENTS.
    v : Tensor, (cases, d)
    x : Tensor, (samples, k, d)
        shared by the cases.
    """
    w = w.detach().to(x).requires_grad_()
    z, wanted = x @ w.flatten(0, 1).T, x @ v.to(x).T
    loss = x.new_zeros(())
    for part, activation in zip(z.unflatten(-1, w.shape[:2]).unbind(-2), ACTIVATIONS.values(), strict=True):
        error = (activation(part) - activation(wanted)).mean(1)
        loss = loss + error.square().mean(0).sum() * (0.5 if isinstance(activation, BinaryActivation) else 1)
    return torch.autograd.grad(loss, w)[0]


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "ReLU": torch.relu,
    "step, identity": BinaryActivation("identity"),
    "step, ReLU": BinaryActivation("relu"),
    "step, clipped ReLU": BinaryActivation("clipped_relu"),
}


# Fixed points of variable splitting, of unit norm: λ'w = c w* + βS(w), S the proximal map with the step λ/β. Read from
# right to left this is the sparsifying operation: w* = A w − (β/c) S(w), in which A follows from ‖w*‖ = 1.


def fixed_point_residual(name: str, w: Tensor, v: Tensor, sparse: Tensor, beta: float, k: int) -> Tensor:
    """‖w − (c w* + βS(w))/‖…‖‖, (…), of w and w* of unit norm."""
    pulled = pull(name, angle(w, v), k)[..., None] * v + beta * sparse
    return (w - unit(pulled)).norm(dim=-1)


def enlargement(w: Tensor, sparse: Tensor, ratio: Tensor) -> Tensor:
    """The A, (…), that gives A w − (β/c) S(w) the norm 1; see `teacher_of`."""
    shift = ratio[..., None] * sparse
    along = (w * shift).sum(-1)
    return along + (1 - shift.square().sum(-1) + along.square()).sqrt()


def teacher_of(w: Tensor, sparse: Tensor, ratio: Tensor) -> Tensor:
    """The w* whose limit is w: A w − (β/c) S(w).

    Parameters
    ----------
    w, sparse : Tensor, (…, d)
        of unit norm, and S(w).
    ratio : Tensor, (…)
        β/c.
    """
    return enlargement(w, sparse, ratio)[..., None] * w - ratio[..., None] * sparse


def lagrangian(loss: Tensor, penalty: Penalty, w: Tensor, u: Tensor, beta: float) -> Tensor:
    """L_β(w, u), (…), of a penalty that has its strength in it."""
    return loss + penalty.value(u).sum(-1) + beta / 2 * (w - u).square().sum(-1)
