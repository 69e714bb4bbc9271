"""What the tests of commands share."""

import pytest


@pytest.fixture(autouse=True)
def undrawn_curves(monkeypatch):
    """An empty file takes the place of a run's curve, whose drawing takes longer than two steps of training."""
    monkeypatch.setattr(
        "unrolled.figures.training_curves.training_curve", lambda folder, score: (folder / "curve.png").touch()
    )
