"""Weights of classifiers."""

from pathlib import Path
from typing import Any

from torch import nn

from unrolled.classifiers.classifier import Classifier, ImageClassifier
from unrolled.system.devices import torch_device
from unrolled.system.recipes import build, describe, only_a_program_makes, writable
from unrolled.system.vision import import_torchvision
from unrolled.weights.card import CLASSIFIER, FORMAT, find, read, write
from unrolled.weights.limits import at_most
from unrolled.weights.tensors import fill, hash_of, tensors_of

MODELS = "torchvision.models"


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
    tensors = tensors_of(network=network)
    facts = {
        **(card or {}),
        "format": FORMAT,
        "kind": CLASSIFIER,
        "network": writable(describe(network)) if isinstance(network, ImageClassifier) else recipe,
        "classes": list(classifier.classes),
        "mean": classifier.mean.flatten().tolist(),
        "std": classifier.std.flatten().tolist(),
        "size": list(classifier.size),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "sha256": hash_of(tensors),
    }
    write(path, tensors, facts)


def load_classifier(
    file: str | Path, network: nn.Module | None = None, device: str = "cpu", memory_mib: int | None = None
) -> Classifier:
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
    memory_mib : int, optional
        memory that making the network may take, as in `load`.

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
    card, tensors = read(path)
    if card.get("kind") != CLASSIFIER:
        raise ValueError(f"weights: {path} does not hold a classifier: unrolled.load loads it")
    if network is None and (not isinstance(card["network"], dict) or only_a_program_makes(card["network"], "network")):
        raise ValueError(
            f"weights: {path} has a network that only your program can make: load_classifier(…, network=…)"
        )
    try:
        if network is None:
            with at_most(tensors, path.stat().st_size, memory_mib):
                network = _build_classifier(card["network"])
        fill(nn.ModuleDict({"network": network}), tensors)
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
