"""The comparison of shrinkages compares equal things, and its page is made of its figures."""

import argparse
import json
import re

import pytest
import torch

from benchmarks import shrinkages
from tests.helpers import write_picture
from unrolled.penalties import Penalty
from unrolled.system.recipes import build


def options(**changes):
    return argparse.Namespace(**{"seed": 0, "phases": 2, "features": 4, **changes})


def test_the_networks_differ_in_nothing_but_their_shrinkage():
    soft = shrinkages.network("soft", options()).state_dict()
    for name in shrinkages.SHRINKAGES:
        other = shrinkages.network(name, options()).state_dict()
        assert {key for key in soft if "shrinkage" not in key} == {key for key in other if "shrinkage" not in key}
        assert all(torch.equal(soft[key], other[key]) for key in soft if "shrinkage" not in key)
        steps = [key for key in other if key.endswith("shrinkage.raw_step") or ".shrinkages." in key]
        assert len(steps) >= 2, name
    again = shrinkages.network("soft", options(seed=1)).state_dict()
    assert not torch.equal(again["phases.0.prox.sparsify.conv.weight"], soft["phases.0.prox.sparsify.conv.weight"])


def test_the_command_trains_each_once_and_writes_its_tables(tmp_path, monkeypatch, capsys):
    for seed in range(14):
        write_picture(tmp_path / "train" / f"{seed}.png", 66, 66, seed)
    write_picture(tmp_path / "test" / "a.png", 40, 50, 20)
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n{shrinkages.BEGIN}\n{shrinkages.END}\n\nEnd.\n")
    monkeypatch.setattr(shrinkages, "PAGE", page)
    monkeypatch.setattr(shrinkages, "FIGURES", tmp_path / "figures.json")
    argv = ["--train", str(tmp_path / "train"), "--test", str(tmp_path / "test"), "--out", str(tmp_path / "out"),
            "--steps=1", "--phases=1", "--features=2", "--batch=1", f"--json={tmp_path / 'figures.json'}"]  # fmt: skip
    with pytest.warns(UserWarning, match="no checkpoint yet"):
        shrinkages.main([*argv, "--only", "soft", "mixture"])
    assert re.search(r"\| mixture, seed 0 \| \d\d\.\d\d dB \| [+-]\d\.\d\d dB \|", capsys.readouterr().out)
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["soft", "mixture"]
    assert rows[0]["start_psnr"] == rows[1]["start_psnr"]
    learned = rows[1]["learned"][0]
    assert sum(part["weight"] for part in learned) == pytest.approx(1)
    kinds = [type(build({key: part[key] for key in ("class_path", "init_args")}, Penalty)) for part in learned]
    assert kinds == [type(penalty) for penalty in shrinkages.SHRINKAGES["mixture"]]
    text = page.read_text()
    assert text.startswith("# A page\n\n")
    assert text.endswith("\n\nEnd.\n")
    assert str(tmp_path) not in text
    assert shrinkages.page(rows, text) == text
    monkeypatch.setattr(shrinkages.unrolled, "fit", None)  # what is finished is not done again
    shrinkages.main([*argv, "--only", "soft"])
    assert page.read_text() == text


def test_the_page_is_made_of_its_figures():
    text = shrinkages.PAGE.read_text()
    rows = json.loads(shrinkages.FIGURES.read_text())["rows"]
    assert shrinkages.page(rows, text) == text
    assert {row["name"] for row in rows} == set(shrinkages.SHRINKAGES)
    for key in ("steps", "batch", "crop", "phases", "features", "ratio", "bfloat16", "train", "start_psnr"):
        assert all(row[key] == rows[0][key] for row in rows), key


def test_the_examples_of_the_page_run():
    found = re.findall(r"```python\n(.*?)```", shrinkages.PAGE.read_text(), re.DOTALL)
    assert len(found) == 2
    exec("\n".join(found), {})
