"""Equivariant imaging: zero where it must be, and by hand where it is not."""

import pytest
import torch

from tests.training.losses.small import measured, of
from unrolled.networks import AdjointStart
from unrolled.operators import Blur, GaussianKernel, GaussianNoise, Inpainting
from unrolled.training.losses import PURE, SURE, ConsistencyLoss, EquivariantImaging, MSELoss
from unrolled.training.losses.motions import MOTIONS


@pytest.mark.parametrize("kind", ["frequencies", "complex"])
def test_what_commutes_with_the_operator_teaches_nothing(kind):
    # A reconstruction by Aᴴ, and A = MF with AAᴴA = A: T Aᴴ y comes back as it is, for every shift T.
    net, operator, _, y = measured(kind)
    net.start = AdjointStart()
    weight = net.phases[0].layers[0].weight
    weight.data.zero_()
    loss = EquivariantImaging(("shifts",), copies=2)(net, y, operator)
    (gradient,) = torch.autograd.grad(loss, weight)
    assert loss.item() < 1e-28
    assert gradient.norm() < 1e-14


def test_it_is_the_equation_of_its_paper(monkeypatch):
    net, operator, _, y = measured("pixels")
    monkeypatch.setitem(MOTIONS, "shifts", lambda x: x.roll((2, 3), (-2, -1)))
    image = net(y, operator)
    moved = image.roll((2, 3), (-2, -1))
    again = net(operator.mask * moved, operator)
    expected = ConsistencyLoss()(net, y, operator) + 0.7 * (again - moved).square().mean()
    torch.testing.assert_close(EquivariantImaging(weight=0.7, copies=3)(net, y, operator), expected)
    # With noise, the moved image is measured with noise too.
    torch.manual_seed(0)
    found = EquivariantImaging(weight=0.7, fidelity=SURE())(net, y, operator, noise=0.1)
    torch.manual_seed(0)
    risk = SURE()(net, y, operator, noise=0.1)
    again = net(operator.sampled(GaussianNoise(0.1)(operator(moved))), operator)
    torch.testing.assert_close(found, risk + 0.7 * (again - moved).square().mean())


def test_it_teaches_what_is_never_measured():
    # Pixels of one value: only equivariance tells what stands in the holes of a mask that never changes.
    torch.manual_seed(0)
    mask = (torch.rand(8, 9) < 0.6).double()
    net, _, _, _ = measured("pixels")
    net.start = AdjointStart()
    operator, x = Inpainting(mask).double(), 0.2 + 0.6 * torch.rand(16, 1, 1, 1).double().expand(16, 1, 8, 9)
    y, errors = operator(x), []
    for loss in (ConsistencyLoss(), EquivariantImaging(("shifts",))):
        torch.nn.init.zeros_(net.phases[0].layers[0].weight)
        optimizer = torch.optim.Adam(net.parameters(), 0.02)
        for _ in range(40):
            optimizer.zero_grad()
            loss(net, y, operator).backward()
            optimizer.step()
        with torch.no_grad():
            errors.append(MSELoss()(net, y, operator, x).item())
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EquivariantImaging("shifts"), "EquivariantImaging: motions must be a list of shifts, flips, turns"),
        (lambda: EquivariantImaging([]), "EquivariantImaging: motions must be a list of"),
        (lambda: EquivariantImaging(["zoom"]), r"EquivariantImaging: motions must be .*, got \['zoom'\]"),
        (lambda: EquivariantImaging(weight=0), "EquivariantImaging: weight must be a finite number > 0, got 0"),
        (lambda: EquivariantImaging(copies=0), "EquivariantImaging: copies must be >= 1, got 0"),
        (lambda: EquivariantImaging(fidelity=MSELoss()), "fidelity must be ConsistencyLoss, SURE or PURE, got MSELoss"),
        (lambda: EquivariantImaging(fidelity=EquivariantImaging()), "fidelity must be ConsistencyLoss, SURE or PURE"),
        (lambda: EquivariantImaging(fidelity=SURE())(*of("pixels")), "SURE: needs the noise level"),
        (lambda: EquivariantImaging(fidelity=PURE(0.1))(*of("complex")), "PURE: counts are real"),
        (lambda: EquivariantImaging(["turns"])(*of("pixels")), r"turns: need square images, got \(3, 1, 8, 9\)"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_counts_of_moved_images_are_drawn_of_what_is_not_negative():
    net, _, x, _ = measured("identity")
    operator = Blur(GaussianKernel(1.0)).double()
    loss = EquivariantImaging(["flips"], fidelity=PURE(0.05))
    assert loss(net, -operator(x), operator).isfinite()
