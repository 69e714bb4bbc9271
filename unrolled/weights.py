"""Weights as files: safetensors that carry the recipe of their network and operator, and a card."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from unrolled.classifiers import Classifier, ImageClassifier
from unrolled.description import build, describe, subclasses
from unrolled.devices import torch_device
from unrolled.files import replacing
from unrolled.networks import Differentiation, Start, UnrolledNetwork
from unrolled.operators import BlockCompressedSensing, Coils, Kernel, LinearOperator, SamplingMask
from unrolled.penalties import Penalty
from unrolled.vision import import_torchvision

FORMAT = 1
SHIPPED = Path(__file__).parent / "zoo"
CLASSIFIER = "classifier"
"""What the card of a classifier calls itself."""

MODELS = "torchvision.models"

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
    tensors = _tensors(network=network, operator=operator)
    facts = {
        **(card or {}),
        "format": FORMAT,
        "network": describe(network),
        "operator": _writable(describe(operator)),
        "parameters": network.parameter_count,
        "sha256": _hash(tensors),
    }
    if hashes := _matrix_hash(operator):
        facts["matrix_hash"] = hashes
    _write(path, tensors, facts)


def _write(path: str | Path, tensors: dict[str, Tensor], card: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"card": json.dumps(card)})


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
    card, tensors = _read(path)
    if card.get("kind") == CLASSIFIER:
        raise ValueError(f"weights: {path} holds a classifier: unrolled.weights.load_classifier loads it")
    if operator is None and _only_a_program_makes(card["operator"]):
        raise ValueError(f"weights: {path} has an operator that only your program can make: load(…, operator=…)")
    try:
        with _at_most(sum(tensor.numel() for tensor in tensors.values()), card["network"]):
            network = build(card["network"], UnrolledNetwork, Penalty, Differentiation, Start)
            if operator is None:
                recipe = _with_tensors(card["operator"], tensors)
                operator = build(recipe, LinearOperator, LinearOperator, SamplingMask, Coils, Kernel)
        _fill(nn.ModuleDict({"network": network, "operator": operator}), tensors)
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
    card, tensors = _read(path)
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
    _fill(model, tensors)


def save_classifier(
    path: str | Path, classifier: Classifier, card: dict[str, Any] | None = None, recipe: dict[str, Any] | None = None
) -> None:
    """Save a classifier as safetensors; see `load_classifier`.

    Parameters
    ----------
    path : str or Path
    classifier : Classifier
    card : dict, optional
        facts to keep with the weights, of plain values.
    recipe : dict, optional
        how to make its network, {"class_path": …, "init_args": …}; not needed for those of `unrolled.classifiers`.
    """
    network = classifier.network
    tensors = _tensors(network=network)
    facts = {
        **(card or {}),
        "format": FORMAT,
        "kind": CLASSIFIER,
        "network": describe(network) if isinstance(network, ImageClassifier) else recipe,
        "classes": list(classifier.classes),
        "mean": classifier.mean.flatten().tolist(),
        "std": classifier.std.flatten().tolist(),
        "size": list(classifier.size),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "sha256": _hash(tensors),
    }
    _write(path, tensors, facts)


def load_classifier(file: str | Path, network: nn.Module | None = None, device: str = "cpu") -> Classifier:
    """Load a classifier, with the names of its classes and the mean and deviation of the images it was trained on.

    Nothing is unpickled, and nothing imported but torchvision, whose models can be named.

    Parameters
    ----------
    file : str or Path
        `.safetensors`.
    network : Module, optional
        takes the weights; needed if it is neither of `unrolled.classifiers` nor of torchvision.
    device : str
        where to; "auto" takes the GPU if there is one.

    Returns
    -------
    Classifier
        in evaluation mode

    Raises
    ------
    ValueError
        if the file is not a classifier of this project, cut short or altered, or does not fit.
    """
    target = torch_device(device)
    path = find(file)
    card, tensors = _read(path)
    if card.get("kind") != CLASSIFIER:
        raise ValueError(f"weights: {path} does not hold a classifier: unrolled.load loads it")
    if network is None and not isinstance(card["network"], dict):
        raise ValueError(
            f"weights: {path} has a network that only your program can make: load_classifier(…, network=…)"
        )
    try:
        if network is None:
            with _at_most(sum(tensor.numel() for tensor in tensors.values()), card["network"]):
                network = _build_classifier(card["network"])
        _fill(nn.ModuleDict({"network": network}), tensors)
        height, width = card["size"]
        classifier = Classifier(network, card["classes"], card["mean"], card["std"], (height, width))
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"weights: {path} does not fit its own card: {error}") from error
    return classifier.eval().to(target)


def _build_classifier(recipe: dict[str, Any]) -> nn.Module:
    name = str(recipe.get("class_path"))
    if not name.startswith(f"{MODELS}."):
        network: nn.Module = build(recipe, ImageClassifier)
        return network
    models, arguments = import_torchvision(MODELS), recipe.get("init_args") or {}
    name = name.removeprefix(f"{MODELS}.")
    if name not in models.list_models(module=models):
        raise ValueError(f"torchvision has no classifier {name!r}")
    # Weights of its own would be downloaded, only to be replaced.
    return models.get_model(name, **{key: value for key, value in arguments.items() if not key.startswith("weights")})


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Card and tensors, which must be those that the card was made for."""
    card, tensors = read_card(path), _read_tensors(path)
    if card.get("sha256") != _hash(tensors):
        raise ValueError(f"weights: {path} was altered: its tensors are not those its card was made for")
    return card, tensors


