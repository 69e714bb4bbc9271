"""One network for a range of operators beside one for each: small trainings, and what is said of their figures."""

import json

import pytest

from benchmarks import ranges
from tests.helpers import write_picture
from unrolled.networks import EPGN


@pytest.fixture
def argv(tmp_path, monkeypatch):
    monkeypatch.setattr(ranges, "NETWORKS", {"EPGN": lambda **how: EPGN(1, 2, **how)})
    for seed in range(10):
        write_picture(tmp_path / "train" / f"{seed}.png", 100, 100, seed)
    write_picture(tmp_path / "test" / "0.png", 40, 50)
    train, test = str(tmp_path / "train"), str(tmp_path / "test")
    given = ["--t91", train, "--bsd400", train, "--set11", test, "--minutes", "0.005", "--no-bfloat16"]
    return [*given, "--networks", "EPGN", "--ratios", "0.25", "--out", str(tmp_path / "out"), "--problems", "radial"]


def test_networks_for_all_ratios_and_for_one_are_measured_at_all(argv, tmp_path, capsys):
    file = tmp_path / "ranges.json"
    ranges.main([*argv, "--json", str(file)])
    rows = json.loads(file.read_text())["rows"]
    assert [(row["problem"], row["ratio"]) for row in rows] == [
        ("radial", None),
        ("radial", 0.25),
    ]
    for row in rows:
        assert row["0.10"] < row["0.25"] < row["0.50"]  # more measurements give better images
    said = capsys.readouterr().out
    assert f"EPGN for Fourier samples on radial lines: {rows[0]['0.25'] - rows[1]['0.25']:+.2f} dB at 25%." in said
    assert f"({rows[1]['0.50']:.2f})" in ranges.row(rows[1])
    assert f"({rows[0]['0.50']:.2f})" not in ranges.row(rows[0])
    weights = tmp_path / "out" / "radial-EPGN-drawn" / "best.safetensors"
    written = weights.stat().st_mtime_ns
    ranges.main(argv)
    assert weights.stat().st_mtime_ns == written
