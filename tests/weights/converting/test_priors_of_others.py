"""Priors with the weights of other libraries' networks: the same images."""

import pytest
import torch
import torch.nn.functional as F

from unrolled.networks import DRUNet, LearnedPrimalDual, ResidualCNN, UNet
from unrolled.system.vision import import_torchvision
from unrolled.weights.converting.priors_of_others import (
    from_deepinv_dncnn,
    from_deepinv_drunet,
    from_deepinv_unet,
    from_fastmri_unet,
)


@pytest.fixture(scope="module")
def deepinv():
    """Its networks; imported only where these tests run, for torchvision takes seconds."""
    import_torchvision()  # which deepinv imports
    return pytest.importorskip("deepinv.models", reason="deepinv is an extra")


@pytest.fixture(scope="module")
def fastmri():
    """Its networks; of the package `fastmri`, which this one does not bring."""
    return pytest.importorskip("fastmri.models", reason="for those who have fastMRI")


def shaken(network):
    """Another library's network in use, with all weights and statistics at random."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5) if "running_var" in name else tensor.add_(0.05 * torch.randn_like(tensor))
    return network.eval()


def filled(prior, tensors):
    """A prior in use, with these tensors and no others; the level of the noise it may have learned is its own."""
    missing, left = prior.load_state_dict(tensors, strict=False)
    assert set(missing) <= {"raw_sigma"}
    assert not left
    return prior.eval()


def assert_same(prior, network, *, sides=((24, 32), (19, 26)), channels=1, **told):
    torch.manual_seed(1)
    with torch.no_grad():
        for height, width in sides:
            z = torch.rand(2, channels, height, width)
            expected = network(z, *told.values())
            assert (expected - z).abs().max() > 0.01
            found = prior(z, *(value.view(-1, 1) for value in told.values()))
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


# ---- deepinv


@pytest.mark.parametrize(
    ("options", "channels", "ours"),
    [
        ({"batch_norm": True, "scales": 3, "channels_per_scale": [4, 8, 16]}, 1, {}),
        ({"batch_norm": False, "channels_per_scale": [6, 5]}, 3, {}),
        (
            {"batch_norm": False, "bias": False, "residual": False, "channels_per_scale": [4, 8, 9]},
            2,
            {"residual": False},
        ),
        (
            {"batch_norm": True, "circular_padding": True, "channels_per_scale": [4, 6]},
            1,
            {"boundary": "circular"},
        ),
    ],
    ids=["batch norm", "colour", "without bias and image", "circular"],
)
def test_unet_of_deepinv(deepinv, options, channels, ours):
    torch.manual_seed(0)
    network = shaken(deepinv.UNet(channels, channels, **options))
    how, tensors = from_deepinv_unet(network.state_dict())
    prior = filled(UNet(**how, **ours, channels=channels), tensors)
    assert_same(prior, network, channels=channels)


def test_unet_of_deepinv_on_complex_images(deepinv):
    torch.manual_seed(0)
    network = shaken(deepinv.UNet(2, 2, batch_norm=True, channels_per_scale=[4, 8]))
    how, tensors = from_deepinv_unet(network.state_dict())
    prior = filled(UNet(**how, complex_images=True), tensors)
    z = torch.randn(2, 3, 9, 10, dtype=torch.complex64)
    with torch.no_grad():
        found = network(torch.view_as_real(z.flatten(0, 1)).movedim(-1, 1))
        torch.testing.assert_close(prior(z), torch.complex(found[:, 0], found[:, 1]).unflatten(0, (2, 3)))


@pytest.mark.parametrize(("depth", "bias", "channels"), [(4, True, 3), (2, False, 1)])
def test_dncnn_of_deepinv(deepinv, depth, bias, channels):
    torch.manual_seed(0)
    network = shaken(deepinv.DnCNN(channels, channels, depth=depth, bias=bias, nf=6, pretrained=None))
    how, tensors = from_deepinv_dncnn(network.state_dict())
    assert how == {"features": 6, "depth": depth, "bias": bias}
    assert_same(filled(ResidualCNN(**how, channels=channels), tensors), network, channels=channels)


def test_dncnn_of_deepinv_is_as_large_by_default(deepinv):
    with torch.device("meta"):
        theirs, ours = deepinv.DnCNN(pretrained=None, device=None), ResidualCNN(64, 20, channels=3)
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in (theirs, ours)]
    assert counts == [668_227, 668_227]


def test_learned_primal_dual_is_as_large_as_deepinvs_but_for_the_slopes(deepinv):
    """Ten phases with five images and five duals, and 32 maps twice in each block, which there have one slope."""
    blocks = deepinv.PDNet_PrimalBlock(), deepinv.PDNet_DualBlock()
    theirs = 10 * sum(parameter.numel() for block in blocks for parameter in block.parameters())
    assert theirs == 251_980
    assert LearnedPrimalDual().parameter_count == theirs + 10 * 2 * 2 * 31


@pytest.mark.parametrize(("blocks", "channels"), [(1, 1), (2, 3)])
def test_drunet_of_deepinv(deepinv, blocks, channels):
    """On sides that both leave as they are (multiples of 8 from 32 on), or bring to the same multiples of 16."""
    torch.manual_seed(0)
    network = shaken(deepinv.DRUNet(channels, channels, nc=(4, 6, 8, 10), nb=blocks, pretrained=None))
    how, tensors = from_deepinv_drunet(network.state_dict())
    assert how == {"features": [4, 6, 8, 10], "scales": 3, "blocks": blocks, "residual": False}
    prior = filled(DRUNet(**how, channels=channels, ranges=[(0.0, 0.2)]), tensors)
    assert_same(prior, network, sides=((32, 40), (31, 43)), channels=channels, sigma=torch.tensor([0.05, 0.2]))
    learned = filled(DRUNet(**how, sigma=0.1, channels=channels), tensors)
    z = torch.rand(2, channels, 32, 32)
    torch.testing.assert_close(learned(z), network(z, 0.1))


# ---- fastMRI


def block(state, name, z):
    for place in (0, 4):
        z = F.conv2d(z, state[f"{name}.layers.{place}.weight"], padding=1)
        mean, deviation = z.mean((2, 3), keepdim=True), (z.var((2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
        z = (z - mean) / deviation
        z = torch.where(z > 0, z, 0.2 * z)
    return z


def unet(state, z, pools):
    """Its U-Net, written out: halving by means, and rows and columns that lack reflected."""
    kept = []
    for pool in range(pools):
        z = block(state, f"down_sample_layers.{pool}", z)
        kept.append(z)
        z = z[..., : z.shape[-2] // 2 * 2, : z.shape[-1] // 2 * 2].unfold(2, 2, 2).unfold(3, 2, 2).mean((-2, -1))
    z = block(state, "conv", z)
    for pool in range(pools):
        weight = state[f"up_transpose_conv.{pool}.layers.0.weight"]
        z = torch.einsum("bihw,iokl->bohkwl", z, weight).flatten(4, 5).flatten(2, 3)
        z = (z - z.mean((2, 3), keepdim=True)) / (z.var((2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
        z = torch.where(z > 0, z, 0.2 * z)
        other = kept.pop()
        z = z if z.shape[-2] == other.shape[-2] else torch.cat([z, z[..., -2:-1, :]], -2)
        z = z if z.shape[-1] == other.shape[-1] else torch.cat([z, z[..., -2:-1]], -1)
        z = block(state, f"up_conv.{pool}{'.0' if pool == pools - 1 else ''}", torch.cat([z, other], 1))
    weight, bias = (state[f"up_conv.{pools - 1}.1.{part}"] for part in ("weight", "bias"))
    return torch.einsum("bihw,oi->bohw", z, weight[..., 0, 0]) + bias.view(1, -1, 1, 1)


def normalised_unet(state, z, pools):
    """Its U-Net on complex images in units of their own, in a frame of zeros up to multiples of 16."""
    maps = torch.cat([z.real, z.imag], 1)
    mean, deviation = maps.mean((2, 3), keepdim=True), maps.std((2, 3), keepdim=True)
    height, width = maps.shape[2:]
    tall, wide = (-(-side // 16) * 16 for side in (height, width))
    top, left = (tall - height) // 2, (wide - width) // 2
    framed = torch.zeros(len(maps), 2, tall, wide)
    framed[..., top : top + height, left : left + width] = (maps - mean) / deviation
    found = unet(state, framed, pools)[..., top : top + height, left : left + width] * deviation + mean
    return torch.complex(found[:, :1], found[:, 1:])


def state_of_fastmri(features, pools, channels):
    """Weights at random under its names."""
    torch.manual_seed(0)
    state, sizes = {}, [channels, *(features << pool for pool in range(pools + 1))]

    def add(name, before, after):
        for place, given in ((0, before), (4, after)):
            state[f"{name}.layers.{place}.weight"] = 0.3 * torch.randn(after, given, 3, 3)

    for pool in range(pools):
        add(f"down_sample_layers.{pool}", sizes[pool], sizes[pool + 1])
        larger, smaller = sizes[pools - pool], sizes[pools - pool + 1]
        state[f"up_transpose_conv.{pool}.layers.0.weight"] = torch.randn(smaller, larger, 2, 2)
        add(f"up_conv.{pool}{'.0' if pool == pools - 1 else ''}", 2 * larger, larger)
    add("conv", sizes[-2], sizes[-1])
    state[f"up_conv.{pools - 1}.1.weight"] = torch.randn(channels, features, 1, 1)
    state[f"up_conv.{pools - 1}.1.bias"] = torch.randn(channels)
    return state


@pytest.mark.parametrize(("pools", "channels", "sides"), [(3, 1, (21, 30)), (1, 3, (8, 7))])
def test_unet_of_fastmri_written_out(pools, channels, sides):
    state = state_of_fastmri(3, pools, channels)
    how, tensors = from_fastmri_unet(state)
    assert how == {"features": [3 << pool for pool in range(pools + 1)], "scales": pools, "residual": False}
    prior = filled(UNet(**how, channels=channels), tensors)
    assert_same(prior, lambda z: unet(state, z, pools), sides=(sides,), channels=channels)


@pytest.mark.parametrize("pools", [4, 2])
def test_normalised_unet_of_fastmri_written_out(pools):
    state = state_of_fastmri(3, pools, 2)
    how, tensors = from_fastmri_unet(state)
    prior, z = (
        filled(UNet(**how, normalized=True, complex_images=True), tensors),
        torch.randn(2, 1, 21, 35, dtype=torch.complex64) + 0.5,
    )
    with torch.no_grad():
        torch.testing.assert_close(prior(z), normalised_unet(state, z, pools), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("pools", "sides"), [(4, (50, 61)), (2, (31, 38))])
def test_unets_of_fastmri(fastmri, pools, sides):
    torch.manual_seed(0)
    network = shaken(fastmri.Unet(3, 3, 6, pools))
    how, tensors = from_fastmri_unet(network.state_dict())
    assert_same(filled(UNet(**how, channels=3), tensors), network, sides=(sides,), channels=3)
    network = shaken(fastmri.NormUnet(6, pools))
    how, tensors = from_fastmri_unet({key.removeprefix("unet."): part for key, part in network.state_dict().items()})
    prior, z = (
        filled(UNet(**how, normalized=True, complex_images=True), tensors),
        torch.randn(2, 1, *sides, dtype=torch.complex64) + 0.5,
    )
    with torch.no_grad():
        expected = torch.view_as_complex(network(torch.view_as_real(z)))
        torch.testing.assert_close(prior(z), expected, rtol=1e-5, atol=1e-5)


# ---- other weights


def test_names_that_lack_or_are_left_over_are_said():
    state = state_of_fastmri(3, 2, 1)
    with pytest.raises(ValueError, match=r"weights: as a state of fastMRI's U-Net it lacks conv\.layers\.4\.weight$"):
        from_fastmri_unet({name: part for name, part in state.items() if name != "conv.layers.4.weight"})
    with pytest.raises(ValueError, match=r"it also has more, other$"):
        from_fastmri_unet({**state, "other": state["conv.layers.0.weight"], "more": state["conv.layers.0.weight"]})
    for take, owner in (
        (from_fastmri_unet, "fastMRI's U-Net"),
        (from_deepinv_unet, "deepinv's UNet"),
        (from_deepinv_dncnn, "deepinv's DnCNN"),
        (from_deepinv_drunet, "DRUNet"),
    ):
        for given in ({}, {"w": torch.zeros(1)}):
            with pytest.raises(ValueError, match=f"weights: as a state of {owner} it lacks"):
                take(given)
