"""The end-to-end VarNet: the laws, and its equations in the k-space of all coils written out by themselves."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.laws import NetworkLaws, double, pictures
from tests.networks.training import trained_ten_steps
from unrolled.networks import ConjugateGradientStart, EndToEndVarNet, SensitivityNetwork
from unrolled.networks.priors.module_prior import ModulePrior
from unrolled.networks.sensitivities import sampled_middle
from unrolled.operators import CartesianMask, Coils, MaskedFourier, MultiCoilFourier, RadialMask
from unrolled.training.losses import SSDU, ConsistencyLoss, MSELoss


def small(**options):
    return EndToEndVarNet(**{"features": 4, "scales": 1, "map_features": 3, "map_scales": 1, **options})


def moved(**options):
    """From the adjoint on the first η has no effect, for there is nothing to take back; so it begins elsewhere."""
    return small(**{"start": ConjugateGradientStart(2, 0.1), **options})


class TestEndToEndVarNet(NetworkLaws):
    network_class = EndToEndVarNet
    cases = {"residual": moved, "as fastMRI": lambda **options: moved(residual=False, **options)}
    rate = 1e-2
    no_tiles = "SoftConsistencyPhase looks at the image as a whole"
    no_implicit = "differentiation by Implicit needs shared=True"
    no_sets = "estimates one set of maps, and MultiCoilFourier has 2 sets; make it with map_features=None"

    def test_every_parameter_receives_a_gradient(self, case, kind):
        network, operator, x = self.make(case, kind)
        network.loss(x, operator(x), operator).backward()
        for key, parameter in network.named_parameters():
            # Outside of k-space all that is measured is explained at first, and the first η has nothing to take back.
            idle = kind == "real" and key == "phases.0.step.raw_weight"
            assert (parameter.grad.norm() == 0) == idle, key

    def test_a_few_steps_of_training_beat_the_start(self, case, kind):
        if case == "residual":  # the other one begins with maps and an image at random
            super().test_a_few_steps_of_training_beat_the_start(case, kind)


# ---- the equations


def transform(x):
    """F with the zero frequency in the middle, as fastMRI has it."""
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x, (-2, -1)), norm="ortho"), (-2, -1))


def back(k):
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(k, (-2, -1)), norm="ortho"), (-2, -1))


def problem(noise=0.1):
    """A network with all weights at random, an operator with masks of columns, centered, and noisy k-space."""
    torch.manual_seed(0)
    network = small(phases=3, residual=False, complex_images=True).double()
    with torch.no_grad():
        for phase in network.phases:
            phase.step.raw_weight.add_(0.3 * torch.randn(()))
    mask = torch.zeros(16, 14)
    mask[:, [0, 3, 5, 6, 7, 8, 9, 12]] = 1  # on either side of column 7 two have no gap
    operator = MultiCoilFourier(Coils(3).draw(16, 14) * 2, mask, centered=True).double()
    y = operator(double(pictures(16, 14, complex_images=True)))
    return network, operator, operator.sampled(y + noise * torch.randn_like(y))


def test_it_is_its_equations_in_the_k_space_of_all_coils():
    network, operator, y = problem()
    k0 = y[:, 0]  # (batch, coil, height, width)
    middle = torch.zeros(14, dtype=torch.float64)
    middle[5:9] = 1
    images = network.maps.prior(back(middle * k0))
    maps = images / (images.abs() ** 2).sum(1, keepdim=True).sqrt()
    k = k0
    for phase in network.phases:
        image = (maps.conj() * back(k)).sum(1, keepdim=True)
        soft = F.softplus(phase.step.raw_weight) * torch.where(operator.mask.bool(), k - k0, 0)
        k = k - soft - transform(maps * phase.prior(image))
    expected = (maps.conj() * back(k)).sum(1, keepdim=True)
    assert (expected - (maps.conj() * back(k0)).sum(1, keepdim=True)).abs().max() > 0.1
    torch.testing.assert_close(network(y, operator), expected, rtol=1e-10, atol=1e-10)
    magnitude = (back(k).abs() ** 2).sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(network.magnitude(y, operator), magnitude, rtol=1e-10, atol=1e-10)
    # Noise is in it that no image explains.
    assert (magnitude - expected.abs()).mean() > 1e-3


def test_of_one_coil_it_is_its_equation_with_the_operator_as_it_is():
    network, _, _ = problem()
    operator = MaskedFourier(RadialMask(0.4), 16, 14, complex_images=True, centered=True).double()
    y = k = operator(double(pictures(16, 14, complex_images=True)))
    for phase in network.phases:
        k = k - phase.step.weight() * (operator.mask * k - y) - transform(phase.prior(back(k)))
    torch.testing.assert_close(network(y, operator), back(k), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(network.magnitude(y, operator), back(k).abs(), rtol=1e-10, atol=1e-10)


def test_its_size_is_that_of_fastmri():
    def u_net(features, scales=4, parts=2):
        """Two 3×3 convolutions at every size, 2×2 ones between sizes on the way out, and a 1×1 with a bias."""
        sizes = [features << scale for scale in range(scales + 1)]
        inward = sum(9 * (a * b + b * b) for a, b in zip([parts, *sizes], sizes, strict=False))
        outward = sum(4 * 2 * a * a + 9 * (2 * a * a + a * a) for a in sizes[:-1])
        return inward + outward + features * parts + parts

    network = EndToEndVarNet(complex_images=True)
    assert network.parameter_count == 12 * (u_net(18) + 1) + u_net(8)
    assert network.parameter_count == pytest.approx(29.9e6, rel=0.002)


# ---- maps of the coils


def test_untrained_it_is_the_adjoint_with_maps_of_self_calibration():
    operator = MultiCoilFourier(Coils(4), CartesianMask(3, center=0.3), 24, 20)
    x = pictures(24, 20, complex_images=True)
    y = operator(x)
    network = small(phases=2, complex_images=True)
    middle = y * sampled_middle(operator.mask, False)
    images = torch.fft.ifft2(middle, norm="ortho")
    maps = images / torch.linalg.vector_norm(images, dim=2, keepdim=True)
    everything = torch.fft.ifft2(y, norm="ortho")
    torch.testing.assert_close(network(y, operator), (maps.conj() * everything).sum(2), rtol=1e-4, atol=1e-5)
    assert network.operator_of(y, operator).norm() == pytest.approx(1, abs=1e-3)


def test_of_the_operators_maps_nothing_is_seen():
    network, operator, y = problem()
    other = operator.with_maps(torch.randn_like(operator.maps))
    for use in (network, network.first_image, network.magnitude):
        torch.testing.assert_close(use(y, other), use(y, operator))
    given = small(phases=2, map_features=None, complex_images=True).double()
    assert given.maps is None
    assert (given(y, other) - given(y, operator)).abs().max() > 1e-2


def test_losses_see_the_maps_that_it_estimates():
    network, operator, y = problem(noise=0)
    image = network(y, operator)
    measured = operator.with_maps(network.maps(y, operator))(image)
    expected = (operator.mask * (measured - y).abs() ** 2).sum() / (operator.mask.sum() * 3 * 3)
    loss = ConsistencyLoss()(network, y, operator)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(parameter.grad.norm() > 0 for parameter in network.maps.parameters())


def test_hidden_samples_are_compared_with_the_maps_of_those_that_were_shown():
    network, operator, y = problem(noise=0)
    loss = SSDU(part=0.4)
    torch.manual_seed(1)
    found = loss(network, y, operator)
    torch.manual_seed(1)
    shown, hidden = loss.split(operator, len(y))
    given = operator.with_mask(shown)
    image = network(given.sampled(y), given)
    measured = operator.with_mask(hidden).with_maps(network.maps(given.sampled(y), given))(image)
    truth = operator.with_mask(hidden).sampled(y)
    error = (measured - truth).abs().flatten(1)
    size = truth.abs().flatten(1)
    expected = error.square().sum(1).sqrt() / size.square().sum(1).sqrt() + error.sum(1) / size.sum(1)
    torch.testing.assert_close(found, expected.mean())


def test_losses_compare_magnitudes_where_maps_are_estimated():
    network, operator, y = problem()
    x = double(pictures(16, 14, complex_images=True))
    turned = 1j * x
    expected = (network(y, operator).abs() - x.abs()).square().mean()
    for truth in (x, turned):
        torch.testing.assert_close(network.loss(truth, y, operator), expected)
        torch.testing.assert_close(MSELoss()(network, y, operator, truth), expected)
    given = small(phases=1, map_features=None, complex_images=True).double()
    assert (given.loss(x, y, operator) - given.loss(turned, y, operator)).abs() > 1e-3


def test_masks_of_each_image_have_middles_of_their_own_and_channels_share_maps():
    network = small(phases=1, complex_images=True)
    masks = torch.zeros(2, 1, 12, 12)
    masks[0, :, :, [0, 1, 4, 10, 11]] = 1
    masks[1, :, [0, 1, 2, 9, 10, 11]] = 1
    operator = MultiCoilFourier(Coils(3), masks)
    x = pictures(12, 12, complex_images=True)[:2].repeat(1, 2, 1, 1)
    y = operator(x)
    together = network.maps(y, operator)
    assert together.shape == (2, 3, 12, 12)
    for here in (slice(0, 1), slice(1, 2)):
        torch.testing.assert_close(network.maps(y[here, :1], operator.of_images(here)), together[here])
    assert network(y, operator).shape == x.shape


def test_black_images_have_maps_and_gradients_that_are_numbers():
    network, operator, y = problem()
    network(0 * y, operator).abs().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters() if parameter.grad is not None)
    identity = SensitivityNetwork(ModulePrior(nn.Identity(), complex_images=True))
    assert torch.equal(identity(0 * y, operator), torch.zeros(3, 3, 16, 14, dtype=torch.complex128))


@pytest.mark.parametrize("centered", [False, True])
def test_the_middle_is_columns_rows_and_a_square_without_a_gap(centered):
    def middle(*, rows=(), columns=(), square=(), sides=(8, 10)):
        """Of a mask of these rows, columns and (first, end) of a square, as the set of what is in it."""
        mask = torch.zeros(*sides)
        mask[list(rows)], mask[:, list(columns)] = 1, 1
        if square:
            mask[square[0] : square[1], square[2] : square[3]] = 1
        there = sampled_middle(mask if centered else torch.fft.ifftshift(mask), centered)
        return (there if centered else torch.fft.fftshift(there)).bool()

    def lines(first, end, sides=(8, 10), axis=1):
        place = torch.arange(sides[axis]).view(-1, 1) if axis == 0 else torch.arange(sides[axis])
        return ((place >= first) & (place < end)).expand(*sides)

    assert torch.equal(middle(columns=[1, 4, 5, 6, 9]), lines(4, 6))
    assert torch.equal(middle(columns=[1, 3, 4, 5, 6, 9]), lines(3, 7))
    assert torch.equal(middle(columns=[5, 7]), lines(5, 6))  # the zero frequency's alone
    assert torch.equal(middle(rows=[2, 3, 4, 5, 7]), lines(2, 6, axis=0))
    assert torch.equal(middle(columns=range(10)), lines(0, 10))
    assert torch.equal(middle(square=(2, 7, 2, 9)), lines(3, 7) & lines(2, 6, axis=0))
    # Of an odd number of columns fastMRI begins at (7 − 2 + 1) // 2.
    assert torch.equal(middle(columns=[2, 3, 5], sides=(8, 7)), lines(3, 5, sides=(8, 7)))


# ---- use


def test_the_network_of_maps_rests_where_there_are_no_coils():
    """Of several processes that train, each must get a gradient of every parameter."""
    network = moved(phases=1, complex_images=True)
    bias = network.maps.prior.last.bias.requires_grad_(False)  # somebody's choice
    coils = MultiCoilFourier(Coils(3), RadialMask(0.4), 16, 14)
    x = pictures(16, 14, complex_images=True)
    for operator, rests in ((MaskedFourier(RadialMask(0.4), 16, 14, complex_images=True), True), (coils, False)):
        network.fit_operator(operator)
        network.zero_grad()
        network.loss(x, operator(x), operator).backward()
        learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        assert all(parameter.grad is not None for parameter in learning)
        assert any(parameter.requires_grad for parameter in network.maps.parameters()) is not rests
        assert not bias.requires_grad


def test_what_it_cannot_mean_is_refused():
    for arguments, message in (
        ({"phases": 0}, "phases must be"),
        ({"map_features": 0}, "map_features must be"),
        ({"step": 0.0}, "step must be a finite number > 0"),
    ):
        with pytest.raises(ValueError, match=message):
            small(**arguments)
    network, operator, y = problem()
    with pytest.raises(ValueError, match=r"magnitude is that of k-space.* got Scaled"):
        network.magnitude(y, 1.0 * operator)


@pytest.mark.parametrize("name", [pytest.param("Radon", marks=pytest.mark.full), "MaskedFourier"])
def test_it_is_trained_saved_and_evaluated(name, tmp_path):
    idle = ["phases.0.step.raw_weight"] if name == "Radon" else []  # as in the law of gradients
    trained_ten_steps(name, tmp_path, lambda kind: moved(phases=2, map_features=None, complex_images=kind), idle)
