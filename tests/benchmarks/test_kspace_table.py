"""The table of networks and classical methods on measured k-space."""

import json

import pytest
import torch

import unrolled
from benchmarks import kspace
from tests.helpers import write_picture
from unrolled.networks import ISTANetPlus
from unrolled.operators import Identity
from unrolled.reconstruction.simulated_kspace import simulate_kspace


def test_a_network_that_does_nothing_is_its_start(tmp_path, monkeypatch, capsys):
    write_picture(tmp_path / "images" / "0.png", 64, 60)
    simulate_kspace(tmp_path / "images", tmp_path / "kspace", coils=3, slices=1, progress=False)
    network = ISTANetPlus(1, 2, complex_images=True)
    with torch.no_grad():
        network.phases[0].raw_step.fill_(-30.0)  # neither a step along the gradient nor one of the new maps
    unrolled.save(tmp_path / "w.safetensors", network, Identity(complex_images=True))
    monkeypatch.setattr(kspace, "GRID", (1.0,))
    where = ["--test", str(tmp_path / "kspace"), "--tune", str(tmp_path / "kspace")]
    options = ["--weights", f"still:{tmp_path / 'w.safetensors'}", "--iterations", "3", "--center", "0.3"]
    kspace.main([*where, *options, "--json", str(tmp_path / "table.json")])
    rows = {row["method"]: row for row in json.loads((tmp_path / "table.json").read_text())["rows"]}
    assert list(rows) == ["zero-filled", "still", "wavelet l1", "total variation"]
    assert all(row["slices"] == 1 for row in rows.values())
    assert rows["still"]["psnr"] == pytest.approx(rows["zero-filled"]["psnr"], abs=1e-3)
    assert rows["total variation"]["psnr"] > rows["zero-filled"]["psnr"]
    assert "dB" in capsys.readouterr().out
