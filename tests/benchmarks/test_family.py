"""The table of every network on every kind of operator."""

import json

import pytest

from benchmarks import carried, command, family
from unrolled.cli.network_list import preset_classes
from unrolled.networks import MoDL


@pytest.fixture
def small(monkeypatch):
    """Fewer and smaller images."""
    monkeypatch.setattr(family, "SIDE", 24)
    monkeypatch.setattr(family, "KINDS", {**family.KINDS, "inpainting": family.Kind(lambda _: INPAINTING)})


INPAINTING = {"class_path": "Inpainting", "init_args": {"keep": 0.4, "height": 24, "width": 24}}


def test_a_cell_is_what_a_user_does_and_its_gain_decides_the_exit_status(small, tmp_path, capsys, monkeypatch):
    file = tmp_path / "family.json"
    argv = ["--networks", "EPGN", "--operators", "inpainting", "--steps", "2", "--batch", "1"]
    argv += ["--out", str(tmp_path), "--json", str(file)]
    assert family.main(argv) == 1  # two steps are too few
    (cell,) = json.loads(file.read_text())["cells"]
    assert cell["gain"] == pytest.approx(cell["psnr"] - cell["start"])
    assert (tmp_path / "EPGN-inpainting" / "x.png").exists()
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("EPGN                   inpainting")
    assert row.endswith("below 0.5 dB")
    monkeypatch.setattr(family, "LEAST", -10.0)
    assert family.main(argv) == 0  # what was below is tried again
    kept = tmp_path / "EPGN-inpainting" / "run" / "best.safetensors"
    written = kept.stat().st_mtime_ns
    monkeypatch.setattr(family, "run", lambda argv: pytest.fail("it is finished"))
    assert family.main(argv) == 0
    assert json.loads(file.read_text())["cells"][0]["gain"] == pytest.approx(cell["gain"])
    assert kept.stat().st_mtime_ns == written
    for other in (["--again"], ["--steps", "3"]):
        with pytest.raises(pytest.fail.Exception, match="it is finished"):
            family.main([*argv, *other])


def test_a_refusal_is_a_cell_if_the_network_announces_it(tmp_path, monkeypatch):
    said = "unrolled train: error: ProximalStep: needs pictures, which Dense has not"
    monkeypatch.setattr(family, "run", lambda argv: (1, said))
    monkeypatch.setattr(family, "demands", lambda cls: ["pictures"])
    refused = family.cell("MoDL", MoDL, "dense", tmp_path, 1)
    assert refused.pop("seconds") >= 0
    reason = "ProximalStep: needs pictures, which Dense has not"
    assert refused == {"network": "MoDL", "operator": "dense", "ok": True, "reason": reason}
    assert "refused: ProximalStep" in family.table([refused])
    monkeypatch.setattr(family, "demands", lambda cls: [])
    failed = family.cell("MoDL", MoDL, "dense", tmp_path / "again", 1)
    assert not failed["ok"]
    assert "FAILED: unrolled train" in family.table([failed])


def test_every_kind_of_operator_is_tried():
    assert {what.complex_images for what in family.KINDS.values()} == {False, True}
    assert len(family.KINDS) == 9
    assert {path.stem for path in family.CONFIGS.glob("*.yaml")} <= set(preset_classes())


def test_who_stops_it_stops_all(tmp_path, monkeypatch):
    monkeypatch.setattr(family, "run", lambda argv: (128 + 15, "stopped"))
    with pytest.raises(SystemExit, match="143"):
        family.main(["--networks", "MoDL", "--out", str(tmp_path)])
    assert not (tmp_path / "MoDL-blocks" / "cell.json").exists()


def test_the_page_has_the_table(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"above\n{family.BEGIN}\nold\n{family.END}\nbelow\n")
    environment = {"device": "a CPU", "threads": 1, "python": "3.11", "torch": "2.13"}
    cells = [
        {"network": "A", "operator": "blur", "ok": True, "gain": 1.234, "seconds": 30},
        {"network": "A", "operator": "coils", "ok": True, "reason": "A: Blur is no Dense", "seconds": 30},
        {"network": "B", "operator": "blur", "ok": True, "reason": "A: Radon is no Dense", "seconds": 30},
        {"network": "B", "operator": "coils", "ok": True, "reason": "never", "seconds": 30},
    ]
    part = family.section({"steps": 100, "cells": cells, "environment": environment})
    command.put(page, part, family.BEGIN, family.END)
    text = page.read_text()
    assert text.startswith("above")
    assert text.endswith("below\n")
    assert "old" not in text
    assert "| `A` | +1.23 | (1) |\n| `B` | (1) | (2) |" in text
    assert "(1) A: the operator is no Dense  \n(2) never" in text
    assert "2 minutes of one core" in text
    page.write_text("without marks\n")
    for _ in range(2):
        command.put(page, "a part", family.BEGIN, family.END)
        assert page.read_text() == f"without marks\n\n{family.BEGIN}\n\na part\n\n{family.END}\n"


def test_documentation_shows_the_figures_that_were_measured():
    for file, section, begin in (
        (family.FIGURES, family.section, family.BEGIN),
        (carried.FIGURES, carried.section, carried.BEGIN),
    ):
        assert f"{begin}\n\n{section(json.loads(file.read_text()))}\n\n" in family.PAGE.read_text()
