"""Variational dropout as a penalty."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unrolled.penalties.curve import Curve
from unrolled.penalties.dawson_integral import dawson
from unrolled.penalties.interpolated import CostlyCurve
from unrolled.penalties.numeric import NumericPenalty
from unrolled.penalties.penalty import Formulas
from unrolled.penalties.root_finding import geometric_grid
from unrolled.system.compilation import outside_graphs
from unrolled.system.devices import in_double


@dataclass(frozen=True, eq=False)
class _DualCurve(CostlyCurve):
    """A penalty known through its dual f: at u = η it has z = η√f'(η) and ρ = ½(z²/η + f(η))."""

    dual: Callable[[Tensor], tuple[Tensor, Tensor]]
    """f and f', for 0 < η < ∞."""

    def nodes(self, device: torch.device) -> Tensor:
        return geometric_grid(2.0**-54, 2.0**64, device)

    def at(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return u * self.dual(u)[1].sqrt(), u

    def value(self, u: Tensor) -> Tensor:
        f, slope = self.dual(u)
        return (u * slope + f) / 2


class _PenaltyOfDual(NumericPenalty):
    """A penalty known through its dual."""

    @abstractmethod
    def _dual(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        """f and f', for 0 < η < ∞."""

    def _make_curve(self) -> Curve:
        return _DualCurve(self._dual).interpolated()

    @outside_graphs
    def dual(self, eta: Tensor) -> Tensor:
        exact = in_double(eta)
        inside = torch.where((exact == 0) | exact.isinf(), 1.0, exact)
        f = torch.where(exact.isinf(), exact, self._dual(inside)[0])
        return torch.where(exact == 0, 0 * exact, f).to(eta.device, eta.dtype)


@dataclass(frozen=True)
class VariationalDropout(_PenaltyOfDual):
    """What variational dropout amounts to at strength 1: Gaussian noise of variance 1/η, at the cost f(η)/2 of telling
    the noisy weight, by its divergence from a log-uniform prior (up to a constant).

    f'(η) = D(x)/x with x = √(η/2) and Dawson's integral D; ρ has the slope 1 at 0 and is log z + 1.135 for large z.
    """

    formulas: ClassVar = Formulas(
        value="½(z²/η + f(η)) at the η for which z = η√f'(η)",
        threshold="numeric",
        eta="numeric",
        dual="4∫ D from 0 to √(η/2), D Dawson's integral",
        source="Kingma, Salimans, Welling, Advances in Neural Information Processing Systems 28, 2015",
    )

    def _dual(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        x = (eta / 2).sqrt()
        value, integral = dawson(x)
        return 4 * integral, value / x


@dataclass(frozen=True)
class VariationalDropoutFit(_PenaltyOfDual):
    """Variational dropout with a closed form fitted to the divergence, to 9.4e-3 in f/2 for η in [1e-4, 1e4].

    f(η) = 2k₁σ(k₃ log η − k₂) + log(1 + η) with k = (0.63576, 1.8732, 1.48695).
    """

    formulas: ClassVar = Formulas(
        value="½(z²/η + f(η)) at the η for which z = η√f'(η)",
        threshold="numeric",
        eta="numeric",
        dual="2k₁σ(k₃ log η − k₂) + log(1 + η)",
        source="Molchanov, Ashukha, Vetrov, Int. Conf. Machine Learning, 2017",
    )

    def _dual(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        k1, k2, k3 = 0.63576, 1.8732, 1.48695
        sigmoid = torch.sigmoid(k3 * eta.log() - k2)
        f = 2 * k1 * sigmoid + torch.log1p(eta)
        return f, 2 * k1 * k3 * sigmoid * (1 - sigmoid) / eta + 1 / (1 + eta)
