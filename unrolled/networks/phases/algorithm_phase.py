"""Phases that are made of a prior and of steps with the operator."""

from torch import Tensor

from unrolled.networks.phases.phase import Phase
from unrolled.networks.priors.module_prior import as_prior
from unrolled.networks.priors.prior import Prior


class AlgorithmPhase(Phase):
    """One iteration of an algorithm in which a prior stands, any one; what is carried on and looked at follows from it.

    Parameters
    ----------
    prior : Prior, or any module that maps images to images
        see `as_prior`.
    """

    def __init__(self, prior: Prior):
        super().__init__()
        self.prior = as_prior(prior)
        self.reach, self.alignment = self.prior.reach, self.prior.alignment

    def denoised(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """What the prior makes of images.

        Raises
        ------
        ValueError
            if that has another shape or kind.
        """
        found: Tensor = self.prior(z, condition)
        if not isinstance(found, Tensor) or found.shape != z.shape or found.is_complex() != z.is_complex():
            what = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"{type(self).__name__}: the prior {type(self.prior).__name__} must return images like those that it "
                f"is given, {z.dtype} {tuple(z.shape)}, got {what}"
            )
        return found
