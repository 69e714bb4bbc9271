"""unrolled convert FILE --as KIND --out weights.safetensors --licence …"""

from jsonargparse import set_parsing_settings

from unrolled.cli import command_line
from unrolled.cli.command_line import Flag
from unrolled.operators import LinearOperator
from unrolled.system.files import check_writable
from unrolled.weights.converting.conversion import KINDS, convert
from unrolled.weights.networks import save


def run(argv: list[str]) -> int:
    """Convert weights."""
    set_parsing_settings(subclasses_enabled=[LinearOperator])
    return command_line.run("convert", convert_file, argv, own_classes=True)


def convert_file(
    file: str | None = None,
    /,
    *,
    as_: str | None = None,
    out: str | None = None,
    licence: str | None = None,
    author: str | None = None,
    source: str | None = None,
    matrix: str | None = None,
    initial: str | None = None,
    operator: LinearOperator | None = None,
    algorithm: str | None = None,
    phases: int | None = None,
    step: float | None = None,
    sigma: float | None = None,
    noise_range: tuple[float, float] | None = None,
    no_residual: Flag = False,
    circular: Flag = False,
    not_normalized: Flag = False,
) -> None:
    """Make weights of another program into weights of this one, with the same outputs.

    Nothing in the file is executed. Without a file the kinds are listed, and what each takes besides.

    Parameters
    ----------
    file : str, optional
        a state dictionary as torch.save writes it (.pkl, .pt, .pth, .ckpt), or safetensors.
    as_ : str, optional
        what the file is of; unrolled convert alone lists the kinds.
    out : str, optional
        the file to write, .safetensors.
    licence : str, optional
        under which the weights are given away, such as MIT; needed, and kept in the card.
    author : str, optional
        whose the weights are; kept in the card.
    source : str, optional
        where they come from; kept in the card.
    matrix : str, optional
        of ISTA-Net+, the file of Φ (.mat, .npy, .h5).
    initial : str, optional
        of ISTA-Net+, the file of Qinit.
    operator : optional
        what was measured with, of networks that do not tell it: a class, whose arguments are --operator.NAME.
    algorithm : str, optional
        of what deepinv unfolded, which one it is: PGD (the default), HQS or ADMM.
    phases : int, optional
        of what deepinv unfolded, how many iterations, if the file does not tell.
    step : float, optional
        of what deepinv unfolded, the step size, if it was not trained.
    sigma : float, optional
        of what deepinv unfolded, the noise level that the denoiser is told, if it was not trained.
    noise_range : (float, float), optional
        of a DRUNet, [LOW,HIGH]: the noise levels that it was trained for; by default [0,0.2].
    no_residual : bool
        of a U-Net of deepinv, that it was made with residual=False.
    circular : bool
        of a U-Net of deepinv, that it was made with circular_padding=True.
    not_normalized : bool
        of the U-Net of fastMRI, that images are given to it as they are.
    """
    if file is None:
        _list()
        return
    if as_ is None:
        raise ValueError(f"--as: is needed, one of {', '.join(KINDS)}")
    if out is None:
        raise ValueError("--out: is needed, the file to write, .safetensors")
    if licence is None:
        raise ValueError("--licence: is needed, under which one the weights are given away")
    check_writable(out, file, matrix, initial)
    converted = convert(
        file,
        as_,
        licence=licence,
        author=author,
        source=source,
        matrix=matrix,
        initial=initial,
        operator=operator,
        algorithm=algorithm,
        phases=phases,
        step=step,
        sigma=sigma,
        noise_range=noise_range,
        residual=False if no_residual else None,
        circular=True if circular else None,
        normalized=False if not_normalized else None,
    )
    save(out, converted.network, converted.operator, converted.card)
    name, count = type(converted.network).__name__, converted.network.parameter_count
    print(f"{KINDS[as_].of}: {name} of {count:,} parameters with {type(converted.operator).__name__}")
    print(f"written: {out}")


def _list() -> None:
    for name, kind in KINDS.items():
        options = ", ".join(kind.options)
        print(f"{name:<20} {kind.of}{f'; takes {options}' if options else ''}")
    print("\nunrolled convert FILE --as KIND --licence LICENCE --out weights.safetensors converts one.")
