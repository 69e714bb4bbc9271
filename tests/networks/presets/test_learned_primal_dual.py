"""Learned primal-dual: the laws, its equation written out by itself, and on which operators it works."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.laws import NetworkLaws, double, measured, pictures
from tests.networks.training import trained_ten_steps
from unrolled.networks import ComposedNetwork, LearnedPrimalDual, LearnedPrimalDualPhase, Recompute
from unrolled.operators import (
    BlockCompressedSensing,
    Coils,
    Dense,
    Identity,
    Inpainting,
    LinearOperator,
    MaskedFourier,
    MultiCoilFourier,
    RadialMask,
    Radon,
)


class Weighted(LinearOperator):
    """Pixels of which each has a learned weight."""

    def __init__(self):
        super().__init__()
        self.inner = Inpainting(keep=0.5, height=16, width=16)
        self.image_shape = self.inner.image_shape
        self.weights = nn.Parameter(torch.ones(16, 16))

    def forward(self, x):
        return self.weights * self.inner(x)

    def adjoint(self, y):
        return self.inner.adjoint(self.weights * y)


class TestLearnedPrimalDual(NetworkLaws):
    network_class = LearnedPrimalDual
    cases = {
        "small": lambda **options: LearnedPrimalDual(**{"memory": 2, "features": 4, **options}),
        "told the noise": lambda **options: LearnedPrimalDual(
            **{"memory": 3, "features": 3, "noise_range": (0.01, 0.2), **options}
        ),
    }
    rate = 3e-3
    no_tiles = "tile: LearnedPrimalDualPhase carries measurements, which are of the image as a whole, so it has no"
    no_implicit = "LearnedPrimalDual: differentiation must be Unroll.. or Recompute.., .* got Implicit"

    def measured(self, kind):
        if kind == "complex":
            return measured(kind)
        return Inpainting(keep=0.5, height=16, width=16), pictures(16, 16)

    def tiny(self, kind):
        return (
            super().tiny(kind) if kind == "complex" else (Inpainting(keep=0.5, height=5, width=6), pictures(5, 6)[:1])
        )

    def learned_operator(self):
        return Weighted()


def three_layers(layers, parts):
    """Convolutions of parts, each (channel, height, width), real or complex, one image alone; the parts they make."""
    maps = [[part.real, part.imag] if part.is_complex() else [part] for part in parts]
    z = torch.cat([each for pair in maps for each in pair])[None]
    for number in (0, 2, 4):
        z = F.conv2d(z, layers[number].weight, layers[number].bias, padding=1)
        if number < 4:
            z = torch.where(z > 0, z, z * layers[number + 1].weight[:, None, None])
    found = z[0].split(len(parts[0]))
    if not parts[0].is_complex():
        return found
    return [torch.complex(*pair) for pair in zip(found[::2], found[1::2], strict=True)]


def by_the_paper(network, y, operator):
    """Algorithm 3, image by image; coils one by one, channels together as the network sees them."""
    result = []
    everything = operator
    for number in range(len(y)):
        here = y[number : number + 1]
        operator = everything.of_images(slice(number, number + 1)) if everything.batch else everything
        f = [network.start(here, operator)] * 3
        h = [torch.zeros_like(here)] * 3
        for phase in network.phases:
            parts, added = [*h, operator(f[1]), here], [torch.zeros_like(here) for _ in h]
            group = phase.dual.channels
            for first, coil in product(range(0, here.shape[1], group), range(1 if here.ndim == 4 else here.shape[2])):
                seen = (0, slice(first, first + group), *(() if here.ndim == 4 else (coil,)))
                for whole, one in zip(
                    added, three_layers(phase.dual.layers, [part[seen] for part in parts]), strict=True
                ):
                    whole[seen] = one
            h = [a + b for a, b in zip(h, added, strict=True)]
            parts, added = [*f, operator.adjoint(h[0])], [torch.zeros_like(f[0]) for _ in f]
            group = phase.primal.channels
            for first in range(0, f[0].shape[1], group):
                seen = (0, slice(first, first + group))
                for whole, one in zip(
                    added, three_layers(phase.primal.layers, [part[seen] for part in parts]), strict=True
                ):
                    whole[seen] = one
            f = [a + b for a, b in zip(f, added, strict=True)]
        result.append(f[0])
    return torch.cat(result)


def folded(maps):
    """Two sets of maps for every image, of an object that is folded."""
    return torch.stack([maps, maps.roll(4, -1)], 1) / 2**0.5


PROBLEMS = {
    "sinograms": lambda: (Radon(5, 8, 8).normalized(), pictures(8, 8), {}),
    "colours together": lambda: (
        Radon(5, 8, 8).normalized(),
        torch.cat([pictures(8, 8), pictures(8, 8).flip(0), pictures(8, 8).flip(2)], 1),
        {"channels": 3},
    ),
    "coils": lambda: (*measured("complex"), {"complex_images": True}),
    "coils, two sets of maps": lambda: (
        MultiCoilFourier(
            folded(torch.stack([Coils(3, radius).draw(8, 9) for radius in (1.2, 1.5)])), RadialMask(0.4), 8, 9
        ),
        torch.cat([pictures(8, 9, True), pictures(8, 9, True).flip(0)], 1),
        {"complex_images": True, "channels": 2, "measured_channels": 1},
    ),
    "the Fourier plane of real images": lambda: (
        MaskedFourier(RadialMask(0.5), 8, 9),
        pictures(8, 9),
        {"complex_measurements": True},
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_it_is_its_equation(name):
    operator, x, options = PROBLEMS[name]()
    torch.manual_seed(0)
    network, operator = LearnedPrimalDual(2, 3, 4, **options).double(), operator.double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    y = operator(double(x[:2]))
    assert network.norm_of(operator) == 1
    expected = by_the_paper(network, y, operator)
    assert (expected - network.start(y, operator)).abs().max() > 1e-2
    torch.testing.assert_close(network(y, operator), expected)


def test_its_size_is_that_of_the_authors_code():
    # Per phase: 7·9·32 + 32, 32·9·32 + 32 and 32·9·5 + 5 for the duals, 6 inputs for the images, and 4·32 slopes.
    dual, primal = 2048 + 9248 + 1445, 1760 + 9248 + 1445
    assert LearnedPrimalDual().parameter_count == 10 * (dual + primal + 128) == 253_220


def test_untrained_it_is_its_start():
    operator = Inpainting(keep=0.5, height=8, width=9)
    y = operator(pictures(8, 9))
    start, *images = LearnedPrimalDual(3, 2, 4).iterates(y, operator)
    for image in images:
        assert torch.equal(image, start)


def test_a_phase_of_it_is_composed():
    operator = MaskedFourier(RadialMask(0.5), 8, 9, complex_images=True)
    phase = LearnedPrimalDualPhase(2, 4, complex_images=True, complex_measurements=True)
    network = ComposedNetwork(phase, 3, complex_images=True, differentiation=Recompute())
    x = pictures(8, 9, True)
    assert network(operator(x), operator).shape == x.shape
    assert network.parameter_count == 3 * sum(parameter.numel() for parameter in phase.parameters())


def test_duals_that_are_no_pictures_are_refused_in_the_first_call():
    network, x = LearnedPrimalDual(1, 2, 4), pictures(8, 8)
    blocks, matrix = BlockCompressedSensing(0.5, block=4), Dense(torch.randn(5, 64), 8, 8)
    for operator, name in (
        (blocks, "BlockCompressedSensing"),
        (0.9 * blocks, "Scaled"),
        (10.0 * blocks, "UnitNorm"),
        (Identity() @ blocks, "Composition|Blocks"),
        (matrix, "Dense|UnitNorm"),
    ):
        for use in (network, network.iterates):
            with pytest.raises(ValueError, match=r"measurements must be pictures, .* those of ") as error:
                use(operator(x), operator)
            assert name.split("|")[0] in str(error.value) or name.split("|")[-1] in str(error.value)


def test_measurements_of_another_kind_or_other_channels_are_refused_in_the_first_call():
    fourier, x = MaskedFourier(RadialMask(0.5), 8, 9), pictures(8, 9)
    with pytest.raises(
        ValueError, match=r"real measurements, .* MaskedFourier are complex; .*complex_measurements=True"
    ):
        LearnedPrimalDual(1, 2, 4)(fourier(x), fourier)
    with pytest.raises(ValueError, match=r"complex measurements, .* Identity are real; .*complex_measurements=False"):
        LearnedPrimalDual(1, 2, 4, complex_measurements=True)(x, Identity())
    with pytest.raises(ValueError, match="a multiple of 2 channels, which it sees together, got 1"):
        LearnedPrimalDual(1, 2, 4, channels=2)(x, Identity())


@pytest.mark.parametrize(
    ("key", "value"), [("phases", 0), ("memory", 1), ("features", 2.5), ("channels", 0), ("measured_channels", 0)]
)
def test_bad_arguments_are_refused_by_name(key, value):
    with pytest.raises(ValueError, match=f"LearnedPrimalDual: {key} must be"):
        LearnedPrimalDual(**{key: value})


@pytest.mark.parametrize("name", ["Radon", "MaskedFourier"])
def test_it_is_trained_saved_and_evaluated(name, tmp_path):
    trained_ten_steps(name, tmp_path, lambda kind: LearnedPrimalDual(2, 2, 4, complex_images=kind))
