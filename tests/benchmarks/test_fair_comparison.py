"""The comparison of all networks: its pieces, that they go on where they were stopped, and their page."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.comparison import __main__ as comparison
from benchmarks.comparison import page, pictures, pieces, schedule
from benchmarks.comparison.entries import ENTRIES, LEFT_OUT, Entry
from benchmarks.comparison.problems import OfImages, problem
from tests.helpers import write_picture
from unrolled.cli.network_list import preset_classes
from unrolled.cli.train import parser
from unrolled.networks import EPGN, LearnedPrimalDual
from unrolled.operators import BlockCompressedSensing
from unrolled.system.recipes import describe
from unrolled.training import Loop

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = {
    "EPGN": Entry(EPGN, {"phases": 1, "features": 4}),
    "LearnedPrimalDual": Entry(LearnedPrimalDual, {"phases": 1, "features": 4}),
}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """One problem of few blocks, two networks, of which one does not take it, and pieces in this process."""
    for split, count in (("train", 4), ("test", 2)):
        for seed in range(count):
            write_picture(tmp_path / split / f"{seed}.png", 24, 24, seed + 10 * (split == "test"))

    def blocks(name, paths):
        how = {"make": lambda _: BlockCompressedSensing(0.3, block=8), "crop": 16, "hold_out": 1}
        return OfImages("Blocks", "small blocks", paths, 2, 1, train=("t91",), **how)

    monkeypatch.setattr(pieces, "ENTRIES", SMALL)
    monkeypatch.setattr(pieces, "problem", blocks)
    monkeypatch.setattr(
        schedule.Schedule, "piece", lambda self, problem, network, name: pieces.finish(self.out, problem, network, name)
    )
    trained = pieces.Piece.trained
    monkeypatch.setattr(  # how many steps fill the time does not depend on the machine here
        pieces.Piece,
        "trained",
        lambda self, name, rate, minutes, cost, *more: trained(self, name, rate, minutes, 0.03, *more),
    )
    data = ["--t91", str(tmp_path / "train"), "--bsd400", str(tmp_path / "train"), "--set11", str(tmp_path / "test")]
    budget = ["--minutes", "0.002", "--iterations", "2", "--jobs", "1", "--networks", *SMALL]
    return [*data, *budget, "--out", str(tmp_path / "out"), "--json", str(tmp_path / "c.json")]


def test_a_comparison_from_end_to_end_goes_on_where_it_was_stopped(small, tmp_path, capsys, monkeypatch):
    done, do = [], pieces.do

    def until_full(piece, name):
        if name == "full":
            raise KeyboardInterrupt
        done.append(name)
        return do(piece, name)

    monkeypatch.setattr(pieces, "do", until_full)
    assert comparison.main([*small, "--long", "0.004"]) == 0  # a piece that was stopped is not one that failed
    folder = tmp_path / "out" / "cs" / "EPGN"
    assert not (folder / "full.json").exists()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/cs/*/*.json")}
    monkeypatch.setattr(pieces, "do", do)
    assert comparison.main([*small, "--long", "0.004"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    said = capsys.readouterr().out
    assert "mri is left out: it needs the data complex_train, complex_test" in said
    found = json.loads((tmp_path / "c.json").read_text())["rows"]
    table = {row["method"]: row for row in found}
    assert {row["problem"] for row in found} == {"cs"}
    assert "measurements must be pictures" in table["LearnedPrimalDual"]["failed"]
    row = table["EPGN"]
    assert row["images"] == 2
    assert row["parameters"] == EPGN(1, 4).parameter_count
    assert [trial["rate"] for trial in row["trials"]] == pytest.approx([factor * 2e-3 for factor in pieces.FACTORS])
    best = max((trial for trial in row["trials"]), key=lambda trial: trial["psnr"])
    assert row["rate"] == best["rate"]
    assert len(row["curve"]) == min(pieces.VALIDATIONS, row["steps"])
    assert row["curve"][-1][0] == pytest.approx(row["steps"] * row["seconds_a_step"], abs=0.01)
    (longer,) = row["long"]
    assert [row["steps"], longer["steps"]] == [4, 8]
    assert table["total variation"]["strength"] > 0
    assert table["linear estimate"]["strength"] is None
    with pytest.raises(ValueError, match=r"minutes: must be 0.002 as before .* got 5"):
        comparison.main([*small, "--minutes", "5"])


def test_a_training_that_is_stopped_ends_like_one_that_is_not(small, tmp_path, monkeypatch):
    comparison.settle(tmp_path / "out", {"minutes": 1.0, "iterations": 1, "most": 1, "paths": {"t91": small[1]}})
    monkeypatch.setattr(pieces.Piece, "bfloat16", False)
    piece, validate, whole = pieces.Piece(tmp_path / "out", "cs", "EPGN"), Loop.validate, 6

    def until_the_end(loop):
        if loop.progress.step == whole:
            raise KeyboardInterrupt
        return validate(loop)

    with monkeypatch.context() as stopped:
        stopped.setattr(Loop, "validate", until_the_end)
        with pytest.raises(KeyboardInterrupt):
            piece.trained("stopped", 1e-3, 0.003, 0.03, 2)
    found = [piece.trained(name, 1e-3, 0.003, 0.03, 2) for name in ("stopped", "straight")]
    curves = [[score for _, score in each["curve"]] for each in found]
    assert [each["steps"] for each in found] == [whole, whole]
    assert curves[0] == curves[1]
    assert len(curves[0]) == 2


def row(method, psnr, network=True, **facts):
    """A row of synthetic figures."""
    tested = {"psnr": psnr, "ssim": 0.9, "seconds_an_image": 1.0, "images": 3}
    made = {"problem": "ct", "method": method, "network": network, **tested}
    if network:
        made |= {"parameters": 1000, "mib": 10, "bfloat16": True, "steps": 5, "seconds_a_step": 2.0, "rate": 1e-3}
        made |= {"trials": [{"rate": 1e-3, "psnr": psnr - 1}], "held_out": psnr, "start": 20.0, "long": []}
        made |= {"curve": [[1.0, psnr - 2], [2.0, psnr]]}
    return made | facts


def test_a_page_says_what_the_figures_say(tmp_path):
    late = {"trials": [{"rate": 1e-3, "failed": "NaN"}, {"rate": 4e-3, "psnr": 29.0}]}
    longer = {"minutes": 40.0, "ssim": 0.9, "seconds_an_image": 1.0, "images": 3, "held_out": 35.0, "steps": 40}
    best = row("EPGN", 32.0, **late, long=[{**longer, "psnr": 33.0, "curve": [[8.0, 33.0]]}])
    second = row("MoDL", 31.95, long=[{**longer, "psnr": 33.5, "curve": [[8.0, 33.5]]}])
    others = [row("half resolution", 31.8, seconds_an_image=0.5, parameters=999), row("HQSNet", 30.0)]
    classical = [row("total variation", 29.5, network=False), row("linear estimate", 20.0, network=False)]
    refused = {"problem": "ct", "method": "LearnedPrimalDual", "network": True, "failed": "needs pictures\nand more"}
    found = [best, second, *others, *classical, refused]
    said = page.statement(found, 5)
    assert said == (
        "Choose `EPGN`; `MoDL` is not told apart from it. Next comes half resolution, 0.20 dB below. It is 2.50 dB "
        "above total variation, the best classical method. The fastest network within 0.3 dB of it is half "
        "resolution, 0.50 s an image. The order changes with time: after 1 min `MoDL` is the best on held-out images, "
        "after 5 min `EPGN`. After 40 min of the best two `MoDL` has 33.50 dB (+1.55), `EPGN` has 33.00 dB (+1.00): "
        "the order of these changes."
    )
    environment = {"device": "a processor", "python": "3", "torch": "2", "threads": 2}
    result = {
        "minutes": 5.0,
        "long": 40.0,
        "environment": environment,
        "rows": found,
        "figures": {"ct": "figures/x.png"},
    }
    text = page.page(result, "# Networks\n\nText.\n")
    assert text.startswith("# Networks\n\nText.\n\n<!-- comparison -->\n\n## Which network")
    assert "| computed tomography | `EPGN` | 32.00 dB | +2.50 dB (total variation) | 1,000 | 1.00 |" in text
    assert "| LearnedPrimalDual | needs pictures | | | | | | | |" in text
    assert "(figures/x.png)" in text
    assert page.page(result, text) == text
    assert all(word not in text for word in ("compressive sensing |", "deblurring |"))
    assert page.statement([refused], 5) == "No network is trained yet."


def test_pictures_are_drawn_of_what_is_finished(tmp_path):
    truth = np.linspace(0, 1, 64).reshape(8, 8)
    found = [row("EPGN", 32.0), row("MoDL", 31.0), row("total variation", 29.5, network=False)]
    for name, method, image in (("classical", "estimate", 0.5), ("classical", "tv", 0.9), ("EPGN", "full", 0.95)):
        folder = pieces.folder_of(tmp_path, "ct", name)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{method}.npy", image * truth)
        np.save(folder / "truth.npy", truth)
    drawn = pictures.draw_all(tmp_path, tmp_path / "figures", page.titles(), found)
    assert {name: path.name for name, path in drawn.items()} == {
        "curves": "networks-curves.png",
        "ct": "networks-ct.png",
    }
    assert all(path.stat().st_size > 5000 for path in drawn.values())


def test_every_network_with_a_name_is_compared_or_left_out_for_a_reason():
    compared = {entry.make.__name__ for entry in ENTRIES.values()}
    assert set(preset_classes()) == (compared & set(preset_classes())) | (set(LEFT_OUT) & set(preset_classes()))
    assert not compared & set(LEFT_OUT)
    for entry in ENTRIES.values():
        network = entry.network(problem("mri", {}))
        assert network.complex_images
        assert type(network.start).__name__ == "ConjugateGradientStart"
        own = network.repeats == 1 and type(network).__name__ != "VariationalNetwork"
        assert 2e-3 <= entry.rate <= 4e-3
        if own and type(network).__name__ not in ("FISTANet", "HQSNet"):
            assert 2.0e5 <= network.parameter_count <= 3.3e5


def test_problems_are_those_of_the_configs():
    """Operators and noise are stated once more here, so that they are compared with what a config trains."""
    options = parser()
    for name, config in (("ct", "ct/epgn_60.yaml"), ("cs", "cs/epgn_25.yaml"), ("deblur", "deblur/epgn_levin.yaml")):
        made, stated = options.parse_args(["--config", str(CONFIGS / config)]), problem(name, {})
        made = options.instantiate(made)
        assert stated.noise == made.noise
        if name != "deblur":
            assert describe(stated.make({})) == describe(made.operator)
        assert stated.batch == made.training.batch
    made = options.instantiate(options.parse_args(["--config", str(CONFIGS / "kspace" / "epgn_cartesian.yaml")]))
    stated = problem("mri", {})
    assert stated.mask == made.data.mask
    assert describe(stated.start()) == describe(made.network.arguments["start"])


def test_one_line_tells_what_a_piece_found():
    assert schedule.words({"failed": "no"}) == "failed: no"
    assert schedule.words({"psnr": 30.0, "steps": 1234, "seconds": 0.5}) == "30.00 dB held out, 1,234 steps of 0.50 s"
    assert schedule.hours(59) == "1 min"
    assert schedule.hours(3 * 3600 + 61) == "3 h 01 min"
