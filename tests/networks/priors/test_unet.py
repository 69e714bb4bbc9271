"""The U-Net: the laws of its forms, its norms, its sides and its size."""

import pytest
import torch
from torch import nn

from tests.networks.priors.laws import PriorLaws, images
from unrolled.networks import ComposedNetwork, ProximalGradientPhase, UNet
from unrolled.networks.priors.unet import FixedNorm
from unrolled.operators import Identity
from unrolled.reconstruction.tiles import in_tiles, why_no_tiles

JIN = {"slope": 0.0, "pooling": "max", "upsampling": "nearest", "odd": "replicate", "bias": "all"}


class TestUNet(PriorLaws):
    prior_class = UNet
    cases = {
        "normalized": lambda **options: UNet(features=4, scales=2, normalized=True, **options),
        "plain": lambda **options: UNet(features=4, scales=1, **options),
        "Jin": lambda **options: UNet(**{"features": [8, 10, 12], "scales": 2, "norm": "batch", **JIN, **options}),
        "circular": lambda **options: UNet(4, 1, norm=None, boundary="circular", upsampling="bilinear", **options),
        "no norm": lambda **options: UNet(features=3, scales=2, norm=None, **options),
    }


class TestUNetWithoutTheImage(PriorLaws):
    prior_class = UNet
    cases = {"normalized": lambda **options: UNet(features=3, scales=1, normalized=True, residual=False, **options)}
    starts_at_identity = False


def test_normalized_it_scales_with_the_image_and_leaves_a_constant():
    prior, z = TestUNet().make("normalized")
    torch.testing.assert_close(prior(1e-5 * z + 3e-5), 1e-5 * prior(z) + 3e-5)
    constant = torch.full((1, 1, 9, 11), 0.25).requires_grad_()
    found = prior(constant)
    torch.testing.assert_close(found, constant)
    found.sum().backward()
    assert torch.isfinite(constant.grad).all()


def test_real_and_imaginary_parts_are_normalised_apart_and_colours_together():
    for kind, dims in (("complex", (2, 3)), ("colours together", (1, 2, 3))):
        prior, z = TestUNet().make("normalized", kind)
        maps = torch.cat([z.real, z.imag], 1) if kind == "complex" else z
        mean, deviation = prior.statistics(maps)
        torch.testing.assert_close(mean, maps.mean(dims, keepdim=True).expand_as(mean))
        torch.testing.assert_close(deviation, maps.std(dims, keepdim=True).expand_as(deviation))


def test_its_size_is_that_of_fastmri():
    with torch.device("meta"):
        sizes = [
            sum(parameter.numel() for parameter in UNet(features, complex_images=is_complex).parameters())
            for features, is_complex in ((32, False), (18, True), (8, True))
        ]
    assert sizes[0] == 7_756_097
    assert 12 * sizes[1] + sizes[2] + 12 == pytest.approx(30e6, rel=0.01)  # the end-to-end variational network


def test_a_batch_norm_with_given_statistics_is_that_of_torch_in_use():
    torch.manual_seed(0)
    norm, ours, z = nn.BatchNorm2d(3), FixedNorm(3), torch.randn(4, 3, 5, 5)
    for tensor in norm.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    ours.load_state_dict({key: value for key, value in norm.state_dict().items() if key != "num_batches_tracked"})
    before = ours.running_mean.clone()
    torch.testing.assert_close(ours.train()(z), norm.eval()(z))
    assert torch.equal(ours.running_mean, before)


def test_only_without_a_norm_of_images_it_has_a_reach():
    reaches = {
        name: UNet(4, 2, **options).reach
        for name, options in {
            "instance": {},
            "normalized": {"norm": None, "normalized": True},
            "circular": {"norm": None, "boundary": "circular"},
            "none": {"norm": None},
            "batch": {"norm": "batch"},
            "nearest": {"norm": None, "upsampling": "nearest"},
        }.items()
    }
    finite = {"none": 23, "batch": 23, "nearest": 26}
    assert reaches == {"instance": None, "normalized": None, "circular": None, **finite}


@pytest.mark.parametrize("upsampling", ["transposed", "nearest", "bilinear"])
def test_what_it_looks_at_is_exactly_what_it_says(upsampling):
    prior = UNet(2, 1, norm=None, upsampling=upsampling, slope=1.0).double()
    for parameter in prior.parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)
    side = 2 * prior.reach + 8
    z = torch.rand(1, 1, side, side, dtype=torch.float64).requires_grad_()
    found = 0
    for place in (side // 2 // 2 * 2, side // 2 // 2 * 2 + 1):
        (seen,) = torch.autograd.grad(prior(z)[0, 0, place, place], z)
        found = max(found, int(((seen[0, 0] != 0).nonzero() - place).abs().max()))
    assert found == prior.reach


@pytest.mark.parametrize("case", ["no norm", "Jin"])
def test_tiles_give_the_image_of_the_whole(case):
    prior, _ = TestUNet().make(case)
    network, operator, y = ComposedNetwork(ProximalGradientPhase(prior), 1), Identity(), torch.rand(1, 1, 83, 69)
    with torch.no_grad():
        torch.testing.assert_close(in_tiles(y, network, operator, 20), network(y, operator))


def test_tiles_are_refused_where_it_looks_everywhere():
    network = ComposedNetwork(ProximalGradientPhase(UNet(4, 1)), 1)
    assert "its reach is None" in why_no_tiles(network, Identity())


def test_dropout_is_for_training_alone():
    prior, z = UNet(8, 1, dropout=0.5, residual=False), images(1, False)
    torch.manual_seed(0)
    assert not torch.equal(prior(z), prior(z))
    prior.eval()
    assert torch.equal(prior(z), prior(z))
    plain = UNet(8, 1, residual=False)
    plain.load_state_dict(prior.state_dict())
    torch.testing.assert_close(plain(z), prior(z))


@pytest.mark.full
def test_it_compiles_to_one_graph(fresh_compiler):
    prior, z = TestUNet().make("normalized", "complex", ranges=[(0.01, 0.2)])
    told = torch.tensor([[0.02], [0.1]])
    compiled = torch.compile(prior, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(z, told), prior(z, told))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("features", 0),
        ("scales", 0),
        ("norm", "layer"),
        ("bias", "some"),
        ("pooling", None),
        ("upsampling", "cubic"),
        ("boundary", "reflect"),
        ("odd", "zero"),
        ("dropout", 1.0),
        ("slope", -0.1),
    ],
)
def test_bad_arguments_are_refused_by_name(key, value):
    with pytest.raises(ValueError, match=f"UNet: {key} must be"):
        UNet(**{key: value})
