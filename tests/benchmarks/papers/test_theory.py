"""The one-layer model against sampling and integration, the claims in small, and the figures of the page."""

import json
import math

import pytest
import torch
from scipy.integrate import quad

from benchmarks.papers import __main__ as papers
from benchmarks.papers import one_layer, theory, theory_runs
from benchmarks.papers.one_layer import GRADIENTS, angle, unit
from tests.pairs import first_of
from unrolled.penalties import L1, Weighted

K, D = 3, 5


def plane(theta: float, norm: float) -> tuple[torch.Tensor, torch.Tensor]:
    """w of a norm, and w* at an angle to it."""
    w, v = torch.zeros(2, D, dtype=torch.float64).unbind()
    w[0], v[0], v[1] = norm, math.cos(theta), math.sin(theta)
    return w, v


def test_backpropagated_gradients_have_the_expected_mean():
    generator = torch.Generator().manual_seed(0)
    w, v = (torch.stack(each) for each in zip(plane(0.4, 0.7), plane(2.2, 1.6), strict=True))
    x = torch.randn(400, 500, K, D, generator=generator, dtype=torch.float64)
    stacked = w.expand(len(GRADIENTS), *w.shape)
    found = torch.stack([one_layer.sampled_gradients(stacked, v, batch) for batch in x])
    wanted = torch.stack([field(w, v, K) for field in GRADIENTS.values()])
    error = found.std(0) / math.sqrt(len(found))
    assert (found.mean(0) - wanted).abs().div(error).max() < 4.5  # of 40 numbers
    assert (error.norm(dim=-1) < 0.03 * wanted.norm(dim=-1)).all()


@pytest.mark.parametrize("theta", [0.05, 0.7, math.pi / 2, 2.5, 3.1])
@pytest.mark.parametrize("norm", [0.3, 1.0, 4.0])
def test_the_clipped_relu_sees_a_wedge_that_is_cut_off(theta, norm):
    def seen(weight):
        """∫ over 0 < a ≤ 1/‖w‖ of the density in a, times what is beyond the teacher's line b = −a cotθ."""
        return quad(lambda a: weight(a, -a / math.tan(theta)) * density(a), 0, 1 / norm, epsabs=1e-13)[0]

    def density(a):
        return math.exp(-a * a / 2) / math.sqrt(2 * math.pi)

    along = seen(lambda a, b: a * (1 + math.erf(b / math.sqrt(2))) / 2)
    across = seen(lambda a, b: -density(b))
    w, v = plane(theta, norm)
    wanted = torch.tensor([along, across, 0, 0, 0], dtype=torch.float64) / K
    torch.testing.assert_close(one_layer.clipped_gradient(w, v, K), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_pull_is_the_part_of_the_gradient_along_the_teacher(name):
    theta = torch.tensor([0.01, 0.5, 1.5, 3.0], dtype=torch.float64)
    w, v = (torch.stack(each) for each in zip(*(plane(float(each), 1.0) for each in theta), strict=True))
    across = -GRADIENTS[name](w, v, K)[:, 1] / theta.sin()
    torch.testing.assert_close(one_layer.pull(name, theta, K), across)
    torch.testing.assert_close(angle(3 * w, v), theta)


def test_no_curvature_is_above_that_at_the_teacher():
    hessian = torch.func.jacrev(lambda w: one_layer.relu_gradient(w, v, 20))
    most = one_layer.relu_smoothness(20)
    v = one_layer.teachers(1, 8, 3, seed=0)[0]
    assert torch.linalg.eigvalsh(hessian(v * (1 + 1e-12)))[-1] == pytest.approx(most, rel=1e-6)
    generator = torch.Generator().manual_seed(0)
    for w in torch.randn(50, 8, generator=generator, dtype=torch.float64):
        assert torch.linalg.eigvalsh(hessian(w))[-1] < most * (1 + 1e-9)


@pytest.mark.parametrize("label", first_of(theory_runs.PENALTIES))
def test_limits_are_fixed_points_inside_the_support_that_tell_the_teacher(label):
    for row in theory_runs.fixed_points(label, teachers=2, steps=450, eta=5.0):
        assert row["residual"] < 1e-9, row["gradient"]
        assert row["teacher_error"] < 1e-9
        assert row["outside"] == 0
        assert row["curves"]["outside"][0] > 1  # which is not so from the start
        assert min(row["nonzeros"]) >= 1
        assert min(row["angles"]) > 1e-3


def test_the_fixed_point_of_other_weights_is_not_found():
    v = one_layer.teachers(3, 50, 10, seed=0)
    w = unit(v + 0.05 * theory_runs.starts(v))
    for name in GRADIENTS:
        assert (one_layer.fixed_point_residual(name, w, v, w, theory_runs.BETA, 20) > 1e-3).all()


@pytest.mark.full
def test_angles_are_in_the_order_of_thresholds_and_grow_with_the_strength():
    found = {label: theory_runs.angles(label, teachers=2, steps=250) for label in theory_runs.PENALTIES}
    for name in GRADIENTS:
        columns = torch.tensor([found[label]["by_strength"][name] for label in theory_runs.PENALTIES])
        assert (columns[:, -1].diff(dim=0) > 0).all()
        assert (columns.diff(dim=1) >= 0).all()
    assert theory_runs.step_of(theory_runs.PENALTIES["l0"], 0.3) == pytest.approx(0.045)


@pytest.mark.full
def test_descent_holds_below_the_bound_and_fails_beyond():
    penalty = Weighted(L1(), theory_runs.STRENGTH)
    assert theory_runs.descent("l1", penalty, 0.99, teachers=2, steps=60)["first_rise"] is None
    assert theory_runs.descent("l1", penalty, 1.1, teachers=2, steps=60)["first_rise"] > 1
    nothing = Weighted(L1(), 1.0)  # so strong that u is 0
    assert theory_runs.descent("u = 0", nothing, 0.99, teachers=2, steps=60)["first_rise"] is None
    assert theory_runs.descent("u = 0", nothing, 1.01, teachers=2, steps=60)["first_rise"] > 1
    for row in theory_runs.coarse_descent("l1", teachers=2, steps=150, eta=5.0):
        assert row["chord"]["rising"] == 0
        assert row["chord"]["fall"] > 0


@pytest.mark.full
def test_more_samples_bring_the_limit_nearer():
    rows = theory_runs.sampled_runs("l1", teachers=2, steps=80, eta=5.0)
    ends = {(row["gradient"], row["batch"]): row["distance"][-1] for row in rows if not row["falling"]}
    small, large = theory_runs.BATCHES[0], theory_runs.BATCHES[-1]
    for name in GRADIENTS:
        assert ends[name, large] < 0.7 * ends[name, small]


def test_the_page_has_its_figures(tmp_path):
    (figures,) = papers.figures("theory")
    text = papers.text("theory", figures)
    assert text.startswith("## ")
    assert max(row["residual"] for row in figures["fixed_points"]) < 1e-9
    assert not sum(row["outside"] for row in figures["fixed_points"])
    assert all(
        (row["first_rise"] is None) == (row["multiple"] < 1.01) for row in figures["descent"] if row["multiple"] != 1.01
    )
    theory.write(tmp_path / "theory.json", figures)
    assert json.loads((tmp_path / "theory.json").read_text()) == figures
