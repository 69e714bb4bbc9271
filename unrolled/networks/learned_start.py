"""A start with a learned part."""

from torch import Tensor

from unrolled.networks.phases.phase import Phase, State
from unrolled.networks.priors.map_prior import MapPrior
from unrolled.networks.priors.module_prior import as_prior
from unrolled.networks.priors.prior import Prior
from unrolled.networks.starts import LinearStart, Start
from unrolled.operators import LinearOperator


class LearnedStart(Start):
    """x₀ = prior(start(y, operator)): a first image that a prior has improved, such as filtered back-projection.

    What reports call the start of the network, and compare it with, is the inner start, in which nothing is learned.

    Parameters
    ----------
    prior : Prior, or any module that maps images to images
        see `as_prior`; it is told nothing.
    start : Start, optional
        by default `LinearStart()`.

    Raises
    ------
    ValueError
        for a prior that is made with ranges, which asks for a condition.

    Examples
    --------
    >>> from unrolled.networks import EPGN, ResidualCNN
    >>> EPGN(phases=2, features=8, start=LearnedStart(ResidualCNN(features=8, depth=3))).parameter_count
    5641
    """

    def __init__(self, prior: Prior, start: Start | None = None):
        super().__init__()
        self.start = LinearStart() if start is None else start
        self.improvement = Improvement(prior)

    @property
    def unlearned(self) -> Start:
        return self.start.unlearned

    @property
    def learned(self) -> list[Phase]:
        return [*self.start.learned, self.improvement]

    def forward(self, y: Tensor, operator: LinearOperator) -> Tensor:
        (x,) = self.improvement((self.start(y, operator),), y, operator)
        return x


class Improvement(Phase):
    """x⁺ = prior(x), a phase without the measurements, so that it goes through tiles as phases do.

    Parameters
    ----------
    prior : Prior, or any module that maps images to images
    """

    data_steps = 0

    def __init__(self, prior: Prior):
        super().__init__()
        self.prior = as_prior(prior)
        if isinstance(self.prior, MapPrior) and self.prior.factors is not None:
            raise ValueError(
                f"LearnedStart: the prior is told nothing, and {type(self.prior).__name__} is made with ranges, which "
                "ask for a condition; make it without"
            )
        self.reach, self.alignment = self.prior.reach, self.prior.alignment

    def forward(self, state: State, y: Tensor, operator: LinearOperator, condition: Tensor | None = None) -> State:
        (x,) = state
        found: Tensor = self.prior(x)
        if found.shape != x.shape or found.is_complex() != x.is_complex():
            raise ValueError(
                f"LearnedStart: the prior {type(self.prior).__name__} must return images like those that it is given, "
                f"{x.dtype} {tuple(x.shape)}, got {found.dtype} {tuple(found.shape)}"
            )
        return (found,)
