"""FeaturePGN with one thing changed at a time: small trainings, and what is said of them."""

import json

from benchmarks import variants
from tests.helpers import write_picture


def test_variants_are_trained_once_and_compared_at_their_seeds(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(variants, "SIZES", {"phases": 1, "features": 2, "blocks": 1})
    monkeypatch.setattr(variants, "HELD_OUT", 2)
    for seed in range(4):
        write_picture(tmp_path / "train" / f"{seed}.png", 70, 70, seed)
    file = tmp_path / "variants.json"
    argv = ["--train", str(tmp_path / "train"), "--minutes", "0.001", "--no-bfloat16", "--out", str(tmp_path / "out")]
    variants.main([*argv, "--only", variants.AS_IT_IS, "4 crops", "--seeds", "0", "1", "--json", str(file)])
    rows = json.loads(file.read_text())["rows"]
    assert [(row["variant"], row["seed"]) for row in rows] == [
        (name, seed) for seed in (0, 1) for name in (variants.AS_IT_IS, "4 crops")
    ]
    weights = tmp_path / "out" / "4-crops-1" / "best.safetensors"
    written = weights.stat().st_mtime_ns
    variants.main([*argv, "--only", "4 crops", "--seeds", "1"])
    assert weights.stat().st_mtime_ns == written
    made = [{"variant": name, "seed": seed, "psnr": psnr, "parameters": 1234, "steps": 10}
            for name, seed, psnr in ((variants.AS_IT_IS, 0, 30.0), ("4 crops", 0, 30.5), ("4 crops", 1, 31.0),
                                     (variants.AS_IT_IS, 1, 30.3))]  # fmt: skip
    assert "| 4 crops | 30.50 | 31.00 | +0.60 | 1,234 | 10 |" in variants.table(made)


def test_every_variant_can_be_made():
    for variant in variants.VARIANTS.values():
        variants.FeaturePGN(**{**variants.SIZES, **variant.network})
        assert variant.crop % 33 == 0
