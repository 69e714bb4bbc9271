"""The split of samples, and the loss by hand."""

import math

import numpy as np
import pytest
import torch

from tests.training.losses.small import HEIGHT, WIDTH, measured
from unrolled.operators import Blur, Coils, GaussianKernel, Inpainting, MaskedFourier, MultiCoilFourier, RadialMask
from unrolled.training.losses import SSDU

LINES = RadialMask(0.5)
KINDS = {
    "pixels": lambda: Inpainting(keep=0.6, height=16, width=15),
    "frequencies": lambda: MaskedFourier(LINES, 16, 15),
    "complex, centered": lambda: MaskedFourier(LINES, 16, 15, complex_images=True, centered=True),
    "real, centered": lambda: MaskedFourier(LINES, 16, 15, centered=True),
    "coils": lambda: MultiCoilFourier(Coils(2), LINES, 16, 15),
    "a multiple": lambda: 3 * MaskedFourier(LINES, 16, 15, complex_images=True),
    "masks of each image": lambda: MaskedFourier(
        torch.stack([LINES.draw(16, 15), RadialMask(0.2).draw(16, 15)]).unsqueeze(1), complex_images=True
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_are_disjoint_and_all_of_the_samples(kind):
    operator = KINDS[kind]()
    samples = operator.operator if kind == "a multiple" else operator
    torch.manual_seed(0)
    given, hidden = SSDU(part=0.3, center=1).split(operator, 2)
    mask = samples.mask.expand(2, 1, 16, 15)
    assert torch.equal(given + hidden, mask)
    assert not (given * hidden).any()
    assert set(hidden.unique().tolist()) == {0, 1}
    assert not torch.equal(hidden[0], hidden[1])
    free = mask.clone()
    if kind != "pixels":  # the zero frequency and its neighbours are always given
        rows, columns = (slice(7, 10), slice(6, 9)) if "centered" in kind else ([-1, 0, 1], [-1, 0, 1])
        middle = given[..., rows, :][..., columns]
        assert torch.equal(middle, mask[..., rows, :][..., columns])
        free[..., torch.arange(16)[rows][:, None], torch.arange(15)[columns]] = 0
    often, wanted = hidden.sum((1, 2, 3)), 0.3 * free.sum((1, 2, 3))
    assert (often - wanted).abs().max() <= 1.5  # with a frequency its negative


@pytest.mark.parametrize("kind", ["frequencies", "real, centered"])
def test_of_real_images_a_frequency_and_its_negative_are_in_one_part(kind):
    # They are the conjugates of each other: what is to be predicted would be known.
    operator = KINDS[kind]()
    torch.manual_seed(0)
    given, _ = SSDU().split(operator, 4)
    frequencies = {
        tuple(place): (np.fft.fftfreq(16)[place[0]], np.fft.fftfreq(15)[place[1]]) for place in np.ndindex(16, 15)
    }
    if operator.centered:
        frequencies = {((r + 8) % 16, (c + 7) % 15): value for (r, c), value in frequencies.items()}
    place_of = {(round(16 * a) % 16, round(15 * b) % 15): place for place, (a, b) in frequencies.items()}
    for place, (a, b) in frequencies.items():
        negative = place_of[(round(-16 * a) % 16, round(-15 * b) % 15)]
        if operator.mask[place] and operator.mask[negative]:
            assert torch.equal(given[:, 0, *place], given[:, 0, *negative])


def test_samples_are_drawn_equally_often_or_by_a_density_around_zero():
    full = torch.ones(9, 9)
    operator = MaskedFourier(full, complex_images=True, centered=True)
    torch.manual_seed(0)
    often = SSDU(part=0.25, center=-1).split(operator, 2000)[1].mean((0, 1))
    assert (often - 20 / 81).abs().max() < 4.5 * (0.25 * 0.75 / 2000) ** 0.5
    # One frequency alone: with the probability that the density states.
    one = SSDU(part=1e-9, selection="gaussian", spread=0.3, center=-1).split(operator, 5000)[1].mean((0, 1)).numpy()
    distance = (np.arange(9) - 4) / 9 / 0.3
    density = np.exp(-(distance[:, None] ** 2 + distance**2) / 2)
    density /= density.sum()
    assert np.all(np.abs(one - density) < 4.5 * np.sqrt(density / 5000))


@pytest.mark.parametrize("kind", ["pixels", "complex", "coils"])
def test_the_loss_is_that_of_the_paper(kind):
    net, operator, _, y = measured(kind)
    loss = SSDU(part=0.4, center=0)
    torch.manual_seed(3)
    found = loss(net, y, operator).item()
    torch.manual_seed(3)
    given, hidden = loss.split(operator, 3)
    expected = []
    for image in range(3):
        parts = [mask[image, 0] for mask in (given, hidden)]
        if kind == "pixels":
            first, second = (Inpainting(mask).double() for mask in parts)
        elif kind == "complex":
            first, second = (MaskedFourier(mask, complex_images=True, centered=True).double() for mask in parts)
        else:
            first, second = (MultiCoilFourier(operator.maps, mask).double() for mask in parts)
        predicted = second(net(first.sampled(y[image, None]), first)).detach().numpy().ravel()
        u = second.sampled(y[image, None]).numpy().ravel()
        norms = [np.linalg.norm(u - predicted, order) / np.linalg.norm(u, order) for order in (2, 1)]
        expected.append(sum(norms))
    assert found == pytest.approx(np.mean(expected), rel=1e-10)
    torch.manual_seed(3)
    assert loss(net, 1000 * y, operator).item() == pytest.approx(found)  # of a network that is linear


def test_several_splits_are_averaged():
    net, operator, _, y = measured("complex")
    torch.manual_seed(0)
    alone = [SSDU()(net, y, operator) for _ in range(3)]
    torch.manual_seed(0)
    torch.testing.assert_close(SSDU(splits=3)(net, y, operator), torch.stack(alone).mean())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SSDU(part=1), r"SSDU: part must be in \(0, 1\), got 1"),
        (lambda: SSDU(selection="poisson"), "SSDU: selection must be 'uniform' or 'gaussian', got 'poisson'"),
        (lambda: SSDU(spread=math.nan), "SSDU: spread must be a finite number > 0, got nan"),
        (lambda: SSDU(center=-2), "SSDU: center must be >= -1, got -2"),
        (lambda: SSDU(splits=0), "SSDU: splits must be >= 1, got 0"),
        (lambda: SSDU().check(Blur(GaussianKernel(1.0)), None), "SSDU: needs an operator .* samples.*, got Blur"),
        (lambda: SSDU().split(Blur(GaussianKernel(1.0)), 1), "SSDU: needs an operator whose measurements are samples"),
        (
            lambda: SSDU(selection="gaussian").check(KINDS["pixels"](), None),
            "selection must be 'uniform' for Inpainting",
        ),
        (lambda: SSDU(center=8).check(KINDS["complex, centered"](), None), "SSDU: nothing can be drawn.*center=8"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_operators_with_other_masks_are_those_that_are_made_with_them():
    _, operator, x, _ = measured("pixels")
    masks = (torch.rand(3, 1, HEIGHT, WIDTH) < 0.5).double()
    other = operator.with_mask(masks)
    for image, mask in enumerate(masks):
        alone = Inpainting(mask[0]).double()
        here = slice(image, image + 1)
        for name in ("__call__", "adjoint", "estimate"):
            torch.testing.assert_close(getattr(other, name)(x)[here], getattr(alone, name)(x[here]))
        ridge = torch.tensor(0.3)
        torch.testing.assert_close(other.solve(x, ridge)[here], alone.solve(x[here], ridge))
    assert other.batch == 3
    assert operator.batch is None
    assert torch.equal(operator(x), operator.mask * x)  # which is what it was
    with pytest.raises(ValueError, match=r"Inpainting: images must be real, \(3, channel, 8, 9\)"):
        other(x[:2])
