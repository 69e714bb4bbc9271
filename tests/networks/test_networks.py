"""What every unrolled network must do."""

import copy
import pickle

import pytest
import torch

import unrolled
from tests.helpers import concrete_subclasses, picture
from unrolled.metrics import psnr
from unrolled.networks import EPGN, ISTANetPlus, LinearStart, UnrolledNetwork
from unrolled.networks.shrinkage import Shrinkage, ShrinkageMixture
from unrolled.operators import BlockCompressedSensing, as_operator
from unrolled.penalties import L1, MCP, LogSum, Penalty
from unrolled.system.recipes import build, describe

NETWORKS = {
    "EPGN": lambda **options: EPGN(**options),
    "EPGN, plain": lambda **options: EPGN(variant="plain", **options),
    "EPGN, nonlocal": lambda **options: EPGN(nonlocal_window=11, **options),
    "EPGN, mixture per channel": lambda **options: EPGN(
        penalty=[L1(), MCP(1.0, 2.0)], learn_penalty=True, shrink_channels=True, **options
    ),
    "ISTA-Net+": lambda **options: ISTANetPlus(**options),
}

every_network = pytest.mark.parametrize("name", NETWORKS)


def count(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def case(name, phases=2, features=4, noise=0.05):
    """A network with all weights at random, as after training, an operator, and a batch of images."""
    torch.manual_seed(0)
    network = NETWORKS[name](phases=phases, features=features)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    operator = BlockCompressedSensing(ratio=0.25, block=11)
    return network, operator, torch.stack([picture(22, 33, seed) for seed in range(3)])


def test_every_network_is_tested():
    assert {type(make()) for make in NETWORKS.values()} == set(concrete_subclasses(UnrolledNetwork))


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (EPGN(phases=1), 37_444),
        (EPGN(phases=1, nonlocal_window=11), 41_540),
        (EPGN(phases=9), 336_996),
        (EPGN(phases=9, nonlocal_window=11), 373_860),
        (EPGN(phases=9, variant="plain"), 336_996 - 9),
        (ISTANetPlus(phases=9), 336_978),
    ],
    ids=str,
)
def test_parameter_counts(network, parameters):
    # Of the published architectures; the plain variant has no momentum.
    assert count(network) == parameters


@every_network
def test_untrained_it_is_gradient_descent_from_its_start(name):
    network = NETWORKS[name](phases=3, features=4)
    operator, x = BlockCompressedSensing(ratio=0.25, block=11), picture(22, 33).unsqueeze(0)
    y = operator(x)
    start, *images = network.iterates(y, operator)
    # The linear start already agrees with the measurements, so the gradient is nothing.
    for image in images:
        torch.testing.assert_close(image, start, atol=1e-4, rtol=0)


@every_network
def test_iterates_end_with_the_reconstruction(name):
    network, operator, x = case(name)
    images = network.iterates(operator(x), operator)
    assert len(images) == 3
    torch.testing.assert_close(images[-1], network(operator(x), operator))
    torch.testing.assert_close(images[0], network.start(operator(x), operator))


@every_network
def test_images_of_a_batch_and_channels_do_not_mix(name):
    network, operator, x = case(name)
    y = operator(x)
    together = network(y, operator)
    for index in range(len(x)):
        torch.testing.assert_close(together[index : index + 1], network(y[index : index + 1], operator))
    as_channels = network(y.transpose(0, 1), operator)
    torch.testing.assert_close(as_channels.transpose(0, 1), together)


@every_network
def test_every_parameter_receives_a_gradient(name):
    network, operator, x = case(name)
    network.loss(x, operator(x), operator).backward()
    # The first accelerated phase has the momentum of its second half-step; the symmetry of ISTA-Net+ is in its loss.
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.norm() > 0, key


@every_network
def test_a_few_steps_of_training_beat_the_start(name):
    torch.manual_seed(0)
    network, operator = NETWORKS[name](phases=2, features=8), BlockCompressedSensing(ratio=0.25, block=11)
    x = torch.stack([picture(33, 33, seed) for seed in range(4)])
    y = operator(x)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(100):
        loss = network.loss(x, y, operator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        gain = psnr(network(y, operator), x) - psnr(network.start(y, operator), x)
    assert gain.mean() > 1


@every_network
def test_gradients_equal_in_double_precision_finite_differences(name):
    network, _, _ = case(name, phases=1, features=2)
    operator = BlockCompressedSensing(measurements=4, block=3).double()
    network, x = network.double(), torch.rand(1, 1, 6, 6, dtype=torch.float64)
    y = operator(x)
    weights = [network.phases[0].get_parameter(key) for key, _ in list(network.phases[0].named_parameters())[:4]]
    torch.autograd.gradcheck(lambda *_: network(y, operator), weights, eps=1e-7, atol=1e-5, nondet_tol=1e-12)


@every_network
@pytest.mark.usefixtures("fresh_compiler")
def test_compiles_to_one_graph_with_the_same_result(name):
    network, operator, x = case(name, phases=1)
    y = operator(x)
    expected = network(y, operator)  # also fills the cache of the start
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(y, operator), expected, atol=1e-5, rtol=1e-5)


