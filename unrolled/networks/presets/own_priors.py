"""The priors of a network's phases: a default, or one of the user's own."""

from collections.abc import Callable

from unrolled.networks.composed import check_images, each_phase
from unrolled.networks.priors.map_prior import MapPrior
from unrolled.networks.priors.module_prior import as_prior
from unrolled.networks.priors.prior import Prior


def priors_of_phases(
    owner: str,
    prior: Prior | list[Prior] | None,
    default: Callable[[], Prior],
    phases: int,
    shared: bool,
    complex_images: bool,
) -> list[Prior]:
    """A prior for each phase.

    Parameters
    ----------
    owner : str
        for errors.
    prior : Prior, any module that maps images to images, a list of them, or None
        the first phase's; those of others are made like it, each with weights of its own. A list: one for each phase.
        None: the default.
    default : () ↦ Prior
    phases : int
    shared : bool
        whether all phases have the one.
    complex_images : bool
        what the network is made for.

    Raises
    ------
    ValueError
        if a prior is made for other images than the network, or if a list does not have one for each.
    """
    given: Prior | list[Prior]
    if isinstance(prior, (list, tuple)):
        given = [as_prior(each) for each in prior]
    else:
        given = default() if prior is None else as_prior(prior)
    made = each_phase(owner, "prior", given, Prior, 1 if shared else phases)
    for each in made:
        check_images(owner, each, complex_images)
    return made * phases if shared else made


def listens(prior: Prior) -> bool:
    """Whether a prior looks at what it is told; those of the class `MapPrior` do if they were made with ranges."""
    return not isinstance(prior, MapPrior) or prior.factors is not None
