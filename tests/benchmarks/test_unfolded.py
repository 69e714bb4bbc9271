"""The networks that are timed beside deepinv's are the same ones."""

import copy
import json
from dataclasses import replace
from itertools import islice

import pytest
import torch

from benchmarks import report, unfolded
from unrolled.system import import_torchvision


@pytest.fixture(scope="module")
def pairs():
    import_torchvision()  # which deepinv imports
    pytest.importorskip("deepinv", reason="deepinv is an extra")
    return list(unfolded.pairs())


def test_both_make_the_same_image_and_others_are_refused(pairs):
    for pair in pairs:
        assert unfolded.difference(pair) < unfolded.ACCURACY
    other = replace(pairs[0], ours=copy.deepcopy(pairs[0].ours))
    for parameter in islice(other.ours.parameters(), 2):
        parameter.data.add_(0.1)
    with pytest.raises(ValueError, match="MoDL: images must agree"):
        unfolded.rows_of(other, 1, other.images(1).device)


def test_every_variant_trains_and_reconstructs(pairs):
    for pair in pairs:
        x = pair.images(1)
        for variant in (unfolded.PEER, unfolded.OURS, unfolded.HALF):
            before = [parameter.clone() for parameter in pair.network(variant).parameters()]
            unfolded.runner(pair, variant, "training", x)()
            assert not all(map(torch.equal, before, pair.network(variant).parameters()))
            assert unfolded.runner(pair, variant, "reconstruction", x)().isfinite().all()


def test_the_page_has_their_table():
    figures = json.loads((report.FIGURES / "unfolded.json").read_text())
    assert unfolded.table(figures["rows"]) in report.PAGE.read_text()
