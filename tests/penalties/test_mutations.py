"""Wrong penalties of the kinds that have been published: the laws, which right ones pass, must see them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch

from tests.penalties import laws
from unrolled.penalties import (
    L0,
    L1,
    MCP,
    SCAD,
    CappedL1,
    Cauchy,
    ElasticNet,
    Exponential,
    Geman,
    LogSum,
    Lp,
    Penalty,
    ScaledArctan,
    SeparablePenalty,
    TransformedL1,
)
from unrolled.penalties.magnitudes import step_tensor


class L0AtTheStep(L0):
    def threshold(self, step):
        return step_tensor(step)


class MCPWithoutHardBranch(MCP):
    def _shrink(self, magnitude, step):
        firm = (magnitude - step * self.gamma) / (1 - step / self.b)
        return torch.where(magnitude > self.b * self.gamma, magnitude, firm)

    def threshold(self, step):
        return step_tensor(step) * self.gamma


class SCADOnlyForSmallSteps(SCAD):
    def _shrink(self, magnitude, step):
        soft = (magnitude - step * self.gamma).clamp(min=0)
        bent = ((self.a - 1) * magnitude - self.a * self.gamma * step) / (self.a - 1 - step)
        inner = torch.where(magnitude <= (1 + step) * self.gamma, soft, bent)
        return torch.where(magnitude > self.a * self.gamma, magnitude, inner)

    def threshold(self, step):
        return step_tensor(step) * self.gamma


class LogSumWithoutJump(LogSum):
    def threshold(self, step):
        return step_tensor(step) / self.epsilon


class LogSumWithoutComparison(LogSum):
    def threshold(self, step):  # where the larger root appears, not where it is better than 0
        step = step_tensor(step)
        return torch.where(step > self.epsilon**2, 2 * step.sqrt() - self.epsilon, step / self.epsilon)


class LogSumWithAnotherScale(LogSum):
    def _solve(self, magnitude, step):
        return super()._solve(magnitude, 2 * step)


class LogSumOfLogOnly(LogSum):
    def _value(self, z):
        return torch.log(self.epsilon + z)


class TransformedL1WithOneRegime(TransformedL1):
    def threshold(self, step):
        return step_tensor(step) * (self.a + 1) / self.a


class TransformedL1WithTheOtherRegime(TransformedL1):
    def threshold(self, step):
        return ((2 * step_tensor(step) * (self.a + 1)).sqrt() - self.a / 2).clamp(min=0)


class CappedL1SplitAtTheCap(CappedL1):
    def _shrink(self, magnitude, step):
        return torch.where(magnitude > self.theta, magnitude, (magnitude - step).clamp(min=0))


class ElasticNetWithoutScaling(ElasticNet):
    def _shrink(self, magnitude, step):
        return magnitude - step * self.a


class LpWithAnotherThreshold(Lp):
    def threshold(self, step):  # the constant of a step of ½
        return step_tensor(step) ** (1 / (2 - self.p)) * 1.5 * 2 ** (-2 / 3)


class HalfWithAnotherAngle(Lp):
    def _solve(self, magnitude, step):
        return magnitude * (2 / 3) * (1 + torch.cos(torch.acos(-(3**1.5) / 8 * step * magnitude**-1.5) * 2 / 3))


class GemanToOneFewer(Geman):
    def _shrink(self, magnitude, step):
        return super()._shrink(magnitude, step * self.gamma)


class CauchyWithTheLargestRoot(Cauchy):
    def _better(self, low, high, magnitude, step):
        return high


class CauchyWithAFreeRoot(Cauchy):
    def _better(self, low, high, magnitude, step):
        return low


class ScaledArctanWithTheLargestRoot(ScaledArctan):
    def _better(self, low, high, magnitude, step):
        return high


class SoftOfTheSignedValue(L1):
    def prox(self, v, step):
        return (v - step).clamp(min=0)


class SoftWithANegativeThreshold(L1):
    def prox(self, v, step):
        return v.sgn() * (v.abs() + step)


class SoftOfRealAndImaginaryParts(L1):
    def prox(self, v, step):
        if not v.is_complex():
            return super().prox(v, step)
        return torch.complex(super().prox(v.real, step), super().prox(v.imag, step))


class ExponentialOfASquare(Exponential):
    def _slope(self, z):
        return torch.exp(-z / self.gamma)


class ExponentialAfterOneStep(Exponential):
    def _solve(self, magnitude, step):
        return magnitude - step * self._slope(magnitude)


class MCPWithoutTheScalingOfTheDual(MCP):
    def dual(self, eta):
        return self.gamma * self.b * eta / (eta + self.b)


class SCADWithTheKnotOfAnotherSlope(SCAD):
    def dual(self, eta):
        bent = self.gamma**2 * ((self.a + 1) * eta - 1) / (eta + self.a - 1)
        return torch.where(eta <= self.gamma, self.gamma**2 * eta, bent)


class CauchyWithTheSlippedSign(Cauchy):
    def dual(self, eta):
        h = (2 * eta / self.gamma**2).clamp(min=1)
        return 2 * (h.log() - 1 / h + 1)


class CauchyWithoutTheHalfOfEta(Cauchy):
    def _eta(self, z):
        return self.gamma**2 + z.square()


class LogSumWithTheOffsetOfEta(LogSum):
    def _eta(self, z):
        return (self.epsilon + z).square()


class DropoutByTheSquaredQuotient(L1):
    def keep_probability(self, w, strength):
        return self.eta(w).square() / (self.eta(w).square() + strength)


class SoftWithAGradientBelow(L1):
    def prox(self, v, step):
        return v + (super().prox(v, step) - v).detach()


class LogSumWithTheStepDetached(LogSum):
    def _prox(self, magnitude, step):
        return super()._prox(magnitude, step.detach() if isinstance(step, torch.Tensor) else step)


class GemanWithGradientsOfLeavingOutItsSlope(Geman):
    def _curvature(self, z):
        return 0 * z


class GemanWithAThresholdOfOneGradient(Geman):
    def threshold(self, step):
        return super().threshold(step).detach() + 0 * step_tensor(step)


class MCPWithNaN(MCP):
    def _shrink(self, magnitude, step):
        firm = (magnitude - step * self.gamma) / (1 - step / self.b)
        return torch.where((step < self.b) & (magnitude < self.b * self.gamma), firm, magnitude)


class TransformedL1BySinglePrecisionCosine(TransformedL1):
    def _solve(self, magnitude, step):
        far = self.a + magnitude
        cosine = 1 - 13.5 * step * self.a * (self.a + 1) / far**3
        return 2 / 3 * far * torch.cos(torch.acos(cosine.clamp(-1, 1)) / 3) - 2 / 3 * self.a + magnitude / 3


@dataclass(frozen=True)
class Cube(SeparablePenalty):
    """ρ(z) = z³ grows faster than a square: no dropout belongs to it that keeps larger numbers more often."""

    def _value(self, z):
        return z**3

    def _slope(self, z):
        return 3 * z.square()

    def _shrink(self, magnitude, step):
        return ((1 + 12 * step * magnitude).sqrt() - 1) / (6 * step)

    def threshold(self, step):
        return 0 * step_tensor(step)


minimiser, threshold, shrinks, phase = (
    laws.prox_is_the_global_minimiser,
    laws.threshold_is_where_the_prox_leaves_zero,
    laws.prox_is_odd_monotone_and_shrinks,
    laws.prox_of_complex_numbers_keeps_the_phase,
)
gradients, edges, digits = (
    laws.gradients_of_prox_are_its_differences,
    laws.gradients_of_threshold_are_its_differences,
    laws.digits_are_kept,
)
finite = partial(laws.gradients_are_finite_everywhere, dtype=torch.float64)
derivative, eta, dual, coin = (
    laws.derivative_is_that_of_the_value,
    laws.eta_is_the_quotient,
    laws.dual_is_the_supremum_of_its_definition,
    laws.value_is_the_minimum_over_eta_reached_at_eta,
)
dropout, masks, concave = (
    laws.dropout_is_the_reweighted_penalty,
    laws.masks_add_the_predicted_penalty,
    laws.keeping_more_of_the_larger_is_concavity_in_the_square,
)

# What is wrong, and the laws that see it, with the step (or strength) at which they do.
WRONG: list[tuple[Penalty, Callable[..., None], list[float | torch.Tensor]]] = [
    (L0AtTheStep(), minimiser, [torch.tensor(0.5, dtype=torch.float64)]),  # of a number it takes the threshold itself
    (L0AtTheStep(), threshold, [0.5]),
    (MCPWithoutHardBranch(), minimiser, [3.0]),
    (MCPWithoutHardBranch(), threshold, [3.0]),
    (SCADOnlyForSmallSteps(), minimiser, [3.5]),
    (SCADOnlyForSmallSteps(), minimiser, [6.0]),
    (LogSumWithoutJump(), minimiser, [3.0]),
    (LogSumWithoutJump(), threshold, [3.0]),
    (LogSumWithoutComparison(), minimiser, [3.0]),
    (LogSumWithoutComparison(), threshold, [3.0]),
    (LogSumWithAnotherScale(), minimiser, [0.5]),
    (LogSumOfLogOnly(0.5), derivative, []),
    (TransformedL1WithOneRegime(), minimiser, [2.0]),
    (TransformedL1WithOneRegime(), threshold, [2.0]),
    (TransformedL1WithTheOtherRegime(), threshold, [0.1]),
    (CappedL1SplitAtTheCap(), minimiser, [0.5]),
    (CappedL1SplitAtTheCap(), minimiser, [1.5]),
    (ElasticNetWithoutScaling(), minimiser, [1.0]),
    (LpWithAnotherThreshold(), minimiser, [1.0]),
    (LpWithAnotherThreshold(), threshold, [1.0]),
    (HalfWithAnotherAngle(), minimiser, [1.0]),
    (GemanToOneFewer(0.5), minimiser, [0.2]),
    (CauchyWithTheLargestRoot(), minimiser, [10.0]),
    (CauchyWithAFreeRoot(), minimiser, [10.0]),
    (ScaledArctanWithTheLargestRoot(), minimiser, [2.8]),
    (SoftOfTheSignedValue(), shrinks, [0.5]),
    (SoftWithANegativeThreshold(), shrinks, [0.5]),
    (SoftWithANegativeThreshold(), minimiser, [0.5]),
    (SoftOfRealAndImaginaryParts(), phase, [0.5]),
    (ExponentialOfASquare(0.5), derivative, []),
    (ExponentialAfterOneStep(), minimiser, [0.5]),
    (MCPWithoutTheScalingOfTheDual(2.0), dual, []),
    (MCPWithoutTheScalingOfTheDual(2.0), coin, []),
    (SCADWithTheKnotOfAnotherSlope(2.0), dual, []),
    (CauchyWithTheSlippedSign(), dual, []),
    (CauchyWithTheSlippedSign(), coin, []),
    (CauchyWithoutTheHalfOfEta(), eta, []),
    (CauchyWithoutTheHalfOfEta(), coin, []),
    (CauchyWithoutTheHalfOfEta(), dropout, [0.7]),
    (CauchyWithoutTheHalfOfEta(), masks, []),
    (LogSumWithTheOffsetOfEta(), eta, []),
    (DropoutByTheSquaredQuotient(), dropout, [0.7]),
    (DropoutByTheSquaredQuotient(), masks, []),
    (Cube(), concave, []),
    (SoftWithAGradientBelow(), gradients, [0.5]),
    (LogSumWithTheStepDetached(), gradients, [0.5]),
    (GemanWithGradientsOfLeavingOutItsSlope(), gradients, [0.3]),
    (GemanWithAThresholdOfOneGradient(), edges, [0.3]),
    (MCPWithNaN(), finite, [2.0]),
    (TransformedL1BySinglePrecisionCosine(1000.0), digits, [0.5]),
]


def named(case) -> str:
    return getattr(case, "__name__", type(case).__name__)


@pytest.mark.parametrize(("wrong", "law", "step"), WRONG, ids=named)
def test_the_laws_see_what_is_wrong(wrong, law, step):
    with pytest.raises(AssertionError):
        law(wrong, *step)


def test_both_faces_of_concavity_fail_together():
    # The law asks for both, so each must be able to fail by itself.
    assert not laws.dropout_is_monotone(Cube())
    assert not laws.value_is_concave_in_the_square(Cube())
