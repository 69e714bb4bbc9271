"""Our operators in deepinv; `as_operator` is the way back."""

from typing import TYPE_CHECKING

from unrolled.operators.intake import numbers_of
from unrolled.operators.operator import LinearOperator
from unrolled.system.vision import import_torchvision

if TYPE_CHECKING:
    from deepinv.physics import LinearPhysics


def to_deepinv(operator: LinearOperator) -> "LinearPhysics":
    """The operator as a `LinearPhysics` of deepinv, without noise; it shares its tensors.

    deepinv counts real images with complex measurements as complex ones in its own `adjointness_test`, which does not
    hold of them; its solvers run nevertheless.

    Parameters
    ----------
    operator : LinearOperator

    Raises
    ------
    ValueError
        if deepinv is not installed: it is an extra, `unrolled[deepinv]`.
    """
    try:
        import_torchvision()  # which deepinv imports
        from deepinv.physics import LinearPhysics
    except ImportError as error:
        raise ValueError(f'to_deepinv: needs deepinv, pip install "unrolled[deepinv]": {error}') from error
    shape = operator.image_shape
    return LinearPhysics(
        A=operator,
        A_adjoint=operator.adjoint,
        img_size=None if shape is None or shape[0] == 0 else shape,
        device=numbers_of(operator)[1],
    )
