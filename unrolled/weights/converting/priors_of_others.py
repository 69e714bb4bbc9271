"""Weights of other libraries' networks as weights of our priors: their names, and what the priors are made with."""

import re
from typing import Any

import torch
from torch import Tensor

from unrolled.weights.converting.key_mapping import check_names

Tensors = dict[str, Tensor]
Options = dict[str, Any]

COUNTS = r".*\.num_batches_tracked"
"""Of batches that a norm has seen: nothing depends on it in use, so it is left out."""


def from_fastmri_unet(state: Tensors) -> tuple[Options, Tensors]:
    """The weights of `fastmri.models.Unet`, or those of the `unet` in its `NormUnet`.

    Parameters
    ----------
    state : dict of Tensor
        its state, without prefix.

    Returns
    -------
    options : dict
        what a `UNet` is made with besides channels and complex_images, and `normalized=True` for a `NormUnet`; dropout
        is not in the state.
    tensors : dict of Tensor
        for its `load_state_dict`.

    Raises
    ------
    ValueError
        if the state has other keys than such a network.
    """
    scales = _count(state, r"down_sample_layers\.(\d+)\.layers\.0\.weight")
    names: dict[str, str] = {}
    for scale in range(scales):
        names |= _pair(f"down_sample_layers.{scale}.layers", f"inward.{scale}", (0, 4))
        up = scales - 1 - scale  # theirs go from the smallest maps to the largest
        names[f"up_transpose_conv.{up}.layers.0.weight"] = f"doubling.{scale}.convolution.weight"
        names |= _pair(f"up_conv.{up}{'' if scale else '.0'}.layers", f"outward.{scale}", (0, 4))
    names |= _pair("conv.layers", f"inward.{scales}", (0, 4))
    names |= {f"up_conv.{scales - 1}.1.{part}": f"last.{part}" for part in ("weight", "bias")}
    tensors = _renamed("fastMRI's U-Net", state, names)
    return {"features": _features(tensors, scales), "scales": scales, "residual": False}, tensors


def from_deepinv_unet(state: Tensors) -> tuple[Options, Tensors]:
    """The weights of `deepinv.models.UNet`, without a norm or with batch norm.

    Parameters
    ----------
    state : dict of Tensor
        its state, without prefix.

    Returns
    -------
    options : dict
        what a `UNet` is made with besides channels and complex_images. The state does not say whether it is residual,
        which is the default, or `circular_padding`, `boundary="circular"` here; nor whether it was made with
        `cat=False` or the norm "biasfree", which have no counterpart.
    tensors : dict of Tensor
        for its `load_state_dict`.

    Raises
    ------
    ValueError
        if the state has other keys than such a network.
    """
    scales = _count(state, r"Conv(\d+)\.0\.weight") - 1
    norm, bias = "Conv1.1.running_mean" in state, "Conv_1x1.bias" in state
    places, parts = (0, 3) if norm else (0, 2), ("weight", "bias") if bias else ("weight",)
    names = {f"Conv_1x1.{part}": f"last.{part}" for part in parts}
    for scale in range(scales + 1):
        names |= _pair(f"Conv{scale + 1}", f"inward.{scale}", places, parts, norm)
    for scale in range(scales):
        names |= _layer(f"Up{scale + 2}", 1, f"doubling.{scale}.1", parts, norm)
        names |= _pair(f"Up_conv{scale + 2}", f"outward.{scale}", places, parts, norm)
    tensors = _renamed("deepinv's UNet", state, names)
    for scale in range(scales):  # theirs puts what is joined before what comes up, ours after it
        name = f"outward.{scale}.0.convolution.weight"
        tensors[name] = torch.cat(tensors[name].chunk(2, 1)[::-1], 1)
    options = {
        "features": _features(tensors, scales),
        "scales": scales,
        "norm": "batch" if norm else None,
        "bias": "all" if bias else "none",
        "slope": 0.0,
        "pooling": "max",
        "upsampling": "nearest",
        "odd": "replicate",
    }
    return options, tensors


