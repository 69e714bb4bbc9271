"""Weights as the start of another training."""

from pathlib import Path

from torch import nn

from unrolled.networks import UnrolledNetwork
from unrolled.networks.conditioning import Factors
from unrolled.operators import LinearOperator
from unrolled.weights.card import CLASSIFIER, find, normalizes, read
from unrolled.weights.dictionaries_of_weights import keep_dictionary
from unrolled.weights.earlier import autocorrelations, rename_earlier
from unrolled.weights.tensors import fill


def take(name_or_file: str | Path, **modules: nn.Module) -> None:
    """Give modules the weights of a file, to train them on from there.

    What an operator measures with stays its own unless it is learned: weights can be trained on for another mask. A
    network that is told the noise level takes weights of one that was not: as long as nothing more is learned, it then
    does what that one did.

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
    operator = modules.get("operator", nn.Module())
    rename_earlier(tensors, operator)
    kept = {f"operator.{key}" for key, _ in operator.named_buffers()}
    kept -= {name for name in autocorrelations(operator) if name in tensors}  # not of the measurement, but of images
    tensors = {key: tensor for key, tensor in tensors.items() if key not in kept}
    own = model.state_dict()
    factors = [name for name, module in model.named_modules() if isinstance(module, Factors)]
    told = {key for key in own if key.startswith(tuple(f"{name}." for name in factors))}
    if not told & tensors.keys():
        kept |= told
    tensors |= {key: own[key] for key in own if key in kept}
    for key in sorted({*own, *tensors}):
        shapes = [tuple(found[key].shape) if key in found else "nothing" for found in (tensors, own)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"weights: {path} has {shapes[0]} for {key}, and what is trained has {shapes[1]}")
    network = modules["network"]
    if isinstance(operator, LinearOperator):
        keep_dictionary(path, card, network, operator)
    fill(model, tensors)
    if isinstance(network, UnrolledNetwork):
        network.normalizes = normalizes(card)