@every_network
def test_bfloat16_reaches_only_the_learned_part(name):
    network, operator, x = case(name, noise=0.0)
    with torch.autocast("cpu", torch.bfloat16):
        y = operator(x)
        start, *_, image = network.iterates(y, operator)
    assert y.dtype == start.dtype == image.dtype == torch.float32
    torch.testing.assert_close(start, network.start(operator(x), operator))
    torch.testing.assert_close(image, network(operator(x), operator), atol=0.02, rtol=0)


@every_network
def test_survives_pickle_copy_and_description(name):
    network, operator, x = case(name)
    y = operator(x)
    expected = network(y, operator)
    recipe = describe(network)
    again = build(recipe, UnrolledNetwork, Penalty)
    again.load_state_dict(network.state_dict())
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), again):
        torch.testing.assert_close(other(y, operator), expected)
        assert describe(other) == recipe


@every_network
def test_fused_it_is_the_same_with_plain_convolutions(name):
    network, operator, x = case(name)
    y = operator(x)
    fused = network.fuse()
    torch.testing.assert_close(fused(y, operator), network(y, operator))
    kinds = {type(module).__name__ for module in fused.modules()}
    assert "ConvolutionPair" not in kinds
    assert [m.kernel_size for m in fused.modules() if isinstance(m, torch.nn.Conv2d)].count((5, 5)) == 4
    assert torch.isfinite(fused.loss(x, y, operator))
    with pytest.raises(ValueError, match="fused network is for use only"):
        describe(fused)


@every_network
def test_works_with_any_operator(name):
    network, _, _ = case(name)
    blur = torch.full((1, 1, 3, 3), 1 / 9)
    operator = as_operator((lambda x: torch.conv2d(x, blur, padding=1),) * 2, shape=(1, 10, 13))
    y = operator(picture(10, 13).unsqueeze(0))
    assert network(y, operator).shape == (1, 1, 10, 13)


@every_network
def test_trains_a_learned_matrix(name):
    network, _, x = case(name)
    operator = BlockCompressedSensing(ratio=0.25, block=11, learned=True)
    network.loss(x, operator(x), operator).backward()
    assert torch.isfinite(operator.matrix.grad).all()
    assert operator.matrix.grad.norm() > 0


@pytest.mark.parametrize("cls", concrete_subclasses(UnrolledNetwork))
@pytest.mark.parametrize(("key", "value"), [("phases", 0), ("features", 0), ("threshold", -1.0), ("phases", 2.5)])
def test_bad_arguments_are_refused_by_name(cls, key, value):
    with pytest.raises(ValueError, match=rf"{key} must be"):
        cls(**{key: value})


def test_bad_arguments_of_one_network():
    with pytest.raises(ValueError, match="variant must be one of accelerated, plain, got 'fast'"):
        EPGN(variant="fast")
    with pytest.raises(ValueError, match="nonlocal_window must be"):
        EPGN(nonlocal_window=0)
    with pytest.raises(ValueError, match="features must be even"):
        EPGN(features=3, nonlocal_window=3)
    with pytest.raises(ValueError, match="symmetry must be"):
        ISTANetPlus(symmetry=-0.1)


def test_the_default_start_is_linear():
    assert isinstance(EPGN(1).start, LinearStart)


@pytest.mark.parametrize("cls", concrete_subclasses(UnrolledNetwork))
def test_the_penalty_that_is_asked_for_is_in_every_phase(cls):
    for penalty, learn in (([L1(), MCP(1.0, 0.1)], True), (LogSum(0.1), True), (LogSum(0.1), False), (None, False)):
        network = cls(phases=3, features=2, penalty=penalty, learn_penalty=learn)
        kinds = (Shrinkage, ShrinkageMixture)
        layers = [module for phase in network.phases for module in phase.modules() if isinstance(module, Shrinkage)]
        outer = [module for phase in network.phases for module in phase.modules() if isinstance(module, kinds)]
        wanted = penalty if isinstance(penalty, list) else [L1() if penalty is None else penalty]
        assert [layer.penalty for layer in layers] == wanted * 3
        assert len(outer) == 3 * (1 + len(wanted) if len(wanted) > 1 else 1)
        learned = sum(len(layer.raw_parameters) for layer in layers)
        assert learned == (3 * sum(len(vars(one)) for one in wanted) if learn else 0)


@every_network
def test_weights_carry_the_shrinkage_and_what_it_learned(name, tmp_path):
    network, operator, x = case(name, phases=2)
    unrolled.save(tmp_path / "w.safetensors", network, operator)
    again, its_operator = unrolled.load(tmp_path / "w.safetensors")
    torch.testing.assert_close(again(its_operator(x), its_operator), network(operator(x), operator))
    found, expected = (
        [repr(module.current_penalty) for module in one.modules() if isinstance(module, Shrinkage)]
        for one in (again, network)
    )
    assert found == expected


@pytest.mark.usefixtures("fresh_compiler")
def test_ista_net_plus_learns_a_mixture():
    torch.manual_seed(0)
    network, (_, operator, x) = ISTANetPlus(1, 4, penalty=[L1(), LogSum(0.1)], learn_penalty=True), case("ISTA-Net+")
    torch.nn.init.normal_(network.phases[0].synthesis.second, std=0.1)
    expected = network.loss(x, operator(x), operator)
    loss = torch.compile(network.loss, fullgraph=True, backend="aot_eager")(x, operator(x), operator)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad.norm() > 0, key
