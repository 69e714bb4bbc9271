"""What holds of every loss. A new one is tested by existing: it must be listed here."""

import math

import pytest
import torch

from tests.helpers import concrete_subclasses
from tests.pairs import first_of
from tests.training.losses.small import OPERATORS, measured, network
from unrolled.networks import Implicit, ISTANetPlus, Recompute
from unrolled.operators import BlockCompressedSensing
from unrolled.system.recipes import build, describe
from unrolled.training.losses import (
    PURE,
    SSDU,
    SURE,
    CharbonnierLoss,
    ConsistencyLoss,
    EdgeLoss,
    EquivariantImaging,
    HuberLoss,
    ImageLoss,
    L1Loss,
    LogMSELoss,
    Loss,
    MSELoss,
    PhaseLoss,
    SplittingLoss,
    SSIMLoss,
    WeightedSum,
)
from unrolled.training.losses.by_name import OwnLoss

LOSSES = {
    "mse": MSELoss(),
    "l1": L1Loss(),
    "log": LogMSELoss(),
    "huber": HuberLoss(0.05),
    "charbonnier": CharbonnierLoss(),
    "ssim": SSIMLoss(window=5),
    "ssim with a peak": SSIMLoss(window=5, peak="max"),
    "edges": EdgeLoss(),
    "sum": WeightedSum([MSELoss(), EdgeLoss()], [1, 0.1]),
    "phases": PhaseLoss(L1Loss(), 0.5),
    "own": OwnLoss(lambda image, truth: (image - truth).abs().square().mean()),
    "consistency": ConsistencyLoss(),
    "sure": SURE(0.1),
    "pure": PURE(0.05),
    "ssdu": SSDU(),
    "splitting": SplittingLoss(moved=0.0),
    "splitting and moving": SplittingLoss(),
    "two splits": SSDU(selection="gaussian", center=0, splits=2),
    "equivariant": EquivariantImaging(("shifts", "flips", "rotations"), copies=2),
    "robust": EquivariantImaging(("flips",), fidelity=SURE(0.1)),
}
PAIRS = [
    (name, kind)
    for name, loss in LOSSES.items()
    for kind in OPERATORS
    if not (name == "pure" and kind not in ("identity", "pixels"))  # counts are real
    and not (isinstance(loss, SSDU) and (kind == "identity" or (loss.selection == "gaussian" and kind == "pixels")))
]
every_loss = pytest.mark.parametrize("name", LOSSES)
every_pair = pytest.mark.parametrize(("name", "kind"), PAIRS)


def kind_of(name: str) -> str:
    """One that the loss takes."""
    return next(kind for other, kind in reversed(PAIRS) if other == name)


def test_every_loss_is_listed():
    assert {type(loss) for loss in LOSSES.values()} == set(concrete_subclasses(Loss))


@every_pair
def test_it_is_a_scalar_and_every_parameter_has_a_gradient(name, kind):
    net, operator, x, y = measured(kind)
    loss = LOSSES[name](net, y, operator, x)
    assert loss.shape == ()
    assert loss.dtype == torch.float64
    for gradient in torch.autograd.grad(loss, list(net.parameters())):
        assert 0 < gradient.norm() < math.inf


def seeded(name: str, net, y, operator, truth=None, **more) -> torch.Tensor:
    torch.manual_seed(1)
    return LOSSES[name](net, y, operator, truth, **more)


@every_loss
def test_the_gradient_is_that_of_finite_differences(name):
    net, operator, x, y = measured(kind_of(name))
    weights = list(net.parameters())
    torch.autograd.gradcheck(
        lambda *_: seeded(name, net, y, operator, x), weights, eps=1e-7, atol=1e-6, rtol=1e-4, fast_mode=True
    )


@every_loss
def test_only_losses_that_need_the_truth_look_at_it(name):
    net, operator, x, y = measured(kind_of(name))
    loss = LOSSES[name]
    if loss.needs_truth:
        with pytest.raises(ValueError, match="true images, got None"):
            loss(net, y, operator)
        return
    expected = seeded(name, net, y, operator)
    assert torch.equal(seeded(name, net, y, operator, torch.full_like(x, math.nan)), expected)
    assert not torch.equal(loss(net, 2 * y, operator), expected)


@every_loss
def test_what_compares_images_is_a_mean_over_the_batch_of_images_of_one_shape(name):
    loss = LOSSES[name]
    if not isinstance(loss, ImageLoss | PhaseLoss | ConsistencyLoss):  # which draw other numbers for other batches
        return
    net, operator, x, y = measured(kind_of(name))
    alone = [loss(net, y[k : k + 1], operator, x[k : k + 1]) for k in range(len(x))]
    torch.testing.assert_close(loss(net, y, operator, x), torch.stack(alone).mean())
    if loss.needs_truth:
        with pytest.raises(ValueError, match="truth must be like the reconstruction"):
            loss(net, y, operator, x[:1])


@every_loss
def test_what_the_network_adds_is_added_once(name):
    _, operator, x, y = measured(kind_of(name))
    values, asymmetry = [], []
    for symmetry in (0.0, 0.3):
        torch.manual_seed(0)
        net = ISTANetPlus(2, 3, symmetry=symmetry, complex_images=operator.complex_images).double()
        for phase in net.phases:
            torch.nn.init.normal_(phase.synthesis.second, std=0.1)
        values.append(seeded(name, net, y, operator, x).detach())
        asymmetry.append(net.loss(x, y, operator).detach())
    added = asymmetry[1] - asymmetry[0]
    assert added > 1e-4
    # Those with splits have it of the samples that the network is given.
    tolerance = {"rtol": 0.6 if isinstance(LOSSES[name], SSDU | SplittingLoss) else 1e-8, "atol": 0}
    torch.testing.assert_close(values[1] - values[0], 0 * added if name == "own" else added, **tolerance)


@pytest.mark.parametrize("name", first_of(["robust", *LOSSES], 1))
def test_recomputing_gives_the_same_gradient_and_implicit_one_is_had_or_refused(name):
    _, operator, x, y = measured(kind_of(name))
    found = []
    for options in ({}, {"differentiation": Recompute()}):
        net = network(operator.complex_images, phases=3, **options)
        found.append(torch.autograd.grad(seeded(name, net, y, operator, x), list(net.parameters())))
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-14)


def test_an_image_of_every_phase_is_refused_where_the_last_alone_has_a_gradient():
    net, operator, x, y = measured("pixels")
    net.differentiation = Implicit()
    L1Loss()(net, y, operator, x).backward()
    with pytest.raises(ValueError, match="Filter: has no images of every phase to train by with Implicit"):
        PhaseLoss(L1Loss())(net, y, operator, x)


@every_loss
def test_it_is_described_and_made_again(name):
    if name != "own":  # functions are not written down
        assert build(describe(LOSSES[name]), Loss, Loss) == LOSSES[name]


@pytest.mark.full
@pytest.mark.usefixtures("fresh_compiler")
@every_loss
def test_it_compiles_to_one_graph(name):
    net, operator, x, y = measured(kind_of(name))
    compiled = torch.compile(LOSSES[name], fullgraph=True, backend="eager")
    expected = seeded(name, net, y, operator, x)
    torch.manual_seed(1)
    torch.testing.assert_close(compiled(net, y, operator, x), expected)


def test_a_learned_matrix_has_a_gradient_through_losses_of_images():
    operator = BlockCompressedSensing(ratio=0.25, block=3, learned=True).double()
    x = torch.rand(2, 1, 9, 9, dtype=torch.float64)
    net = network()
    L1Loss()(net, operator(x), operator, x).backward()
    assert operator.matrix.grad.norm() > 0
