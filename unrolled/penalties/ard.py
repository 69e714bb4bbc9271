"""Automatic relevance determination as a penalty: it knows how columns overlap, and so is not separable."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.penalties.magnitudes import magnitude_of, step_tensor
from unrolled.penalties.penalty import Formulas, Penalty
from unrolled.system.arraylike import as_numbers, as_tensor, is_floating


@dataclass(frozen=True, eq=False)
class ARD(Penalty):
    """ρ(w) = ½ min_η Σ|w_j|²/η_j + log det(I + X diag(η) Xᴴ/τ), the penalty of sparse Bayesian learning.

    (The constant n log τ is left out, so that ρ(0) = 0.) The minimum is convex in log η, and the iteration
    η_j ← |w_j|/√(x_jᴴ Σ⁻¹ x_j), Σ = τI + X diag(η) Xᴴ, contracts log η by a factor ½ at least (in the maximum norm: the
    rows of its derivative sum to less than ½). So η̂ and ρ are exact.

    The proximal map minimises |v|²/(η + step) + log det over η: there may be many local minima, and which one is the
    least is not known in general. `prox` majorises the log-determinant by its tangent, each round a weighted soft
    thresholding; then it minimises globally over one number after another, in cycles, until none moves. The objective
    never rises, and no change of one number alone improves the result. This is the global minimum if the columns of X
    are orthogonal, also if there is one only; otherwise it need not be.

    Parameters
    ----------
    X : Tensor or array, (n, p), real or complex
    tau : float > 0
        variance of the noise in y = Xw + noise.
    """

    formulas: ClassVar = Formulas(
        value="½ min over η of Σ z_j²/η_j + log det(I + X diag(η) Xᴴ/τ)",
        threshold="that of one column alone",
        eta="solves η_j = z_j/√(x_jᴴ(τI + X diag(η) Xᴴ)⁻¹x_j)",
        dual="log det(I + X diag(η) Xᴴ/τ)",
        source="Wipf, Nagarajan, Advances in Neural Information Processing Systems 20, 2007",
    )

    X: Tensor
    tau: float

    def __post_init__(self) -> None:
        given = as_tensor("ARD: X", self.X)
        object.__setattr__(self, "X", given if is_floating(given) else as_numbers("ARD: X", given))
        if self.X.ndim != 2 or not self.X.numel():
            raise ValueError(f"ARD: X must be (n, p), none of them 0, got {tuple(self.X.shape)}")
        energies = self.X.to(torch.complex128).abs().square().sum(0)
        if not bool(self.X.isfinite().all()) or bool((energies == 0).any()):
            raise ValueError("ARD: X must be finite and have no column of zeros, nor of numbers whose squares are 0")
        if not bool(energies.isfinite().all()):
            raise ValueError(f"ARD: X reaches {float(self.X.abs().max()):.3g}, whose square is no number; scale it")
        self._check_parameter("tau", 0.0, float("inf"))

    def _magnitude(self, w: Tensor) -> Tensor:
        z = magnitude_of(w)
        if w.ndim == 0 or w.shape[-1] != self.X.shape[1]:
            raise ValueError(
                f"ARD: w must have a last axis of {self.X.shape[1]}, as X has columns, got {tuple(w.shape)}"
            )
        return z.double()

    def _products(self, eta: Tensor) -> Tensor:
        """XᴴΣ⁻¹X, (..., p, p)."""
        X = self.X.to(torch.complex128 if self.X.is_complex() else torch.float64)
        sigma = (X * eta.unsqueeze(-2)) @ X.mH + self.tau * torch.eye(len(X), dtype=X.dtype, device=X.device)
        return X.mH @ torch.linalg.solve(sigma, X)

    def _weights(self, eta: Tensor) -> Tensor:
        return self._products(eta).diagonal(dim1=-2, dim2=-1).real

    def _stationary(self, z: Tensor, step: Tensor, eta: Tensor, rounds: int) -> Tensor:
        """η = (z/√g − step)₊ with g = ∂ log det/∂η, repeated from the given η."""
        for _ in range(rounds):
            new = (z / self._weights(eta).sqrt() - step).clamp(min=0)
            if torch.allclose(new, eta, rtol=1e-15, atol=0):
                break
            eta = new
        return eta

    def _eta(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            eta = self._stationary(z.detach(), torch.zeros_like(z), z.detach(), 200)
        return self._differentiable(eta, z, torch.zeros_like(z))

    def _differentiable(self, eta: Tensor, z: Tensor, step: Tensor) -> Tensor:
        """η with the gradients of its equation (η + step)√g(η) = z, where it is not 0."""
        if not (z.requires_grad or step.requires_grad):
            return eta
        with torch.no_grad():
            products = self._products(eta)
            g = products.diagonal(dim1=-2, dim2=-1).real
            kept = eta > 0
            rows = torch.diag_embed(g.sqrt()) - ((eta + step) / (2 * g.sqrt())).unsqueeze(-1) * products.abs().square()
            both = kept.unsqueeze(-1) & kept.unsqueeze(-2)
            matrix = torch.where(both, rows, torch.eye(eta.shape[-1], dtype=eta.dtype, device=eta.device))
        equation = torch.where(kept, (eta + step) * g.sqrt() - z, 0.0)
        change = equation - equation.detach()
        return eta - torch.linalg.solve(matrix, change.unsqueeze(-1)).squeeze(-1)

    def value(self, w: Tensor) -> Tensor:
        z = self._magnitude(w)
        eta = self._eta(z)
        quadratic = torch.where(eta > 0, z.square() / torch.where(eta > 0, eta, 1.0), 0.0)
        return ((quadratic.sum(-1, keepdim=True) + self.dual(eta)) / 2).to(w.dtype.to_real())

    def derivative(self, w: Tensor) -> Tensor:
        return self._weights(self._eta(self._magnitude(w))).sqrt().to(w.dtype.to_real())

    def eta(self, w: Tensor) -> Tensor:
        return self._eta(self._magnitude(w)).to(w.dtype.to_real())

    def dual(self, eta: Tensor) -> Tensor:
        exact = self._magnitude(eta)
        X = self.X.to(torch.complex128 if self.X.is_complex() else torch.float64)
        matrix = (X * exact.unsqueeze(-2)) @ X.mH / self.tau
        matrix = matrix + torch.eye(len(X), dtype=X.dtype, device=X.device)
        return torch.linalg.slogdet(matrix)[1].unsqueeze(-1).to(eta.dtype)

    def prox(self, v: Tensor, step: Tensor | float) -> Tensor:
        z = self._magnitude(v)
        step = step_tensor(step, z).expand(z.shape)
        with torch.no_grad():
            best = None
            for start in (torch.zeros_like(z), z / self._weights(0 * z).sqrt()):
                eta = self._descend(z, step, self._stationary(z, step, start, 500))
                cost = (step * z.square() / (eta + step)).sum(-1, keepdim=True) + (step * self.dual(eta))[..., :1]
                if best is not None:
                    eta, cost = (torch.where(cost < best[1], *pair) for pair in ((eta, best[0]), (cost, best[1])))
                best = eta, cost
        assert best is not None
        eta = self._differentiable(best[0], z, step)
        return (v * (eta / (eta + step))).to(v.dtype)

    def _descend(self, z: Tensor, step: Tensor, eta: Tensor) -> Tensor:
        """Global minima over one η_j after another, in cycles, until the objective rests."""
        for _ in range(100):
            before = eta
            for j in range(eta.shape[-1]):
                others = eta.clone()
                others[..., j] = 0
                q = self._weights(others)[..., j]
                eta = others
                eta[..., j] = _alone(z[..., j], step[..., j], q)
            if torch.allclose(before, eta, rtol=1e-13, atol=0):
                break
        return eta

    def threshold(self, step: Tensor | float) -> Tensor:
        """The largest |v_j| that `prox` can send to 0, reached when all others are 0.

        Parameters
        ----------
        step : Tensor that broadcasts with (p,), or float; > 0

        Returns
        -------
        Tensor, (..., p)
        """
        step = step_tensor(step)
        q = self.X.abs().square().sum(0).to(step) / self.tau
        a = step * q
        # inf over y = qη of (1 + a/y) log(1 + y), which is a at y = 0; inside, its derivative is 0 where this is
        low, high = torch.zeros_like(a), a.exp().clamp(max=1e12)
        for _ in range(100):
            y = (low + high) / 2
            falls = y * (y + a) < a * (1 + y) * torch.log1p(y)
            low, high = torch.where(falls, y, low), torch.where(falls, high, y)
        y = ((low + high) / 2).detach().clamp(min=1e-12)
        return (step * torch.minimum(a, (1 + a / y) * torch.log1p(y))).sqrt()


def _alone(z: Tensor, step: Tensor, q: Tensor) -> Tensor:
    """The η ≥ 0 that minimises z²/(η + step) + log(1 + qη): 0 or the larger root of (η + step)²q = z²(1 + qη)."""
    half = z.square() / 2 - step
    square = half.square() - step.square() + z.square() / q
    eta = (half + square.clamp(min=0).sqrt()).clamp(min=0)
    better = (square >= 0) & (z.square() / (eta + step) + torch.log1p(q * eta) < z.square() / step)
    return torch.where(better, eta, 0.0)
