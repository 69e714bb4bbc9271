"""The table of every network on every kind of operator."""

import json

import pytest

from benchmarks import family
from unrolled.cli.network_list import preset_classes
from unrolled.networks import MoDL


@pytest.fixture
def small(monkeypatch):
    """Fewer and smaller images."""
    monkeypatch.setattr(family, "SIDE", 24)
    monkeypatch.setattr(family, "KINDS", {**family.KINDS, "inpainting": family.Kind(lambda _: INPAINTING, 24)})


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
    assert family.main([*argv[:-2], "--out", str(tmp_path / "again")]) == 0


def test_a_refusal_is_a_cell_if_the_network_announces_it(tmp_path, monkeypatch):
    said = "unrolled train: error: ProximalStep: needs pictures, which Dense has not"
    monkeypatch.setattr(family, "run", lambda argv: (1, said))
    monkeypatch.setattr(family, "demands", lambda cls: ["pictures"])
    refused = family.cell("MoDL", MoDL, "dense", tmp_path, 1, {})
    assert refused == {"network": "MoDL", "operator": "dense", "ok": True, "reason": said}
    assert "refused: unrolled train: error" in family.table([refused])
    monkeypatch.setattr(family, "demands", lambda cls: [])
    failed = family.cell("MoDL", MoDL, "dense", tmp_path / "again", 1, {})
    assert not failed["ok"]
    assert "FAILED: unrolled train" in family.table([failed])


def test_every_kind_of_operator_is_tried():
    assert {what.complex_images for what in family.KINDS.values()} == {False, True}
    assert len(family.KINDS) == 9
    assert {path.stem for path in family.CONFIGS.glob("*.yaml")} == set(preset_classes())
