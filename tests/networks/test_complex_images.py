"""Networks on complex images: the real and the imaginary part are two channels of what the learned maps see."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

import unrolled
from tests.helpers import picture
from unrolled.data import with_fixed_phase
from unrolled.metrics import psnr
from unrolled.networks import EPGN, Implicit, ISTANetPlus, Recompute, Start, Unroll, UnrolledNetwork
from unrolled.networks.narrow import convolve
from unrolled.operators import BlockCompressedSensing, Coils, MaskedFourier, MultiCoilFourier, RadialMask
from unrolled.penalties import L1, MCP, Penalty
from unrolled.system.recipes import build, describe

NETWORKS = {
    "EPGN": EPGN,
    "EPGN, plain": lambda **options: EPGN(variant="plain", **options),
    "EPGN, nonlocal": lambda **options: EPGN(nonlocal_window=5, **options),
    "EPGN, mixture per channel": lambda **options: EPGN(penalty=[L1(), MCP(1.0, 2.0)], shrink_channels=True, **options),
    "ISTA-Net+": ISTANetPlus,
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def case(name, **options):
    """A network with weights at random, an operator on complex images, and a batch of them."""
    torch.manual_seed(0)
    network = NETWORKS[name](**{"phases": 2, "features": 4, "complex_images": True, **options})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    operator = MultiCoilFourier(Coils(3), RadialMask(0.3), 16, 14)
    return network, operator, torch.stack([with_fixed_phase(picture(16, 14, seed), seed) for seed in range(3)])


def pair(x, first, second):
    return F.conv2d(F.conv2d(x, first, padding=2), second)


def soft(x, t):
    return x.sign() * (x.abs() - t).clamp(min=0)


def prox_by_hand(layer, b):
    """The learned map of EPGN on images (batch, 1, height, width), with parts stacked by hand."""
    g, back = layer.sparsify, layer.synthesize
    parts = torch.cat([b.real, b.imag], dim=1)
    z = F.conv2d(F.relu(pair(parts, g.pair.first, g.pair.second)), g.conv.weight, padding=1)
    z = F.relu(F.conv2d(soft(z, layer.shrinkage.threshold), back.conv.weight, padding=1))
    z = pair(z, back.pair.first, back.pair.second)
    return b + torch.complex(z[:, :1], z[:, 1:])


def test_epgn_is_its_equations_with_two_channels():
    network, operator, x = case("EPGN")
    network, operator, y = network.double(), operator.double(), operator.double()(x.to(torch.complex128))
    image = half = operator.adjoint(y)
    for phase in network.phases:
        t = image + phase.gamma * (image - half)
        half = prox_by_hand(phase.prox, t - phase.alpha * operator.adjoint(operator(t) - y))
        s = half + phase.gamma * (half - image)
        image = prox_by_hand(phase.prox, s - phase.beta * operator.adjoint(operator(s) - y))
    torch.testing.assert_close(network(y, operator), image)


def test_ista_net_plus_is_its_equations_with_two_channels():
    network, operator, x = case("ISTA-Net+")
    network, operator, x = network.double(), operator.double(), x.to(torch.complex128)
    y, asymmetry = operator(x), 0.0
    image = operator.adjoint(y)
    for phase in network.phases:
        b = image - phase.step * operator.adjoint(operator(image) - y)
        parts = torch.cat([b.real, b.imag], dim=1)
        d = F.conv2d(parts, phase.analysis.first, padding=1)
        features = F.relu(pair(parts, phase.analysis.first, phase.analysis.second))
        features = F.conv2d(features, phase.analysis_last, padding=1)
        back = F.relu(F.conv2d(features, phase.synthesis_first, padding=1))
        asymmetry += (F.conv2d(back, phase.synthesis.first, padding=1) - d).square().mean()
        z = F.relu(F.conv2d(soft(features, phase.shrinkage.threshold), phase.synthesis_first, padding=1))
        z = pair(z, phase.synthesis.first, phase.synthesis.second)
        image = b + torch.complex(z[:, :1], z[:, 1:])
    torch.testing.assert_close(network(y, operator), image)
    expected = (image - x).abs().square().mean() + 0.01 * asymmetry / 2
    torch.testing.assert_close(network.loss(x, y, operator), expected)


@every_network
def test_untrained_it_is_gradient_descent(name):
    network, operator, x = NETWORKS[name](phases=2, features=4, complex_images=True), *case(name)[1:]
    y = operator(x)
    found = network(y, operator)
    assert found.dtype == torch.complex64
    # Steps of ISTA-Net+ and of plain phases; the momentum of accelerated ones is left to the test above.
    if name == "ISTA-Net+":
        expected = operator.adjoint(y)
        for _ in range(2):
            expected = expected - operator.adjoint(operator(expected) - y)
        torch.testing.assert_close(found, expected)
    assert (operator(found) - y).norm() < (operator(operator.adjoint(y)) - y).norm()


@every_network
def test_parts_are_seen_together(name):
    network, operator, x = case(name)
    y = operator(x)
    # Were the parts maps of their own, a network would give i·x for i·y.
    assert (network(1j * y, operator) - 1j * network(y, operator)).abs().max() > 1e-4


@every_network
def test_images_of_a_batch_and_channels_do_not_mix(name):
    network, operator, x = case(name)
    y = operator(x)
    together = network(y, operator)
    torch.testing.assert_close(together[1:2], network(y[1:2], operator))
    torch.testing.assert_close(network(y.transpose(0, 1), operator).transpose(0, 1), together)


@every_network
def test_iterates_fused_copies_and_recipes_give_the_same_image(name, tmp_path):
    network, operator, x = case(name)
    y = operator(x)
    expected = network(y, operator)
    assert len(network.iterates(y, operator)) == 3
    torch.testing.assert_close(network.iterates(y, operator)[-1], expected)
    torch.testing.assert_close(network.fuse()(y, operator), expected)
    again = build(describe(network), UnrolledNetwork, Penalty, Start)
    again.load_state_dict(network.state_dict())
    unrolled.save(tmp_path / "w.safetensors", network, operator)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), again):
        assert torch.equal(other(y, operator), expected)
    assert torch.equal(unrolled.load(tmp_path / "w.safetensors")[0](y, operator), expected)


@every_network
def test_bfloat16_and_channels_last_reach_only_the_learned_part(name):
    network, operator, x = case(name)
    y = operator(x)
    expected = network(y, operator)
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(y, operator), expected, atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        images = network.iterates(y, operator)
    assert {image.dtype for image in images} == {torch.complex64}
    assert torch.equal(images[0], operator.adjoint(y))
    assert 0 < (images[-1] - expected).abs().max() < 0.03


@pytest.mark.parametrize("name", ["EPGN, plain", "ISTA-Net+"])
@pytest.mark.usefixtures("fresh_compiler")
def test_the_loss_compiles_to_one_graph(name):
    network, operator, x = case(name, phases=1)
    expected = network.loss(x, operator(x), operator)
    loss = torch.compile(network.loss, fullgraph=True, backend="aot_eager")(x, operator(x), operator)
    torch.testing.assert_close(loss, expected)
    parameters = list(network.parameters())
    torch.testing.assert_close(torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters))


@every_network
def test_gradients_equal_finite_differences(name):
    network, _, _ = case(name, phases=1, features=2)
    network, operator = network.double(), MaskedFourier(RadialMask(0.5), 4, 5, complex_images=True).double()
    x = torch.randn(1, 1, 4, 5, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    parameters = list(network.parameters())
    how = {"eps": 1e-7, "atol": 1e-5, "fast_mode": True}
    torch.autograd.gradcheck(lambda y, *_: network(y, operator), (operator(x).requires_grad_(), *parameters), **how)
    torch.autograd.gradcheck(lambda *_: network.loss(x, operator(x), operator), parameters, **how)


@every_network
def test_recomputing_gives_the_gradient_of_unrolling(name):
    gradients = []
    for way in (Unroll(), Recompute()):
        network, operator, x = case(name, differentiation=way)
        loss = network.loss(x, operator(x), operator)
        gradients.append(torch.autograd.grad(loss, list(network.parameters())))
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("name", ["EPGN", "ISTA-Net+"])
def test_the_implicit_gradient_is_that_of_many_unrolled_phases(name):
    options = {"phases": 60, "shared": True, **({"symmetry": 0.0} if name == "ISTA-Net+" else {})}
    gradients = []
    for way in (Unroll(), Implicit(iterations=300, tolerance=1e-14)):
        network, _, x = case(name, differentiation=way, **options)
        network, operator = network.double(), MultiCoilFourier(Coils(3), torch.ones(16, 14)).double()
        with torch.no_grad():
            for key, parameter in network.named_parameters():
                if key.rpartition(".")[2] in ("raw_alpha", "raw_beta", "raw_step"):
                    parameter.fill_(0.0)
        x = x[:1].to(torch.complex128)
        loss = network.loss(x, operator(x), operator)
        gradients.append(torch.autograd.grad(loss, list(network.parameters())))
    scale = max(float(gradient.abs().max()) for gradient in gradients[0])
    assert scale > 1e-6
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-6, atol=1e-8 * scale)


@every_network
def test_a_few_steps_of_training_beat_the_start(name):
    network, operator, x = NETWORKS[name](phases=2, features=8, complex_images=True), *case(name)[1:]
    y = operator(x)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        network.loss(x, y, operator).backward()
        optimizer.step()
    with torch.no_grad():
        gain = psnr(network(y, operator), x) - psnr(network.start(y, operator), x)
    assert gain.mean() > 1


def test_a_convolution_to_two_channels_is_a_convolution():
    torch.manual_seed(0)
    maps = torch.randn(2, 5, 6, 7, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(2, 5, 5, 5, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(convolve(maps, kernel), F.conv2d(maps, kernel, padding=2))


@pytest.mark.parametrize("cls", [EPGN, ISTANetPlus])
def test_images_that_it_is_not_made_for_are_refused(cls):
    fourier, blocks = MaskedFourier(RadialMask(0.3), 16, 16, complex_images=True), BlockCompressedSensing(0.5, block=8)
    x = picture(16, 16).unsqueeze(0)
    for operator, network, message in (
        (fourier, cls(1, 2), "made for real images, and MaskedFourier measures complex ones; make it with .*=True"),
        (blocks, cls(1, 2, complex_images=True), "made for complex images, and Block.* measures real .*=False"),
    ):
        y = operator(x)
        for use in (network, network.iterates, lambda y, operator, network=network: network.loss(x, y, operator)):
            with pytest.raises(ValueError, match=f"{cls.__name__}: {message}"):
                use(y, operator)


def test_it_is_not_compacted():
    with pytest.raises(ValueError, match="only a local network of real images"):
        EPGN(1, 2, complex_images=True).compacted()
