"""From measured k-space to the picture: coils, scale, and a network or a classical method."""

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from unrolled.data.kspace_files import KSpace
from unrolled.data.kspace_layout import magnitude, middle
from unrolled.operators import (
    CoilMaps,
    Espirit,
    LinearOperator,
    LowResolution,
    MaskedFourier,
    MultiCoilFourier,
    SampledFourier,
)
from unrolled.operators.units import image_scale
from unrolled.solvers import conjugate_gradient
from unrolled.solvers.methods import classical
from unrolled.system.arraylike import ArrayLike, as_tensor

NEGLIGIBLE, TOO_MUCH = 0.01, 0.1
"""Parts of the measured energy that real images cannot explain: below, they are real; above, networks of real images
are refused."""

Method = Callable[[Tensor, LinearOperator], Tensor]
"""(y, operator) ↦ x: a network, or one of `METHODS`."""


def zero_fill(y: Tensor, operator: LinearOperator) -> Tensor:
    """Aᴴ y: what was not sampled is 0, and coils are added up with their sensitivities."""
    return operator.adjoint(y)


METHODS: dict[str, Method] = {
    "zero-fill": zero_fill,
    **{name: partial(classical, name) for name in ("wavelet-l1", "tv", "reweighted")},
}
"""The classical methods by their names: functions (y, operator) ↦ x, for k-space of images in [0, 1]."""


def coil_magnitude(kspace: KSpace) -> Tensor:
    """The root of the sum of squares over the coils' zero-filled images, (height, width), float64."""
    return magnitude(kspace.y.to(torch.complex128), kspace.centered)


def kspace_operator(
    kspace: KSpace, complex_images: bool = True, maps: CoilMaps | ArrayLike | None = None, center: int | None = None
) -> SampledFourier:
    """The operator that measured this k-space.

    Of one coil it is `MaskedFourier`, of several `MultiCoilFourier`. Real images cannot explain k-space of an image
    with a phase. If they leave more than 1 % of its energy unexplained, the smooth part of the phase is taken from the
    middle of k-space and is from then on part of the operator: an approximation, of which a warning tells how much of
    the energy it leaves. Beyond 10 % it is refused.

    Parameters
    ----------
    kspace : KSpace
    complex_images : bool
        whether the images are to be complex: what a network was trained for.
    maps : CoilMaps, or Tensor or array (coil, height, width) or (set, coil, height, width), optional
        a way to estimate the sensitivities of the coils, or these themselves, in any units; of several sets, see
        `MultiCoilFourier`. By default several coils have those of `Espirit`.
    center : int, optional
        side of the square in the middle of k-space that is looked at by default.

    Raises
    ------
    ValueError
        if maps do not fit or cannot be estimated, or for images that cannot be taken as real.
    """
    if maps is not None and center is not None:
        raise ValueError(f"center: is how maps are estimated by default, but maps are given; got {center!r}")
    how = {"complex_images": complex_images, "centered": kspace.centered}
    if maps is None and len(kspace.y) == 1:
        single = MaskedFourier(kspace.mask, **how)
        if complex_images or unexplained(kspace, single) <= NEGLIGIBLE:
            return single
    given = maps is not None and not isinstance(maps, CoilMaps)
    if maps is None:
        maps = Espirit(center) if len(kspace.y) > 1 else LowResolution(center)
    operator = MultiCoilFourier(_maps_of(kspace, maps), kspace.mask, **how)
    if not complex_images:
        part = unexplained(kspace, operator)
        if part > TOO_MUCH:
            raise ValueError(
                f"k-space: {part:.0%} of its energy is none that a real image can explain, with the phase of its "
                "middle taken off; use weights of complex images, or a method"
            )
        if part > NEGLIGIBLE or not given:
            warnings.warn(
                "the network makes real images: the phase is taken from the middle of k-space, an approximation "
                f"that leaves {part:.1%} of the measured energy unexplained",
                stacklevel=2,
            )
    return operator


def _maps_of(kspace: KSpace, maps: CoilMaps | ArrayLike) -> Tensor:
    """Maps as the operator takes them: several sets have an axis of images before them."""
    if isinstance(maps, CoilMaps):
        return maps.estimate(kspace.y, kspace.mask, kspace.centered)
    maps = as_tensor("maps", maps)
    maps = maps[0] if maps.ndim == 5 and len(maps) == 1 else maps  # as they are estimated
    if maps.ndim not in (3, 4) or maps.shape[-3] != len(kspace.y):
        raise ValueError(
            f"maps: must be (coil, height, width) or (set, coil, height, width) of {len(kspace.y)} coils like k-space, "
            f"got {tuple(maps.shape)}"
        )
    return maps if maps.ndim == 3 else maps[None]


def unexplained(kspace: KSpace, operator: LinearOperator, iterations: int = 30) -> float:
    """min_x ‖Ax − y‖²/‖y‖², the part of the measured energy that no image of the operator explains.

    By conjugate gradients, so it is an estimate from above.
    """
    y = measurements(kspace, operator)
    y = y / y.abs().max()
    found = conjugate_gradient(y, operator, iterations=iterations, tolerance=0.0, record=False).image
    return float((operator(found) - y).norm().square() / y.norm().square())


def measurements(kspace: KSpace, operator: LinearOperator) -> Tensor:
    """k-space as a batch of one image, in the shape that the operator states."""
    channels = operator.image_shape[0] if operator.image_shape else 0
    return kspace.y.reshape(1, *operator.measurement_shape((channels or 1, *kspace.mask.shape)))


def reconstruct_kspace(
    kspace: KSpace,
    method: Method,
    operator: LinearOperator,
    size: tuple[int, int] | None = None,
    *,
    bfloat16: bool = False,
) -> Tensor:
    """Reconstruct one slice.

    Networks are trained on images in [0, 1], and the units of k-space and of coils are arbitrary: k-space is divided by
    the largest magnitude of the image that the operator makes of it (`image_scale`), and the result is multiplied by it
    again.

    Parameters
    ----------
    kspace : KSpace
    method : a network, or one of `METHODS`
    operator : LinearOperator
        from `kspace_operator`, on the device where the work is to be done.
    size : (height, width), optional
        of the part in the middle that is returned: what scanners sample beyond the image ("oversampling") is cut off.
    bfloat16 : bool
        run the learned part in bfloat16.

    Returns
    -------
    Tensor, (height, width), float32
        the magnitude, in the units of k-space over those of the maps; of several sets, the root of the sum of squares

    Raises
    ------
    ValueError
        if the numbers of k-space are too large or too small, or size is larger than the image.
    """
    units = 1.0
    if isinstance(operator, MultiCoilFourier):
        operator, gain = operator.with_unit_maps()
        units = float(gain)
    device = next(operator.buffers()).device
    y = measurements(kspace, operator).to(device)
    scale = float(image_scale(y, operator))
    y = y / scale
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        x = method(y, operator)
    image = scale / units * torch.linalg.vector_norm(x[0], dim=0).float().cpu()
    if not bool(torch.isfinite(image).all()):
        raise ValueError(f"k-space: no image could be made of it, its numbers reach {float(kspace.y.abs().max()):.3g}")
    return middle(image, size or (image.shape[0], image.shape[1]))
