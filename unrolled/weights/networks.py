"""Weights of networks and their operators."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.networks import DictionaryNetwork, UnrolledNetwork
from unrolled.networks.composed import PARTS as NETWORK_PARTS
from unrolled.networks.dictionaries import fingerprint_of
from unrolled.operators import BlockCompressedSensing, Coils, Kernel, LinearOperator, SamplingMask
from unrolled.operators.unit_norm import keep_norm
from unrolled.penalties import Grouping
from unrolled.system.devices import torch_device
from unrolled.system.recipes import build, describe, find_class, only_a_program_makes, why_not_built, writable
from unrolled.weights.card import CLASSIFIER, FORMAT, find, normalizes, read, write
from unrolled.weights.dictionaries_of_weights import keep_dictionary
from unrolled.weights.earlier import rename_earlier
from unrolled.weights.limits import at_most
from unrolled.weights.tensors import fill, hash_of, tensors_of

PARTS = {
    "network": (UnrolledNetwork, *NETWORK_PARTS, Grouping),
    "operator": (LinearOperator, LinearOperator, SamplingMask, Coils, Kernel),
}
"""What is built from a card, and what may be among its arguments."""


def only_by_programs(**things: UnrolledNetwork | LinearOperator) -> dict[str, str]:
    """Of a network and an operator those that `load` will not be able to make alone, by name, and why.

    Parameters
    ----------
    network, operator

    Raises
    ------
    ValueError
        for what cannot be described at all.
    """
    reasons = {name: why_not_built(writable(describe(thing)), name, *PARTS[name]) for name, thing in things.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


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
        if the file cannot be written, or a fact is not a plain value.
    """
    tensors = tensors_of(network=network, operator=operator)
    facts = {
        **(card or {}),
        "format": FORMAT,
        "network": writable(describe(network)),
        "operator": writable(describe(operator)),
        "parameters": network.parameter_count,
        "sha256": hash_of(tensors),
    }
    if network.normalizes:
        facts["norm"] = network.norm_of(operator)
    if isinstance(network, DictionaryNetwork) and network.fingerprint and (numbers := fingerprint_of(operator)):
        facts["dictionary"] = list(numbers)
    if hashes := _matrix_hash(operator):
        facts["matrix_hash"] = hashes
    write(path, tensors, facts)


def load(
    name_or_file: str | Path,
    device: str = "cpu",
    operator: LinearOperator | None = None,
    network: UnrolledNetwork | None = None,
    memory_mib: int | None = None,
) -> tuple[UnrolledNetwork, LinearOperator]:
    """Load a network and the operator it was trained for.

    Nothing is unpickled and nothing imported: a file can only name classes that are already imported. So import the
    module of a class of your own first.

    Parameters
    ----------
    name_or_file : str or Path
        a name of shipped weights (`unrolled zoo` lists them), or a `.safetensors` file.
    device : str
        where to; "auto" takes the GPU if there is one.
    operator : LinearOperator, optional
        takes the operator's tensors, and is returned; needed if only your program can make it, of functions.
    network : UnrolledNetwork, optional
        takes the network's tensors, and is returned; needed if only your program can make it, of modules.
    memory_mib : int, optional
        memory that making network and operator may take, in MiB, and with it the work; by default 512, and 256 times
        the size of the file.

    Returns
    -------
    network, operator
        in evaluation mode, the weights of convolutions with the channels last in memory

    Raises
    ------
    ValueError
        if there are no such weights, the file is not weights of this project, cut short or altered, does not fit, or
        asks for more memory than it may.
    """
    check_parts(network, operator)
    target = torch_device(device)
    path = find(name_or_file)
    card, tensors = read(path)
    if card.get("kind") == CLASSIFIER:
        raise ValueError(f"weights: {path} holds a classifier: unrolled.weights.load_classifier loads it")
    missing = {}
    for name, given in (("network", network), ("operator", operator)):
        if given is None and (what := only_a_program_makes(card[name], name)) is not None:
            missing[name] = what
    if missing:
        held, needed = " and an ".join(missing), ", ".join(f"{name}=…" for name in missing)
        raise ValueError(
            f"weights: {path} has a{'n' * ('network' not in missing)} {held} that only your program can make: "
            f"load(…, {needed}); no file holds {', nor '.join(missing.values())}"
        )
    try:
        with at_most(tensors, path.stat().st_size, memory_mib):
            if network is None:
                network = build(card["network"], *PARTS["network"])
            if operator is None:
                recipe = _with_tensors(card["operator"], tensors)
                operator = build(recipe, *PARTS["operator"])
        rename_earlier(tensors, operator)
        fill(nn.ModuleDict({"network": network, "operator": operator}), tensors)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"weights: {path} does not fit its own card: {error}") from error
    network.normalizes = normalizes(card)
    if network.normalizes:
        keep_norm(operator, card["norm"])
    keep_dictionary(path, card, network, operator)
    if "matrix_hash" in card and card["matrix_hash"] != _matrix_hash(operator):
        raise ValueError(f"weights: {path} was trained for another measurement matrix than this machine draws")
    # As in training: learned maps are faster so, on CPUs by about a fifth of the time.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().to(target), operator.eval().to(target)


def check_parts(network: Any, operator: Any) -> None:
    """Raise ValueError for what is no network, or no operator, unless it is None."""
    if not (network is None or isinstance(network, UnrolledNetwork)):
        raise ValueError(f"network: must be an UnrolledNetwork, got a {type(network).__name__}")
    if not (operator is None or isinstance(operator, LinearOperator)):
        raise ValueError(
            f"operator: must be a LinearOperator, got a {type(operator).__name__}; as_operator makes one of a matrix "
            "or of functions"
        )


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
    kind = find_class(recipe.get("class_path"), LinearOperator)
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
