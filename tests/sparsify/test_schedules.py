"""Schedules: their values at both ends, and what they refuse."""

import pytest

from unrolled.sparsify import Constant, Cubic, Growth, WarmUp


@pytest.mark.parametrize(
    "schedule", [Constant(), WarmUp(0.8, 0.1), Cubic(0.9, 0.2), Cubic(), Growth(), Growth(0.5, 1.0)]
)
def test_a_factor_is_never_negative_and_rises_or_falls_all_along(schedule):
    factors = [schedule.factor(step / 100) for step in range(101)]
    assert min(factors) >= 0
    assert factors in (sorted(factors), sorted(factors, reverse=True))


@pytest.mark.parametrize("cls", [WarmUp, Cubic])
def test_a_rise_is_over_at_its_end(cls):
    schedule = cls(end=0.6, begin=0.2)
    assert [schedule.factor(progress) for progress in (0.0, 0.2, 0.6, 1.0)] == [0, 0, 1, 1]
    assert 0 < schedule.factor(0.3) < schedule.factor(0.5) < 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WarmUp(1.1), r"WarmUp: end must be in \[0, 1\], a part of the run, got 1.1"),
        (lambda: Cubic(0.5, -0.1), r"Cubic: begin must be in \[0, 1\], a part of the run, got -0.1"),
        (lambda: WarmUp(0.5, 0.5), "WarmUp: end must be > begin, got begin 0.5 and end 0.5"),
        (lambda: Growth(every=0), "Growth: every must be > 0"),
        (lambda: Growth(every=2), r"Growth: every must be in \[0, 1\]"),
        (lambda: Growth(rate=0), "Growth: rate must be > 0, got 0"),
    ],
)
def test_what_is_no_part_of_a_run_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
