"""The three ways through the phases: one image, one gradient, less memory."""

import pytest
import torch

from tests.helpers import concrete_subclasses, picture
from unrolled.networks import EPGN, Differentiation, Implicit, ISTANetPlus, Recompute, Unroll, UnrolledNetwork
from unrolled.operators import BlockCompressedSensing
from unrolled.penalties import Penalty
from unrolled.system.recipes import build, describe

NETWORKS = {
    "EPGN": EPGN,
    "EPGN, plain": lambda **options: EPGN(variant="plain", **options),
    "EPGN, nonlocal": lambda **options: EPGN(nonlocal_window=11, **options),
    "ISTA-Net+": ISTANetPlus,
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def case(name, differentiation, phases=5, measurements=60, step=None, **options):
    """The same double precision network, operator and images for every way of differentiating; step sets raw steps."""
    torch.manual_seed(0)
    network = NETWORKS[name](phases=phases, features=2, differentiation=differentiation, **options).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for key, parameter in network.named_parameters():
            if step is not None and key.rpartition(".")[2] in ("raw_alpha", "raw_beta", "raw_step"):
                parameter.fill_(step)
    operator = BlockCompressedSensing(measurements=measurements, block=11).double()
    return network, operator, torch.stack([picture(22, 11, seed) for seed in range(2)]).double()


def loss_and_gradients(network, operator, x):
    loss = network.loss(x, operator(x), operator)
    return loss, torch.autograd.grad(loss, list(network.parameters()))


@every_network
@pytest.mark.parametrize("every", [1, 2, 3, 5, 9])
def test_recomputing_gives_the_gradient_of_unrolling(name, every):
    loss, gradients = loss_and_gradients(*case(name, Unroll()))
    again, recomputed = loss_and_gradients(*case(name, Recompute(every)))
    assert again == loss
    torch.testing.assert_close(recomputed, gradients, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["EPGN", "EPGN, plain", "ISTA-Net+"])
def test_the_implicit_gradient_is_that_of_many_unrolled_phases(name):
    # With every pixel measured and steps below 1 the gradient steps contract, and the phases have a fixed point.
    options = {"phases": 120, "step": 0.0, "measurements": 121, "shared": True}
    if name == "ISTA-Net+":
        options["symmetry"] = 0.0
    loss, gradients = loss_and_gradients(*case(name, Unroll(), **options))
    again, implicit = loss_and_gradients(*case(name, Implicit(iterations=300, tolerance=1e-14), **options))
    torch.testing.assert_close(again, loss)
    scale = max(gradient.abs().max() for gradient in gradients)
    for found, expected in zip(implicit, gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10 * float(scale))
    # And not merely the gradient of the last phase.
    _, last = loss_and_gradients(*case(name, Implicit(iterations=1, tolerance=1.0), **options))
    assert max((a - b).abs().max() for a, b in zip(last, gradients, strict=True)) > 1e-3 * scale


@pytest.mark.parametrize("differentiation", [Recompute(), Implicit()], ids=str)
def test_what_is_kept_for_the_backward_pass_does_not_grow_with_the_phases(differentiation):
    def kept(phases, how):
        network, operator, x = case("EPGN", how, phases=phases, shared=True)
        sizes = []

        def pack(tensor):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(operator(x), operator)
        return sum(sizes)

    assert kept(12, Unroll()) > 3 * kept(3, Unroll())
    per_phase = (kept(12, differentiation) - kept(3, differentiation)) / 9
    assert per_phase < 0.15 * (kept(12, Unroll()) - kept(3, Unroll())) / 9


@every_network
def test_shared_phases_have_the_weights_of_one(name):
    network, operator, x = case(name, None, phases=4, shared=True)
    one = NETWORKS[name](phases=1, features=2)
    assert network.parameter_count == one.parameter_count
    assert len(network.iterates(operator(x), operator)) == 5
    fused = network.fuse()
    torch.testing.assert_close(fused(operator(x), operator), network(operator(x), operator))


@every_network
def test_the_image_is_the_same_and_the_recipe_remembers_the_way(name):
    network, operator, x = case(name, Recompute(2))
    expected = case(name, Unroll())[0](operator(x), operator)
    assert torch.equal(network(operator(x), operator), expected)
    with torch.no_grad():
        assert torch.equal(network(operator(x), operator), expected)
    again = build(describe(network), UnrolledNetwork, Penalty, Differentiation)
    assert again.differentiation == Recompute(2)


@pytest.mark.parametrize("cls", concrete_subclasses(Differentiation))
@pytest.mark.usefixtures("fresh_compiler")
def test_every_way_compiles_to_one_graph(cls):
    network, operator, x = case("EPGN", cls(), phases=2, shared=True)
    y = operator(x)
    network.start(y, operator)  # fills its cache
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    if cls is Implicit:  # its backward pass iterates until the gradient has converged, which is no graph
        with torch.no_grad():
            torch.testing.assert_close(compiled(y, operator), network(y, operator))
        return
    image, expected = compiled(y, operator), network(y, operator)
    torch.testing.assert_close(image, expected)
    torch.testing.assert_close(
        torch.autograd.grad(image.square().sum(), list(network.parameters())),
        torch.autograd.grad(expected.square().sum(), list(network.parameters())),
    )


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match="every must be a whole number >= 1, got 0"):
        Recompute(0)
    with pytest.raises(ValueError, match="iterations must be"):
        Implicit(iterations=2.5)
    with pytest.raises(ValueError, match="tolerance must be"):
        Implicit(tolerance=0.0)
    with pytest.raises(ValueError, match="needs shared=True"):
        EPGN(phases=3, differentiation=Implicit())
    with pytest.raises(ValueError, match="symmetry must be 0"):
        ISTANetPlus(phases=3, shared=True, differentiation=Implicit())