def read_card(name_or_file: str | Path) -> dict[str, Any]:
    """The card of weights: recipe of network and operator, training config, data, licence, PSNR, hash."""
    path = find(name_or_file)
    try:
        with safe_open(path, framework="pt") as file:
            written = (file.metadata() or {}).get("card", "null")
        card = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"weights: {path} has a card that cannot be read: {error}") from error
    except Exception as error:  # the reader has errors of its own, and what is in the file may raise others
        raise ValueError(f"weights: {path} is cut short or not a safetensors file: {error}") from error
    reconstructs = isinstance(card, dict) and all(isinstance(card.get(name), dict) for name in ("network", "operator"))
    if not reconstructs and not (isinstance(card, dict) and card.get("kind") == CLASSIFIER and "network" in card):
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
        before = card.get(key)
        card[key] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    _write(path, tensors, card)


def find(name_or_file: str | Path) -> Path:
    """The file of weights: a path, or the name of shipped weights."""
    path = Path(name_or_file)
    if os.path.isfile(path):
        return path
    shipped = SHIPPED / f"{name_or_file}.safetensors"
    if path.name == str(name_or_file) and os.path.isfile(shipped):
        return shipped
    raise ValueError(f"weights: {name_or_file} is neither a file nor among the shipped weights: {', '.join(names())}")


def names() -> list[str]:
    """The names of the shipped weights."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # as above
        raise ValueError(f"weights: {path} cannot be read: {error}") from error


def _tensors(**modules: nn.Module) -> dict[str, Tensor]:
    return {
        f"{prefix}.{key}": tensor.detach().cpu().contiguous().clone()
        for prefix, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


@contextmanager
def _at_most(numbers: int, recipe: Any) -> Iterator[None]:
    """While a recipe is followed: refuse parameters that the file cannot hold, before memory is filled with them.

    With room to spare, for a network may make parameters that it replaces; what fits exactly is seen later.
    """
    reason = f"it asks for many more parameters than the {numbers:,} numbers in the file"
    if _largest(recipe) > max(numbers, 10_000):  # phases and features are fewer than what they are made of
        raise ValueError(reason)
    thread, left = threading.get_ident(), max(10 * numbers, 1_000_000)

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        if parameter is not None and threading.get_ident() == thread:
            left -= parameter.numel()
            if left < 0:
                raise ValueError(reason)

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _largest(value: Any) -> int:
    """The largest whole number anywhere in a recipe."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return max(map(_largest, value), default=0)
    return value if isinstance(value, int) else 0


def _fill(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    for key, own in model.state_dict().items():
        if key in tensors and not torch.can_cast(tensors[key].dtype, own.dtype):
            raise ValueError(f"{key} must be {own.dtype}, got {tensors[key].dtype}")
    model.load_state_dict(tensors)
    for key, own in model.state_dict().items():
        if not bool(torch.isfinite(own).all()):
            raise ValueError(f"{key} holds NaN or inf")


def _hash(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
