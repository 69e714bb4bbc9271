"""HQS-Net: the laws, and its equation written out by itself."""

import pytest
import torch
import torch.nn.functional as F

import unrolled
from tests.networks.laws import NetworkLaws, measured
from tests.networks.presets.splitting import DenseProblem, disturbed
from tests.networks.training import trained_ten_steps
from tests.pairs import first_of
from unrolled.networks import ConjugateGradientStart, HQSNet, ModulePrior, Prior, ResidualCNN
from unrolled.operators import Blur, Downsampling
from unrolled.weights.card import read


def unexplained():
    return ConjugateGradientStart(3, ridge=0.2)


class TestHQSNet(NetworkLaws):
    network_class = HQSNet
    cases = {
        # It does not start where all is explained, for there the first data step has nothing to do.
        "small": lambda **options: HQSNet(**{"features": 8, "depth": 3, "start": unexplained(), **options}),
        "own priors, told the noise": lambda **options: HQSNet(
            **{
                "features": 8,
                "depth": 2,
                "shared": False,
                "noise_range": (0.01, 0.2),
                "start": unexplained(),
                **options,
            }
        ),
    }
    rate = 3e-3
    implicit_options = {}
    no_implicit = "HQSNet: differentiation by Implicit needs phases that are one"


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_it_is_its_equation(kind):
    problem, levels = DenseProblem(kind), torch.tensor([0.02, 0.15], dtype=torch.float64)
    network = disturbed(HQSNet(3, 4, 2, complex_images=kind == "complex", noise_range=(0.01, 0.2)), 0.3)
    images = network.iterates(problem.y, problem.operator, noise=levels)
    denoiser, z, told = network.phases[0].prior, problem.start(), levels[:, None]
    for phase, image in zip(network.phases, images[1:], strict=True):
        alpha = F.softplus(phase.data_step.raw_weight) * phase.data_step.factors(told).view(2, 1, 1, 1)
        beta = F.softplus(phase.level.raw) * phase.level.factors(told)
        assert alpha[0] != alpha[1]
        assert beta[0] != beta[1]
        z = denoiser(problem.nearest(z, alpha), beta)
        torch.testing.assert_close(image, z)


def test_phases_share_a_denoiser_and_have_numbers_of_their_own():
    network = HQSNet(4, 4, 2)
    first = network.phases[0].prior
    assert all(phase.prior is first for phase in network.phases)
    assert network.parameter_count == sum(each.numel() for each in first.parameters()) + 2 * 4
    alphas = [float(phase.data_step.weight().detach()) for phase in network.phases]
    betas = [float(phase.level(None, 1).detach()) for phase in network.phases]
    assert alphas == pytest.approx([0.02, 0.02 * 25 ** (1 / 3), 0.02 * 25 ** (2 / 3), 0.5], rel=1e-5)
    assert betas == pytest.approx([0.2, 0.2 * 0.1 ** (1 / 3), 0.2 * 0.1 ** (2 / 3), 0.02], rel=1e-5)
    own = HQSNet(4, 4, 2, shared=False)
    assert not torch.equal(own.phases[0].prior.layers[0].weight, own.phases[1].prior.layers[0].weight)


def test_what_phases_share_is_once_in_the_weights(tmp_path):
    operator, x = measured("real")
    torch.manual_seed(0)
    network = disturbed(HQSNet(3, 4, 2)).float().to(memory_format=torch.channels_last)
    unrolled.save(tmp_path / "w.safetensors", network, operator)
    _, tensors = read(tmp_path / "w.safetensors")
    assert sum(tensor.numel() for key, tensor in tensors.items() if key.startswith("network.")) == (
        network.parameter_count
    )
    loaded, _ = unrolled.load(tmp_path / "w.safetensors")
    assert loaded.phases[0].prior is loaded.phases[2].prior
    assert torch.equal(loaded(operator(x), operator), network(operator(x), operator))
    state = network.state_dict()
    assert not any(key.startswith("phases.1.prior") for key in state)
    del state["phases.0.prior.layers.0.bias"]
    with pytest.raises(RuntimeError, match=r"Missing key.* \"phases.0.prior.layers.0.bias\""):
        network.load_state_dict(state)


@pytest.mark.parametrize(
    "operator", [Blur(torch.ones(3, 3) / 9), Downsampling(2, boundary="circular")], ids=["blur", "downsampling"]
)
def test_its_data_step_has_a_closed_form_for_what_usrnet_is_for(operator):
    network = disturbed(HQSNet(2, 4, 2)).float()
    for phase in network.phases:
        phase.data_step.closed_form = True
    x = torch.rand(2, 3, 12, 16)
    assert network(operator(x), operator).shape == x.shape


class Told(Prior):
    reach = 0

    def forward(self, z, condition=None):
        return z / (1 + condition[..., None, None])


def test_priors_of_ones_own_are_told_the_level_if_they_listen():
    operator, x = measured("real")
    y = operator(x)
    network = HQSNet(2, prior=Told(), noise_range=(0.01, 0.2))
    assert network(y, operator, noise=0.1).shape == x.shape
    denoiser = ModulePrior(torch.nn.Conv2d(1, 1, 3, padding=1))
    deaf = HQSNet(2, prior=denoiser, noise_range=(0.01, 0.2))
    assert [phase.level for phase in deaf.phases] == [None, None]
    deaf.loss(x, y, operator, noise=0.1).backward()
    assert all(parameter.grad is not None for parameter in deaf.parameters())
    listening = HQSNet(2, prior=ResidualCNN(4, 2, ranges=[(0.01, 0.3)]))
    assert all(phase.level is not None for phase in listening.phases)


@pytest.mark.parametrize("value", [(0.1,), 0.1, (0.1, 0.0), (float("nan"), 0.1)])
@pytest.mark.parametrize("key", ["ridges", "levels"])
def test_bad_arguments_are_refused_by_name(key, value):
    with pytest.raises(ValueError, match=f"HQSNet: {key} must be"):
        HQSNet(**{key: value})


@pytest.mark.parametrize("name", first_of(["MaskedFourier", "Radon"]))
def test_it_is_trained_saved_and_evaluated(name, tmp_path):
    trained_ten_steps(name, tmp_path, lambda kind: HQSNet(2, 4, 2, complex_images=kind))
