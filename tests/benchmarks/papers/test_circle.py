"""The circle in small: a trained EPGN, made sparse, and made smaller."""

import copy
import json
import re

import pytest

import unrolled
from benchmarks.papers import __main__ as papers
from benchmarks.papers import circle
from benchmarks.papers import study as studies
from tests.helpers import write_picture
from unrolled.weights.card import names

SPARSIFIER = {
    "class_path": "unrolled.sparsify.ProximalStep",
    "init_args": {"penalty": {"class_path": "unrolled.penalties.L0"}, "target": 0.5, "fine_tune": 0.4},
}
FILTERS = {
    **SPARSIFIER["init_args"],
    "groups": {"class_path": "unrolled.penalties.Filters"},
    "include": ["*.sparsify.pair.second", "*.sparsify.conv.weight", "*.synthesize.conv.weight"],
}
STUDY = {
    "base": {
        "network": {"class_path": "unrolled.networks.EPGN", "init_args": {"phases": 2, "features": 8}},
        "operator": {
            "class_path": "unrolled.operators.BlockCompressedSensing",
            "init_args": {"measurements": 12, "block": 9},
        },
        "data": {"hold_out": 4, "crop": 18},
        "training": {"steps": 60, "batch": 8, "learning_rate": 3e-3, "warmup": 20, "average": 0.95, "validations": 1},
    },
    "runs": {
        "dense": None,
        "l0-50": {"start": "dense", "sparsifier": SPARSIFIER},
        "filters-l0-50": {"start": "dense", "sparsifier": {**SPARSIFIER, "init_args": FILTERS}},
        "small-l0-50": {"weights": "filters-l0-50"},
    },
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("circle")
    for seed in range(24):
        write_picture(folder / "pictures" / f"{seed}.png", 45, 45, seed)
    (folder / "study.yaml").write_text(json.dumps(STUDY))
    argv = [f"--config={folder / 'study.yaml'}", f"--folder={folder / 'runs'}", f"--json={folder / 'circle.json'}"]
    more = [f"--data.train=[{folder / 'pictures'}]", "--device=cpu"]
    assert studies.main([*argv, *more], do=circle.run) == 0
    return folder, circle.by_name(json.loads((folder / "circle.json").read_text()))


@pytest.mark.full
def test_half_of_the_weights_are_zero_and_the_images_are_as_good(study):
    _, rows = study
    gained = circle.psnr_of(rows["dense"]) - rows["dense"]["validation"]["start_psnr"]
    assert gained > 1  # so there is something to lose
    assert rows["l0-50"]["sparsity"] == pytest.approx(0.5, abs=0.02)
    assert 0.3 < circle.zeros_between_maps(rows["l0-50"]) < 0.7
    assert circle.psnr_of(rows["l0-50"]) > circle.psnr_of(rows["dense"]) - 0.1 * gained


@pytest.mark.full
def test_half_of_the_filters_are_zero_and_the_compacted_network_is_trained_on(study):
    folder, rows = study
    dense, sparse, small = (rows[name] for name in ("dense", "filters-l0-50", "small-l0-50"))
    assert circle.dead_filters(sparse) == pytest.approx(0.5, abs=0.05)
    assert circle.source_of(small) == "filters-l0-50"
    compacted, operator = unrolled.load(folder / "runs" / "compacted" / "filters-l0-50-0.safetensors")
    masked, _ = unrolled.load(folder / "runs" / "filters-l0-50-0" / "sparse.safetensors")
    images = folder / "pictures" / "3.png"
    same = unrolled.evaluate(masked, images, operator)["psnr"]
    assert unrolled.evaluate(compacted, images, operator)["psnr"] == pytest.approx(same, abs=1e-3)
    widths = small["settings"]["network"]["init_args"]["features"]
    assert widths == compacted.arguments["features"]
    assert sum(sum(each[:3]) for each in widths) <= 0.55 * 2 * 3 * 8
    gained = circle.psnr_of(dense) - dense["validation"]["start_psnr"]
    assert circle.psnr_of(small) > circle.psnr_of(sparse) - 0.02
    assert circle.psnr_of(small) > circle.psnr_of(dense) - 0.25 * gained
    assert str(folder) not in json.dumps(rows)


@pytest.fixture
def committed():
    return papers.figures("circle")


def test_the_section_is_made_of_the_committed_figures(committed):
    text = papers.text("circle", *committed)
    assert text.startswith("## The circle closed")
    assert not re.search(r"\bnan\b|None|/work|/tmp", text)
    figures, times, _ = committed
    assert not figures["failed"]
    assert set(times["shipped"]) <= set(names())


def test_what_the_section_says_of_the_goals_follows_from_the_figures(committed):
    figures, times, threads = committed
    worse = copy.deepcopy(figures)
    for row in worse["runs"]:
        if "after" in row:
            row["after"]["psnr"] -= 1
    text = " ".join(papers.text("circle", worse, times, threads).split())
    assert "at least half of the weights exactly zero within 0.1 dB, is missed" in text
    slow = copy.deepcopy(times)
    for row in slow["rows"]:
        row["speedup"] = 1.2
    assert "within 0.3 dB, is missed" in " ".join(papers.text("circle", figures, slow, threads).split())


def test_shipped_weights_are_those_that_were_timed(committed):
    for name, facts in committed[1]["shipped"].items():
        card = unrolled.weights.card.read_card(name)
        assert (facts["sha256"], facts["evaluation"]) == (card["sha256"], card["evaluation"])
