import csv
import itertools
from dataclasses import dataclass

import pytest
import torch
from PIL import Image

from unrolled.figures.penalty_plots import draw_overview, draw_penalties
from unrolled.figures.sampled_penalties import penalty_curves, sampled, write_csv
from unrolled.penalties import L0, L1, MCP, LogSum, Penalty, Weighted
from unrolled.penalties.names import drawable_penalties

ALL = drawable_penalties()


def jumps(curve):
    """(x, y before, y after) of every jump."""
    pairs = itertools.pairwise(curve.pieces())
    return [(float(x[-1]), float(before[-1]), float(after[0])) for (x, before), (_, after) in pairs]


@pytest.mark.parametrize("name", ALL)
def test_curves_are_what_the_penalty_says(name):
    penalty, strength = ALL[name], 0.7
    curves = penalty_curves(penalty, strength, 5.0)
    for curve, function, low in (
        (curves.keep_probability, lambda w: penalty.keep_probability(w, strength), 0.0),
        (curves.value, penalty.value, -5.0),
        (curves.prox, lambda v: penalty.prox(v, strength), -5.0),
    ):
        assert (curve.x[0], curve.x[-1]) == (low, 5.0)
        assert (curve.x.diff() >= 0).all()
        single = torch.ones_like(curve.x, dtype=torch.bool)
        single[1:] &= curve.x.diff() > 0
        single[:-1] &= curve.x.diff() > 0
        torch.testing.assert_close(curve.y[single], function(curve.x[single]), atol=1e-12, rtol=1e-12)
        for x, before, after in jumps(curve):  # the function beside them is what is drawn there
            for shift, drawn in ((-1e-9, before), (1e-9, after)):
                if abs(x) > 0:
                    beside = function(torch.tensor(x + shift, dtype=torch.float64))
                    assert float(beside) == pytest.approx(drawn, abs=1e-3)


def test_jumps_are_where_they_must_be():
    found = jumps(penalty_curves(L0(), 0.5).prox)  # hard thresholding at √(2·.5) = 1
    torch.testing.assert_close(torch.tensor(found), torch.tensor([(-1.0, -1.0, 0.0), (1.0, 0.0, 1.0)]))
    found = jumps(penalty_curves(MCP(gamma=1, b=1), 4.0).prox)  # √(4·1) = 2
    torch.testing.assert_close(torch.tensor(found), torch.tensor([(-2.0, -2.0, 0.0), (2.0, 0.0, 2.0)]))
    assert jumps(penalty_curves(L0()).value) == [(0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    assert jumps(penalty_curves(L0()).keep_probability) == [(0.0, 0.0, 1.0)]


def test_what_is_continuous_has_no_jump():
    for penalty in (L1(), LogSum(), MCP(b=1.001)):  # the last rises a thousand times as fast as its input
        for curve in (penalty_curves(penalty).prox, penalty_curves(penalty).value):
            assert len(curve.pieces()) == 1
    assert len(sampled(lambda x: x.abs().sqrt(), -1, 1).pieces()) == 1


def test_what_cannot_be_drawn_is_refused():
    @dataclass(frozen=True)
    class Whole(Penalty):
        value = derivative = prox = threshold = eta = dual = None

    with pytest.raises(ValueError, match="Whole cannot be drawn: it does not act on single numbers"):
        penalty_curves(Whole())
    with pytest.raises(ValueError, match=r"Weighted.* cannot be drawn: its parameters differ between numbers"):
        penalty_curves(Weighted(L1(), [1.0, 2.0]), 1.0, 4.0)
    with pytest.raises(ValueError, match="strength must be a finite number > 0, got -1"):
        penalty_curves(L1(), -1)
    with pytest.raises(ValueError, match="reach must be a finite number > 0, got 0"):
        penalty_curves(L1(), 1, 0)


def test_a_csv_holds_the_curves(tmp_path):
    drawn = [penalty_curves(L1(), 0.5), penalty_curves(L0(), 0.5)]
    write_csv(tmp_path / "a.csv", drawn)
    with (tmp_path / "a.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert {(line["penalty"], line["strength"]) for line in lines} == {("L1", "0.5"), ("L0", "0.5")}
    read = [
        (float(each["x"]), float(each["y"])) for each in lines if each["penalty"] == "L0" and each["curve"] == "prox"
    ]
    torch.testing.assert_close(torch.tensor(read).T.double(), torch.stack([drawn[1].prox.x, drawn[1].prox.y]))


def test_pictures_are_drawn(tmp_path):
    drawn = [penalty_curves(penalty) for penalty in (L1(), L0(), MCP(), LogSum(), MCP(b=5))]
    draw_penalties(tmp_path / "one.png", drawn[:1])
    draw_penalties(tmp_path / "several.png", drawn)
    draw_overview(tmp_path / "all.png", drawn)
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 300
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 10
