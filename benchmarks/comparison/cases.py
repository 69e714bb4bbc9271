"""What a problem is tested on: measurements, the operator of each, and the true image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from unrolled.metrics import psnr, ssim
from unrolled.operators import LinearOperator


@dataclass(frozen=True)
class Case:
    """Noisy measurements of a test image, of about unit scale.

    Parameters
    ----------
    name : str
        of the image.
    y : Tensor, its measurements
    operator : LinearOperator
    truth : Tensor, (1, 1, height, width), real
        in the units of the data.
    peak : float
        of PSNR, and the data range of SSIM.
    shown : callable reconstruction ↦ Tensor, (1, 1, height, width)
        what is compared with the truth: in its units, cut to its size, of complex images the magnitude.
    """

    name: str
    y: Tensor
    operator: LinearOperator
    truth: Tensor
    peak: float
    shown: Callable[[Tensor], Tensor]

    def figures(self, found: Tensor) -> dict[str, Any]:
        """PSNR and SSIM of a reconstruction."""
        image = self.shown(found)
        quality = psnr(image, self.truth, self.peak), ssim(image, self.truth, peak=self.peak)
        return {"name": self.name, "psnr": float(quality[0]), "ssim": float(quality[1])}
