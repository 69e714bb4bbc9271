"""fastMRI's networks: what they compute, restated on weights at random, and by the package where it is installed."""

import pytest
import torch

import unrolled
from tests.networks.laws import pictures
from tests.weights.converting.test_priors_of_others import normalised_unet, state_of_fastmri, unet
from unrolled.networks import EndToEndVarNet
from unrolled.operators import Coils, MultiCoilFourier
from unrolled.weights import convert

PHASES, POOLS = 2, 2


def varnet_state():
    """A small VarNet under the names of fastMRI."""
    state = {}
    for cascade in range(PHASES):
        for key, tensor in state_of_fastmri(3, POOLS, 2).items():
            state[f"cascades.{cascade}.model.unet.{key}"] = tensor * (1 + 0.1 * torch.randn_like(tensor))
        state[f"cascades.{cascade}.dc_weight"] = 0.5 + torch.rand(1)
    state |= {f"sens_net.norm_unet.unet.{key}": tensor for key, tensor in state_of_fastmri(2, POOLS, 2).items()}
    return state


def measured():
    """Noisy k-space of three coils, centered, on columns of which the four in the middle have no gap."""
    torch.manual_seed(1)
    mask = torch.zeros(20, 18)
    mask[:, [0, 3, 7, 8, 9, 10, 13, 15]] = 1
    operator = MultiCoilFourier(Coils(3).draw(20, 18), mask, centered=True)
    y = operator(pictures(20, 18, complex_images=True)[:2])
    return operator, operator.sampled(y + 0.05 * torch.randn_like(y))


def part_of(state, prefix):
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def fourier(x, way):
    axes = (-2, -1)
    return torch.fft.fftshift(way(torch.fft.ifftshift(x, axes), norm="ortho"), axes)


def varnet(state, y, mask, middle):
    """Its program in the k-space of all coils: (batch, coil, height, width)."""
    images = fourier(y * middle, torch.fft.ifft2)
    each = images.flatten(0, 1).unsqueeze(1)
    maps = normalised_unet(part_of(state, "sens_net.norm_unet.unet."), each, POOLS).view_as(images)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    k = y
    for cascade in range(PHASES):
        image = (fourier(k, torch.fft.ifft2) * maps.conj()).sum(1, keepdim=True)
        change = normalised_unet(part_of(state, f"cascades.{cascade}.model.unet."), image, POOLS)
        soft = state[f"cascades.{cascade}.dc_weight"] * torch.where(mask > 0, k - y, 0)
        k = k - soft - fourier(change * maps, torch.fft.fft2)
    return fourier(k, torch.fft.ifft2).abs().square().sum(1).sqrt()


@pytest.mark.parametrize("trained_by", ["its program", "its module for training"])
def test_varnet_is_what_their_program_computes(trained_by, tmp_path):
    state, (operator, y) = varnet_state(), measured()
    saved = state
    if trained_by != "its program":
        saved = {f"varnet.{key}": tensor for key, tensor in state.items()}
        saved = {"state_dict": {**saved, "NMSE.total": torch.zeros(()), "loss.w": torch.ones(1, 1, 7, 7)}, "epoch": 3}
    torch.save(saved, tmp_path / "varnet.pt")
    converted = convert(tmp_path / "varnet.pt", "fastmri-varnet", licence="MIT")
    network = converted.network
    assert isinstance(converted.operator, MultiCoilFourier)
    if trained_by == "its program":
        unrolled.save(tmp_path / "w.safetensors", network, converted.operator, converted.card)
        network, _ = unrolled.load(tmp_path / "w.safetensors")
    assert isinstance(network, EndToEndVarNet)
    middle = torch.zeros(18)
    middle[7:11] = 1
    with torch.no_grad():
        expected = varnet(state, y[:, 0], operator.mask, middle)
        found = network.magnitude(y, operator)
    assert (expected - expected.mean()).abs().max() > 0.1
    torch.testing.assert_close(found[:, 0], expected, atol=1e-5, rtol=1e-5)


def test_varnet_is_that_of_fastmri(tmp_path):
    models = pytest.importorskip("fastmri.models", reason="for those who have fastMRI")
    theirs, (operator, y) = models.VarNet(PHASES, 2, POOLS, 3, POOLS).eval(), measured()
    torch.save(theirs.state_dict(), tmp_path / "varnet.pt")
    network = convert(tmp_path / "varnet.pt", "fastmri-varnet", licence="MIT").network
    mask = operator.mask[:1].bool().view(1, 1, 1, -1, 1).expand(len(y), -1, -1, -1, -1)
    with torch.no_grad():
        expected = theirs(torch.view_as_real(y[:, 0].contiguous()), mask)
        torch.testing.assert_close(network.magnitude(y, operator)[:, 0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("normalized", [True, False])
def test_unet_is_what_their_program_computes(normalized, tmp_path):
    state = state_of_fastmri(3, POOLS, 1)
    torch.save({"state_dict": {f"unet.{key}": tensor for key, tensor in state.items()}}, tmp_path / "unet.ckpt")
    converted = convert(tmp_path / "unet.ckpt", "fastmri-unet", licence="MIT", normalized=normalized)
    network, operator = converted.network, converted.operator
    image = pictures(32, 48)
    mean, deviation = image.mean((1, 2, 3), keepdim=True), image.std((1, 2, 3), keepdim=True)
    if not normalized:
        mean, deviation = 0, 1
    with torch.no_grad():
        expected = unet(state, (image - mean) / deviation, POOLS) * deviation + mean
        torch.testing.assert_close(network(image, operator), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("cascades.1.dc_weight"), "w.pt lacks cascades.1.dc_weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "w.pt also has extra"),
        (lambda s: s["cascades.0.dc_weight"].neg_(), "cascades.0.dc_weight must be one finite number > 0"),
        (
            lambda s: s.pop("cascades.1.model.unet.conv.layers.4.weight"),
            r"w.pt, cascades.1.model.unet.\*: as a state of fastMRI's U-Net it lacks conv.layers.4.weight",
        ),
        (
            lambda s: s.update({"sens_net.norm_unet.unet.conv.layers.4.weight": torch.zeros(3)}),
            "maps.prior.inward.2.1.convolution.weight must be real, of the shape",
        ),
        (
            lambda s: s.update({"sens_net.norm_unet.unet.conv.layers.0.weight": torch.zeros(9, 4, 3, 3)}),
            r"must double its maps at every size, got \[2, 4, 9\]",
        ),
        (
            lambda s: s.update({"cascades.0.model.unet.up_conv.1.1.weight": torch.zeros(1, 3, 1, 1)}),
            "must be for a real and an imaginary part, got 1 maps",
        ),
        (
            lambda s: s.pop("sens_net.norm_unet.unet.conv.layers.0.weight"),
            "is not the end-to-end VarNet of fastMRI: it has no sens_net.norm_unet.unet.conv.layers.0.weight",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, message, tmp_path):
    state = varnet_state()
    change(state)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "w.pt", "fastmri-varnet", licence="MIT")
