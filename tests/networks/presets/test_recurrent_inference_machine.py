"""The recurrent inference machine: the laws, and its equation written out by itself."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.laws import NetworkLaws, double, measured, pictures
from tests.networks.training import trained_ten_steps
from unrolled.networks import ComposedNetwork, RecurrentInferenceMachine, RecurrentPhase
from unrolled.networks.recurrent_cells import GatedCell
from unrolled.operators import Identity
from unrolled.reconstruction.tiles import in_tiles
from unrolled.training.losses import MSELoss, PhaseLoss


class TestRecurrentInferenceMachine(NetworkLaws):
    network_class = RecurrentInferenceMachine
    cases = {
        "small": lambda **options: RecurrentInferenceMachine(**{"features": 6, **options}),
        "told the noise": lambda **options: RecurrentInferenceMachine(
            **{"features": 4, "noise_range": (0.01, 0.2), **options}
        ),
    }
    rate = 3e-3
    no_implicit = "RecurrentInferenceMachine: differentiation must be Unroll.. or Recompute.., .* got Implicit"


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_it_is_its_equation(kind):
    torch.manual_seed(0)
    network = RecurrentInferenceMachine(3, 5, complex_images=kind == "complex").double()
    operator, x = measured(kind)
    operator, x = operator.double(), double(x)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    y, (phase,) = operator(x), network.phases

    def parts(image):
        return torch.cat([image.real, image.imag], 1) if image.is_complex() else image

    def recur(cell, v, s):
        # The gates of a unit one by one, their kernels cut into those of the input and of the memory.
        def affine(layer, rows, *inputs):
            kernel, found = layer.weight[rows, :, 0, 0], layer.bias[rows].view(-1, 1, 1)
            for number, maps in enumerate(inputs):
                found = found + torch.einsum("oi, bihw -> bohw", kernel[:, 5 * number : 5 * number + 5], maps)
            return found

        g = 1 / (1 + torch.exp(-affine(cell.gates, slice(0, 5), v, s)))
        r = 1 / (1 + torch.exp(-affine(cell.gates, slice(5, 10), v, s)))
        return (1 - g) * s + g * torch.tanh(affine(cell.content, slice(0, 5), v, r * s))

    image = network.start(y, operator)
    s1 = s2 = torch.zeros(len(x), 5, *x.shape[2:], dtype=torch.float64)
    for _ in range(3):
        seen = torch.cat([parts(image), parts(operator.adjoint(operator(image) - y))], 1)
        s1 = recur(phase.cells[0], F.relu(F.conv2d(seen, phase.first.weight, phase.first.bias, padding=2)), s1)
        inner = F.conv2d(s1, phase.second.weight, phase.second.bias, padding=2, dilation=2)
        s2 = recur(phase.cells[1], F.relu(inner), s2)
        change = F.conv2d(s2, phase.last.weight, padding=1)
        image = image + (torch.complex(change[:, :1], change[:, 1:]) if kind == "complex" else change)
    torch.testing.assert_close(network(y, operator), image)


def test_a_cell_is_that_of_torch_on_every_pixel():
    # torch's update gate says how much stays, not how much is new, and it resets what is already multiplied: for a
    # kernel of the memory that is a multiple of the identity that is the same.
    torch.manual_seed(0)
    cell, other = GatedCell(3, 4), nn.GRUCell(3, 4)
    with torch.no_grad():
        other.weight_hh[8:] = 0.7 * torch.eye(4)
        other.bias_hh.zero_()
        reset, stays, content = other.weight_ih.split(4)
        kept = other.weight_hh.split(4)
        cell.gates.weight.copy_(
            torch.cat([torch.cat([-stays, -kept[1]], 1), torch.cat([reset, kept[0]], 1)])[..., None, None]
        )
        cell.gates.bias.copy_(torch.cat([-other.bias_ih[4:8], other.bias_ih[:4]]))
        cell.content.weight.copy_(torch.cat([content, kept[2]], 1)[..., None, None])
        cell.content.bias.copy_(other.bias_ih[8:])
    v, s = torch.randn(2, 3, 5, 6), torch.randn(2, 4, 5, 6)
    pixels = other(v.movedim(1, -1).reshape(-1, 3), s.movedim(1, -1).reshape(-1, 4))
    torch.testing.assert_close(cell(v, s), pixels.view(2, 5, 6, 4).movedim(-1, 1))


def test_its_size():
    # Of complex images: 25·4·64 + 64, 9·64·64 + 64, 9·64·2, and of either unit 3·(128·64 + 64).
    found = RecurrentInferenceMachine(complex_images=True).parameter_count
    assert found == 6464 + 36928 + 1152 + 2 * 24768


def test_what_it_remembers_makes_a_difference_and_weights_are_shared():
    network, operator, x = TestRecurrentInferenceMachine().make("small", phases=3)
    y = operator(x)
    assert network.parameter_count == RecurrentInferenceMachine(1, 6).parameter_count
    once = RecurrentInferenceMachine(1, 6)
    once.load_state_dict(network.state_dict())
    _, first, second, _ = network.iterates(y, operator)
    torch.testing.assert_close(once(y, operator), first)
    forgetful = once.phases[0]((first, *once.begin(y, operator)[1:]), y, operator)[0]
    assert (forgetful - second).abs().max() > 1e-4


def test_colours_are_seen_together_and_groups_apart():
    phase, operator = RecurrentPhase(4, channels=3), Identity()
    nn.init.normal_(phase.last.weight)
    network = ComposedNetwork(phase, 2, shared=True)
    x = torch.cat([pictures(9, 11), pictures(9, 11).flip(0), pictures(9, 11).flip(3)], 1)
    found = network(x, operator)
    six = network(torch.cat([x, x.flip(2)], 1), operator)
    torch.testing.assert_close(six[:, :3], found)
    torch.testing.assert_close(six[:, 3:], network(x.flip(2), operator))
    changed = network(x + torch.tensor([0.3, 0, 0]).view(3, 1, 1), operator)
    assert (changed - found)[:, 1:].abs().max() > 1e-3
    with torch.no_grad():
        torch.testing.assert_close(in_tiles(x, network, operator, 4), found, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"RecurrentPhase: images must have a multiple of 3 channels, .* got 1"):
        network(x[:, :1], operator)


def test_the_loss_of_the_papers_is_that_of_all_phases():
    network, operator, x = TestRecurrentInferenceMachine().make("small", phases=3)
    y = operator(x)
    expected = sum((image - x).square().mean() for image in network.iterates(y, operator)[1:]) / 3
    torch.testing.assert_close(PhaseLoss(MSELoss(), decay=1.0)(network, y, operator, x), expected)


@pytest.mark.parametrize(("key", "value"), [("phases", 0), ("features", 2.5), ("channels", 0)])
def test_bad_arguments_are_refused_by_name(key, value):
    with pytest.raises(ValueError, match=f"RecurrentInferenceMachine: {key} must be"):
        RecurrentInferenceMachine(**{key: value})


@pytest.mark.parametrize("name", ["Radon", "MaskedFourier"])
def test_it_is_trained_saved_and_evaluated(name, tmp_path):
    trained_ten_steps(name, tmp_path, lambda kind: RecurrentInferenceMachine(2, 4, complex_images=kind))
