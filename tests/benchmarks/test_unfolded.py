"""The networks that are timed beside deepinv's are the same ones."""

import json
from itertools import islice

import pytest

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
    for parameter in islice(pairs[0].ours.parameters(), 2):
        parameter.data.add_(0.1)
    with pytest.raises(ValueError, match="MoDL: images must agree"):
        unfolded.rows_of(pairs[0], 1, pairs[0].images(1).device)


def test_every_variant_trains_and_reconstructs(pairs):
    for pair in pairs[1:]:
        for task, count in unfolded.BATCHES.items():
            for variant in (unfolded.PEER, unfolded.OURS, unfolded.HALF):
                unfolded.runner(pair, variant, task, pair.images(count))()


def test_the_page_has_their_table():
    figures = json.loads((report.FIGURES / "unfolded.json").read_text())
    assert unfolded.table(figures["rows"]) in report.PAGE.read_text()
