"""The shrinkage of codes in every phase of a network, and which of their entries it trusts."""

import torch
from torch import Tensor, nn

from unrolled.networks.maps import scaled
from unrolled.networks.shrinkage import Shrinkage, ShrinkageMixture, shrinkage_of
from unrolled.penalties import Penalty


class CodeShrinkage(nn.Module):
    """S(v) of codes as vectors; the largest entries, if some are trusted, are left as they are where S is not 0.

    Parameters
    ----------
    shrinkage : Shrinkage or ShrinkageMixture
        of codes (number, entries).
    trusted : int
        how many entries of every code; none: S alone.
    """

    def __init__(self, shrinkage: Shrinkage | ShrinkageMixture, trusted: int = 0):
        super().__init__()
        self.shrinkage, self.trusted = shrinkage, trusted

    def forward(self, v: Tensor, factor: Tensor | None = None) -> Tensor:
        """Shrink.

        Parameters
        ----------
        v : Tensor, (batch, channel, entries), real or complex
        factor : Tensor, (batch,), optional
            of the thresholds.
        """
        codes = v.flatten(0, 1)
        factor = None if factor is None else factor.repeat_interleave(v.shape[1]).unsqueeze(1)
        shrunk = scaled(self.shrinkage, factor)(codes)
        if self.trusted:
            size = codes.abs()
            least = size.topk(self.trusted, 1).values[:, -1:]
            shrunk = torch.where((size >= least) & (shrunk != 0), codes, shrunk)
        return shrunk.view_as(v)


def code_shrinkages(
    owner: str,
    phases: int,
    entries: int,
    penalty: Penalty | list[Penalty] | None,
    learn_penalty: bool,
    shrink_entries: bool,
    threshold: float,
    trusted: float,
    most_trusted: float,
) -> list[CodeShrinkage]:
    """The shrinkage of every phase: in phase k = 1, 2, … the share min(k·trusted, most_trusted) of the entries is
    trusted.

    Raises
    ------
    ValueError
        for shares that are not in [0, 1]; and as `Shrinkage`.
    """
    for name, share in (("trusted", trusted), ("most_trusted", most_trusted)):
        if not 0 <= share <= 1:
            raise ValueError(f"{owner}: {name} must be in [0, 1], got {share!r}")
    return [
        CodeShrinkage(
            shrinkage_of(penalty, entries if shrink_entries else None, threshold, learn_penalty),
            int(min(k * trusted, most_trusted) * entries),
        )
        for k in range(1, phases + 1)
    ]
