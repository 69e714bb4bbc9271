"""A start with a learned part: its equation, and that all that takes a start to be linear knows the difference."""

import pytest
import torch

import unrolled
from tests.helpers import picture
from tests.networks.laws import measured, pictures
from unrolled.networks import (
    EPGN,
    AdjointStart,
    ADMMNet,
    ComposedNetwork,
    ConjugateGradientStart,
    DeepEquilibrium,
    Implicit,
    LearnedStart,
    LinearStart,
    MoDL,
    ModulePrior,
    Prior,
    ProximalGradientPhase,
    Recompute,
    ResidualCNN,
    Start,
    Unroll,
)
from unrolled.networks.composed import PARTS
from unrolled.operators import BlockCompressedSensing
from unrolled.reconstruction.pipeline import linear_start
from unrolled.reconstruction.tiles import in_tiles, why_no_tiles
from unrolled.system.recipes import build, describe


def learned(kind="real", start=None, depth=3):
    torch.manual_seed(0)
    made = LearnedStart(ResidualCNN(4, depth, complex_images=kind == "complex"), start)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_it_is_its_equation(kind):
    operator, x = measured(kind)
    y, start = operator(x), learned(kind)
    found = start(y, operator)
    torch.testing.assert_close(found, start.improvement.prior(operator.estimate(y)))
    assert (found - operator.estimate(y)).abs().max() > 1e-2
    inner = learned(kind, AdjointStart())
    torch.testing.assert_close(inner(y, operator), inner.improvement.prior(operator.adjoint(y)))
    untrained = LearnedStart(ResidualCNN(4, 2, complex_images=kind == "complex"))
    torch.testing.assert_close(untrained(y, operator), operator.estimate(y))


def test_what_it_improves_is_the_start_that_reports_compare_with():
    operator, x = measured("real")
    y, network = operator(x), EPGN(1, 4, start=learned())
    assert isinstance(network.start.unlearned, LinearStart)
    assert torch.equal(network.first_image(y, operator), operator.estimate(y))
    assert torch.equal(linear_start(y, network, operator, (22, 33)), operator.estimate(y)[0].clamp(0, 1))
    torch.testing.assert_close(network.iterates(y, operator)[0], network.start(y, operator))
    twice = LearnedStart(ResidualCNN(4, 2), learned(start=ConjugateGradientStart(2)))
    assert isinstance(twice.unlearned, ConjugateGradientStart)
    assert len(twice.learned) == 2


def test_evaluation_says_what_the_linear_start_reaches():
    torch.manual_seed(0)
    operator, image = BlockCompressedSensing(ratio=0.25, block=11), picture(22, 22)
    plain, improved = EPGN(1, 4), EPGN(1, 4, start=learned())
    found, expected = (
        unrolled.evaluate(network, {"a": image}, operator)["start_psnr"] for network in (improved, plain)
    )
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("tile", [4, 20])
@pytest.mark.parametrize("inner", [LinearStart, lambda: ConjugateGradientStart(3), lambda: learned(depth=2)])
def test_tiles_start_as_the_whole(inner, tile):
    network, operator = EPGN(1, 4, start=learned(start=inner())), BlockCompressedSensing(ratio=0.3, block=4)
    y = operator(pictures(20, 24)[:2])
    with torch.no_grad():
        expected = network(y, operator)
        torch.testing.assert_close(in_tiles(y, network, operator, tile), expected, atol=1e-5, rtol=0)
        # With a smaller reach than it has, seams show.
        for phase in network.start.learned:
            phase.reach = 0
        if tile == 4:
            assert (in_tiles(y, network, operator, tile) - expected).abs().max() > 1e-3


class Everywhere(Prior):
    def forward(self, z, condition=None):
        return z - z.mean((2, 3), keepdim=True)


def test_a_prior_that_looks_everywhere_has_no_tiles():
    operator = BlockCompressedSensing(ratio=0.3, block=4)
    network = EPGN(1, 4, start=LearnedStart(Everywhere()))
    reason = why_no_tiles(network, operator)
    assert reason == "LearnedStart looks at the image as a whole (the reach of its prior is None)"
    with pytest.raises(ValueError, match="tile: LearnedStart looks at the image as a whole"):
        in_tiles(operator(pictures(8, 8)), network, operator, 4)


def test_it_learns_with_the_network():
    operator, x = measured("real")
    y = operator(x)
    gradients = []
    for how in (Unroll(), Recompute()):
        network = EPGN(2, 4, start=learned(), differentiation=how)
        for phase in network.phases:
            torch.nn.init.constant_(phase.raw_alpha, 0.3)
        network.loss(x, y, operator).backward()
        gradients.append([parameter.grad for parameter in network.start.parameters()])
        assert all(gradient.norm() > 0 for gradient in gradients[-1])


def test_a_fixed_point_knows_nothing_of_its_start():
    for make in (
        lambda start: MoDL(2, 4, 2, start=start, differentiation=Implicit()),
        lambda start: ADMMNet(2, 4, 2, shared=True, start=start, differentiation=Implicit()),
        lambda start: DeepEquilibrium(phases=2, features=4, depth=2, start=start),
    ):
        with pytest.raises(ValueError, match=r"does not depend on the start, so LearnedStart would learn nothing"):
            make(learned())
        make(AdjointStart())
    assert DeepEquilibrium(phases=2, features=4, depth=2, start=learned(), differentiation=Unroll()).start.learned


def test_it_is_described_saved_and_loaded(tmp_path):
    operator, x = measured("complex")
    y = operator(x)
    start = learned("complex", AdjointStart())
    again = build(describe(start), Start, *PARTS)
    assert describe(again) == describe(start)
    network = ComposedNetwork(
        ProximalGradientPhase(ResidualCNN(4, 2, complex_images=True)), 2, start=start, complex_images=True
    )
    unrolled.save(tmp_path / "w.safetensors", network, operator)
    loaded, _ = unrolled.load(tmp_path / "w.safetensors")
    assert torch.equal(loaded(y, operator), network(y, operator))
    torch.testing.assert_close(network.fuse()(y, operator), network(y, operator))


def test_what_cannot_be_meant_is_refused():
    operator, x = measured("real")
    with pytest.raises(ValueError, match="LearnedStart: the prior is told nothing, and ResidualCNN is made with"):
        LearnedStart(ResidualCNN(4, 2, ranges=[(0.01, 0.1)]))
    with pytest.raises(ValueError, match="prior: must be a module that maps images to images, got 3"):
        LearnedStart(3)
    half = LearnedStart(ModulePrior(torch.nn.Identity()))
    half.improvement.prior = type("Half", (Prior,), {"forward": lambda self, z, condition=None: z[..., ::2]})()
    with pytest.raises(ValueError, match=r"LearnedStart: the prior Half must return images like .*\(3, 1, 22, 17\)"):
        half(operator(x), operator)
    network = EPGN(1, 4, start=learned("complex"))
    with pytest.raises(ValueError, match="ResidualCNN: made for complex images, and given real ones"):
        network(operator(x), operator)
