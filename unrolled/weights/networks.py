"""Weights of networks and their operators."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from unrolled.networks import Differentiation, Start, UnrolledNetwork
from unrolled.operators import BlockCompressedSensing, Coils, Kernel, LinearOperator, SamplingMask
from unrolled.penalties import Penalty
from unrolled.system.devices import torch_device
from unrolled.system.recipes import build, describe, subclasses
from unrolled.weights.card import CLASSIFIER, FORMAT, at_most, fill, find, hash_of, read, tensors_of, write

PROGRAM = "made by your program"
"""Stands in a recipe for what no file can hold: functions, modules."""


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
    tensors = tensors_of(network=network, operator=operator)
    facts = {
        **(card or {}),
        "format": FORMAT,
        "network": describe(network),
        "operator": _writable(describe(operator)),
        "parameters": network.parameter_count,
        "sha256": hash_of(tensors),
    }
    if hashes := _matrix_hash(operator):
        facts["matrix_hash"] = hashes
    write(path, tensors, facts)


def load(
    name_or_file: str | Path, device: str = "cpu", operator: LinearOperator | None = None
) -> tuple[UnrolledNetwork, LinearOperator]:
    """Load a network and the operator it was trained for.

    Nothing is unpickled and nothing imported: a file can only name classes that are already imported.

    Parameters
    ----------
    name_or_file : str or Path
        a name of shipped weights (`unrolled zoo` lists them), or a `.safetensors` file.
    device : str
        where to; "auto" takes the GPU if there is one.
    operator : LinearOperator, optional
        takes the operator's tensors, and is returned; needed if only your program can make it, of functions.

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
    card, tensors = read(path)
    if card.get("kind") == CLASSIFIER:
        raise ValueError(f"weights: {path} holds a classifier: unrolled.weights.classifiers.load_classifier loads it")
    if operator is None and _only_a_program_makes(card["operator"]):
        raise ValueError(f"weights: {path} has an operator that only your program can make: load(…, operator=…)")
    try:
        with at_most(sum(tensor.numel() for tensor in tensors.values()), card["network"]):
            network = build(card["network"], UnrolledNetwork, Penalty, Differentiation, Start)
            if operator is None:
                recipe = _with_tensors(card["operator"], tensors)
                operator = build(recipe, LinearOperator, LinearOperator, SamplingMask, Coils, Kernel)
        fill(nn.ModuleDict({"network": network, "operator": operator}), tensors)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"weights: {path} does not fit its own card: {error}") from error
    if "matrix_hash" in card and card["matrix_hash"] != _matrix_hash(operator):
        raise ValueError(f"weights: {path} was trained for another measurement matrix than this machine draws")
    return network.eval().to(target), operator.eval().to(target)


def _writable(recipe: Any) -> Any:
    """A recipe in which a word stands for every value that a file cannot hold."""
    if isinstance(recipe, dict):
        return {key: _writable(value) for key, value in recipe.items()}
    if isinstance(recipe, list):
        return [_writable(value) for value in recipe]
    return recipe if isinstance(recipe, (str, int, float, type(None))) else {PROGRAM: type(recipe).__name__}


def _only_a_program_makes(recipe: Any) -> bool:
    values = [recipe]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            if PROGRAM in value:
                return True
            values += value.values()
        elif isinstance(value, list):
            values += value
    return False


def _with_tensors(recipe: Any, tensors: dict[str, Tensor], place: str = "operator") -> Any:
    """The recipe of an operator and those nested in it, with the tensors that are their arguments.

    Operators keep others under the names of their arguments, so that the place in the recipe is that among the tensors.

    Raises
    ------
    ValueError
        if it names a file for such an argument.
    """
    if isinstance(recipe, list):
        return [_with_tensors(item, tensors, f"{place}.{number}") for number, item in enumerate(recipe)]
    if not (isinstance(recipe, dict) and isinstance(recipe.get("init_args"), dict)):
        return recipe
    arguments = {name: _with_tensors(value, tensors, f"{place}.{name}") for name, value in recipe["init_args"].items()}
    known = {cls.__name__: cls for cls in subclasses(LinearOperator)}
    kind = known.get(str(recipe.get("class_path")).rpartition(".")[2])
    for name in getattr(kind, "tensors", ()):
        given = arguments.get(name)
        if isinstance(given, str) and Path(given).suffix:  # some kernels have names of their own, without one
            raise ValueError(f"it names a file of its own as the {name}, which is not followed")
        if f"{place}.{name}" in tensors:
            # In memory of its own: products with a matrix that lies askew in the file round differently.
            arguments[name] = tensors[f"{place}.{name}"].clone()
    return {**recipe, "init_args": arguments}


def _matrix_hash(operator: LinearOperator) -> str | None:
    """Of every matrix of blocks in an operator: drawn ones do not travel, and another machine must draw the same."""
    return "-".join(part.hash() for part in operator.modules() if isinstance(part, BlockCompressedSensing)) or None


def take(name_or_file: str | Path, **modules: nn.Module) -> None:
    """Give modules the weights of a file, to train them on from there.

    What an operator measures with stays its own unless it is learned: weights can be trained on for another mask.

    Parameters
    ----------
    name_or_file : str or Path
        a name of shipped weights, or a `.safetensors` file.
    **modules : Module
        `network` of a classifier, or `network` and `operator`.

    Raises
    ------
    ValueError
        if there are no such weights, or they are of other modules than these. Nothing was changed then.
    """
    path = find(name_or_file)
    card, tensors = read(path)
    given, held = set(modules), {"network"} if card.get("kind") == CLASSIFIER else {"network", "operator"}
    if given != held:
        raise ValueError(f"weights: {path} holds {' and '.join(sorted(held))}, not {' and '.join(sorted(given))} alone")
    model = nn.ModuleDict(modules)
    kept = {f"operator.{key}": buffer for key, buffer in modules.get("operator", nn.Module()).named_buffers()}
    tensors = {key: tensor for key, tensor in tensors.items() if key not in kept}
    own = model.state_dict()
    tensors |= {key: own[key] for key in own if key in kept}
    for key in sorted({*own, *tensors}):
        shapes = [tuple(found[key].shape) if key in found else "nothing" for found in (tensors, own)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"weights: {path} has {shapes[0]} for {key}, and what is trained has {shapes[1]}")
    fill(model, tensors)