def from_deepinv_dncnn(state: Tensors) -> tuple[Options, Tensors]:
    """The weights of `deepinv.models.DnCNN`.

    Parameters
    ----------
    state : dict of Tensor
        its state, without prefix.

    Returns
    -------
    options : dict
        what a `ResidualCNN` is made with besides channels and complex_images.
    tensors : dict of Tensor
        for its `load_state_dict`.

    Raises
    ------
    ValueError
        if the state has other keys than such a network.
    """
    between, bias = _count(state, r"conv_list\.(\d+)\.weight"), "in_conv.bias" in state
    theirs = ["in_conv", *(f"conv_list.{layer}" for layer in range(between)), "out_conv"]
    names = {
        f"{name}.{part}": f"layers.{layer}.{part}"
        for layer, name in enumerate(theirs)
        for part in (("weight", "bias") if bias else ("weight",))
    }
    tensors = _renamed("deepinv's DnCNN", state, names)
    return {"features": len(tensors["layers.0.weight"]), "depth": between + 2, "bias": bias}, tensors


def from_deepinv_drunet(state: Tensors) -> tuple[Options, Tensors]:
    """The weights of `deepinv.models.DRUNet`, and of the public networks in the same form, for ReLUs and convolutions.

    Its prior is given the noise level: ours is made with `ranges` for a condition that tells it, or learns it.

    Parameters
    ----------
    state : dict of Tensor
        its state, without prefix.

    Returns
    -------
    options : dict
        what a `DRUNet` is made with besides channels, complex_images, ranges and sigma.
    tensors : dict of Tensor
        for its `load_state_dict`; without ranges, `raw_sigma` is missing there, for the state has no noise level.

    Raises
    ------
    ValueError
        if the state has other keys than such a network.
    """
    scales = _count(state, r"m_down(\d+)\.\d+\.weight")
    blocks = _count(state, r"m_down1\.(\d+)\.res\.0\.weight")
    names = {"m_head.weight": "head.weight", "m_tail.weight": "tail.weight"}
    for block in range(blocks):
        for place, ours in ((0, "first"), (2, "second")):
            alone = "" if blocks == 1 else f".{block}"
            names[f"m_body{alone}.res.{place}.weight"] = f"body.{block}.{ours}.weight"
            for scale in range(scales):
                names[f"m_down{scale + 1}.{block}.res.{place}.weight"] = f"inward.{scale}.{block}.{ours}.weight"
                names[f"m_up{scale + 1}.{block + 1}.res.{place}.weight"] = f"outward.{scale}.{block + 1}.{ours}.weight"
    for scale in range(scales):
        names[f"m_down{scale + 1}.{blocks}.weight"] = f"inward.{scale}.{blocks}.weight"
        names[f"m_up{scale + 1}.0.weight"] = f"outward.{scale}.0.weight"
    tensors = _renamed("DRUNet", state, names)
    sizes = [len(tensors["head.weight"]), *(len(tensors[f"inward.{scale}.{blocks}.weight"]) for scale in range(scales))]
    return {"features": sizes, "scales": scales, "blocks": blocks, "residual": False}, tensors


def _count(state: Tensors, pattern: str) -> int:
    """How many keys there are of a kind."""
    return sum(re.fullmatch(pattern, name) is not None for name in state)


def _layer(theirs: str, place: int, ours: str, parts: tuple[str, ...], norm: bool) -> dict[str, str]:
    """The names of a convolution in a sequence, and of the norm that follows it there."""
    names = {f"{theirs}.{place}.{part}": f"{ours}.convolution.{part}" for part in parts}
    if norm:
        statistics = ("weight", "bias", "running_mean", "running_var")
        names |= {f"{theirs}.{place + 1}.{part}": f"{ours}.norm.{part}" for part in statistics}
    return names


def _pair(
    theirs: str, ours: str, places: tuple[int, int], parts: tuple[str, ...] = ("weight",), norm: bool = False
) -> dict[str, str]:
    """The names of the two convolutions that a U-Net has at every size."""
    first, second = places
    return _layer(theirs, first, f"{ours}.0", parts, norm) | _layer(theirs, second, f"{ours}.1", parts, norm)


def _features(tensors: Tensors, scales: int) -> list[int]:
    """Maps of a `UNet` at every size."""
    return [len(tensors[f"inward.{scale}.0.convolution.weight"]) for scale in range(scales + 1)]


def _renamed(owner: str, state: Tensors, names: dict[str, str]) -> Tensors:
    """A state under other names; ValueError if it lacks one of the keys, or has others."""
    check_names(f"as a state of {owner} it", state, names, [COUNTS])
    return {ours: state[theirs] for theirs, ours in names.items()}
