"""Weights as files: safetensors that carry the recipe of their network and operator, and a card."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unrolled.description import build, describe
from unrolled.devices import torch_device
from unrolled.files import replacing
from unrolled.networks import UnrolledNetwork
from unrolled.operators import BlockCompressedSensing, LinearOperator
from unrolled.penalties import Penalty

FORMAT = 1
SHIPPED = Path(__file__).parent / "zoo"


def save(
    path: str | Path, network: UnrolledNetwork, operator: LinearOperator, card: dict[str, Any] | None = None
) -> None:
    """Save a network and its operator as safetensors; see `load`.

    Parameters
    ----------
    path : str or Path
    network, operator
    card : dict, optional
        facts to keep with the weights, of plain values: data, licence, PSNR, config …

    Raises
    ------
    ValueError
        if the file cannot be written.
    """
    tensors = _tensors(network, operator)
    facts = {
        **(card or {}),
        "format": FORMAT,
        "network": describe(network),
        "operator": describe(operator),
        "parameters": network.parameter_count,
        "sha256": _hash(tensors),
    }
    if isinstance(operator, BlockCompressedSensing):
        facts["matrix_hash"] = operator.hash()
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"card": json.dumps(facts)})


def load(name_or_file: str | Path, device: str = "cpu") -> tuple[UnrolledNetwork, LinearOperator]:
    """Load a network and the operator it was trained for.

    Nothing is unpickled and nothing imported: a file can only name classes that are already imported.

    Parameters
    ----------
    name_or_file : str or Path
        a name of shipped weights (`unrolled zoo` lists them), or a `.safetensors` file.
    device : str
        where to; "auto" takes the GPU if there is one.

    Returns
    -------
    network, operator
        in evaluation mode

    Raises
    ------
    ValueError
        if there are no such weights, the file is not weights of this project, cut short or altered, or does not fit.
    """
    target = torch_device(device)
    path = find(name_or_file)
    card, tensors = read_card(path), _read_tensors(path)
    if card.get("sha256") != _hash(tensors):
        raise ValueError(f"weights: {path} was altered: its tensors are not those its card was made for")
    recipe = dict(card["operator"])
    arguments = dict(recipe.get("init_args") or {})
    if arguments.get("matrix") is not None:
        raise ValueError(f"weights: {path} names a file of its own as the matrix, which is not followed")
    if "operator.matrix" in tensors:
        recipe["init_args"] = {**arguments, "matrix": tensors["operator.matrix"]}
    try:
        network = build(card["network"], UnrolledNetwork, Penalty)
        operator = build(recipe, LinearOperator)
        network.load_state_dict(_under("network.", tensors))
        operator.load_state_dict(_under("operator.", tensors))
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"weights: {path} does not fit its own card: {error}") from error
    if isinstance(operator, BlockCompressedSensing) and card.get("matrix_hash") != operator.hash():
        raise ValueError(f"weights: {path} was trained for another measurement matrix than this machine draws")
    return network.eval().to(target), operator.eval().to(target)


def read_card(name_or_file: str | Path) -> dict[str, Any]:
    """The card of weights: recipe of network and operator, training config, data, licence, PSNR, hash."""
    path = find(name_or_file)
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {}).get("card", "null"))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"weights: {path} is cut short or not a safetensors file: {error}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"weights: {path} has a card that cannot be read: {error}") from error
    if (
        not isinstance(card, dict)
        or not isinstance(card.get("network"), dict)
        or not isinstance(card.get("operator"), dict)
    ):
        raise ValueError(f"weights: {path} is a safetensors file, but not of a network of this project")
    if card.get("format") != FORMAT:
        raise ValueError(f"weights: {path} has format {card.get('format')!r}, this version reads {FORMAT}")
    return card


def record(name_or_file: str | Path, facts: dict[str, Any]) -> None:
    """Add facts to the card of a weights file; dictionaries in it are merged. The tensors stay as they are.

    Raises
    ------
    ValueError
        if the file cannot be read or written.
    """
    path = find(name_or_file)
    card, tensors = read_card(path), _read_tensors(path)
    for key, value in facts.items():
        card[key] = {**card.get(key, {}), **value} if isinstance(value, dict) else value
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"card": json.dumps(card)})


def find(name_or_file: str | Path) -> Path:
    """The file of weights: a path, or the name of shipped weights."""
    path = Path(name_or_file)
    if path.is_file():
        return path
    shipped = SHIPPED / f"{name_or_file}.safetensors"
    if path.name == str(name_or_file) and shipped.is_file():
        return shipped
    raise ValueError(f"weights: {name_or_file} is neither a file nor among the shipped weights: {', '.join(names())}")


def names() -> list[str]:
    """The names of the shipped weights."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"weights: {path} cannot be read: {error}") from error


def _tensors(network: UnrolledNetwork, operator: LinearOperator) -> dict[str, Tensor]:
    modules: dict[str, nn.Module] = {"network": network, "operator": operator}
    return {
        f"{prefix}.{key}": tensor.detach().cpu().contiguous().clone()
        for prefix, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _hash(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
