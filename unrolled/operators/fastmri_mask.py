"""The masks of the fastMRI challenge, column by column as its own code draws them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from unrolled.operators.sampling import SamplingMask


@dataclass(frozen=True)
class FastMRIMask(SamplingMask):
    """Columns as fastMRI's published code draws them: a fully sampled middle, and random or equispaced columns.

    With the same numbers and the same seed every column is the same as there, so that figures can be compared with
    published ones (Zbontar and others, arXiv:1811.08839, section 4.9; Muckley and others, arXiv:2012.06318). The paper
    has acceleration 4 with a middle of .08, and 8 with .04. Of n columns round(n·center) are the middle, and

    - "random": every column is sampled with the probability that makes n / acceleration of them expected in all;
    - "equispaced": the distance is such that there are about n / acceleration in all, so it is larger than
      `acceleration`, and rounded for each column (the challenge's multi-coil data);
    - "magic": columns at a distance of `acceleration`, shifted on one side such that none mirrors another, for k-space
      is nearly symmetric (Defazio, arXiv:1912.01101). There are more than n / acceleration.

    Parameters
    ----------
    acceleration : float > 1
        for "magic" a whole number >= 3.
    center : float in (0, 1 / acceleration)
        the part of the columns that is the fully sampled middle.
    columns : "random", "equispaced" or "magic"
        how those outside of the middle are chosen.
    seed : int or str
        a name makes the seed that fastMRI's evaluation makes of the name of a volume's file, such as
        "file1000000.h5": the numbers of its letters. So all slices of a volume have one mask.

    Raises
    ------
    ValueError
        when drawn, for images so narrow that the middle has no column, or takes all columns that may be sampled.
    """

    acceleration: float = 4.0
    center: float = 0.08
    columns: Literal["random", "equispaced", "magic"] = "random"
    seed: int | str = 0

    def __post_init__(self) -> None:
        self._check("acceleration", self.acceleration, 1, 2**31)
        self._check("center", self.center, 0, 1)
        if self.columns not in ("random", "equispaced", "magic"):
            raise ValueError(f"FastMRIMask: columns must be random, equispaced or magic, got {self.columns!r}")
        if self.columns == "magic" and (self.acceleration < 3 or self.acceleration % 1):
            raise ValueError(
                f"FastMRIMask: acceleration must be a whole number >= 3 for magic columns, got {self.acceleration!r}"
            )
        if isinstance(self.seed, int):
            self._check_seed(self.seed)
        elif not self.seed:
            raise ValueError("FastMRIMask: seed must be a whole number or the name of a file, got an empty name")

    def centered(self, height: int, width: int) -> np.ndarray:
        middle = round(width * self.center)
        if not 1 <= middle < width / self.acceleration:
            raise ValueError(
                f"FastMRIMask: of {width} columns {middle} would be the fully sampled middle, but it must be at least "
                f"one, and fewer than {width} / {self.acceleration:g}; give another center or acceleration"
            )
        random = np.random.RandomState(self.seed if isinstance(self.seed, int) else [*map(ord, self.seed)])
        sampled = getattr(self, f"_{self.columns}")(random, width, middle)
        first = (width - middle + 1) // 2
        sampled[first : first + middle] = True
        return np.broadcast_to(sampled, (height, width)).copy()

    def _random(self, random: np.random.RandomState, width: int, middle: int) -> np.ndarray:
        return random.uniform(size=width) < (width / self.acceleration - middle) / (width - middle)

    def _equispaced(self, random: np.random.RandomState, width: int, middle: int) -> np.ndarray:
        distance = self.acceleration * (middle - width) / (middle * self.acceleration - width)
        sampled = np.zeros(width, dtype=bool)
        places = np.arange(random.randint(0, round(distance)), width - 1, distance)
        sampled[np.around(places).astype(int)] = True
        return sampled

    def _magic(self, random: np.random.RandomState, width: int, middle: int) -> np.ndarray:
        distance = int(self.acceleration)
        offset = random.randint(0, distance)
        # Counted from the zero frequency to the right, and from its left neighbour to the left.
        right, left = (offset + 1, offset + 2) if offset % 2 == 0 else (offset + 2, offset - 1)
        sampled = np.zeros(width, dtype=bool)
        sampled[width // 2 + right :: distance] = True
        sampled[np.arange(width // 2 - 1 - left, -1, -distance)] = True
        return sampled
