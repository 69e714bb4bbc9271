"""A command that fails says why in a line; a bug is told from what was asked."""

import errno
import re
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

import unrolled
from tests.helpers import write_picture
from unrolled.cli import main
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing


def fail(error):
    def run(argv):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ValueError("x must be 1"), 1, "unrolled zoo: error: x must be 1\n"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            1,
            "unrolled zoo: error: [Errno 28] No space left on device\n",
        ),
        (OverflowError("int too large"), 1, "unrolled zoo: error: int too large\n"),
        (MemoryError(), 1, "unrolled zoo: error: there is not enough memory: MemoryError\n"),
        (torch.OutOfMemoryError("CUDA\nmore"), 1, "unrolled zoo: error: there is not enough memory: CUDA\n"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "there is not enough memory"),
        (UnicodeEncodeError("utf-8", "b\udcff", 1, 2, "surrogates"), 1, "'b\\udcff' is not text in UTF-8"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
        (KeyboardInterrupt(), 130, "unrolled zoo: interrupted"),
    ],
)
def test_a_known_kind_is_a_line(error, status, said, monkeypatch, capsys):
    monkeypatch.setattr("unrolled.cli.zoo.run", fail(error))
    assert main(["zoo"]) == status
    err = capsys.readouterr().err
    assert said in err
    assert len(err.strip().splitlines()) <= 1


def test_a_bug_is_called_one_and_says_what_to_send(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("unrolled.cli.zoo.run", fail(KeyError("nothing")))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["zoo", "two words"]) == 70
    said = capsys.readouterr().err
    assert "unrolled zoo: error: this is a bug" in said
    report = Path(re.search(r"\S+unrolled-bug-\S+\.txt", said)[0]).read_text(encoding="utf-8")
    assert report.startswith("unrolled zoo 'two words'\n")
    assert f"torch: {torch.__version__.partition('+')[0]}" in report
    assert "Traceback" in report
    assert "KeyError: 'nothing'" in report
    assert "Traceback" not in said
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))  # then it is shown
    assert main(["zoo"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_figures_that_cannot_be_recorded_are_a_line(tmp_path, monkeypatch, capsys):
    unrolled.save(tmp_path / "w.safetensors", EPGN(1, 2), BlockCompressedSensing(ratio=0.25, block=11))
    before = (tmp_path / "w.safetensors").read_bytes()
    write_picture(tmp_path / "x.png", 22, 22)
    monkeypatch.setattr("unrolled.weights.card.save_file", lambda *_, **__: fail(SafetensorError("No space left"))([]))
    argv = ["evaluate", "--weights", str(tmp_path / "w.safetensors"), "--data", str(tmp_path / "x.png"), "--record=x"]
    assert main(argv) == 1
    assert "w.safetensors: No space left" in capsys.readouterr().err
    assert (tmp_path / "w.safetensors").read_bytes() == before


def test_names_that_are_not_text_are_refused_where_they_would_be_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_picture(tmp_path / "p\udcff" / "\udcff.png", 40, 40)
    assert main(["data", "prepare", "p\udcff", "--out", "x.h5"]) == 1
    assert "is not text in UTF-8" in capsys.readouterr().err
    argv = [
        "train",
        "--network=EPGN",
        "--operator=BlockCompressedSensing",
        "--operator.ratio=.25",
        "--training.steps=1",
    ]
    assert main([*argv, "--folder=p\udcff"]) == 1
    assert "folder: is kept in a config, so it must be text in UTF-8" in capsys.readouterr().err


def test_a_curve_that_is_not_drawn_is_not_announced(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("unrolled.training.train_task._draw_curve", lambda folder, score: None)
    argv = ["classify", "--classifier=LeNet300100", "--training.steps=1", "--training.batch=5"]
    assert main([*argv, f"--folder={tmp_path}"]) == 0
    assert "curve.png" not in capsys.readouterr().out
