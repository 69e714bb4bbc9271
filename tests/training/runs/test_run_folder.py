"""The files of a run: lines of metrics that are whole, and disks that are full."""

import contextlib
import shutil
from collections import namedtuple

import pytest

from tests.helpers import put
from tests.training.small_runs import Crash, assert_same_end, at_step, crash, file_size_limit, fit, options
from unrolled.figures.training_curves import training_curve
from unrolled.networks import EPGN
from unrolled.system.files import remove_temporary
from unrolled.training import TrainingError
from unrolled.training.runs.checkpoint import load_checkpoint
from unrolled.training.runs.run_folder import MARKS, RESULTS, check_folder


def test_half_a_line_of_metrics_is_repaired(tmp_path, monkeypatch):
    fit(tmp_path / "straight")
    with monkeypatch.context() as patch:
        at_step(patch, 10, crash)
        with pytest.raises(Crash):
            fit(tmp_path / "run")
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"step": 12, "lo')
    (tmp_path / "run" / ".partial-last-abc.pt").write_bytes(b"left by a kill")
    fit(tmp_path / "run", resume=True)
    assert_same_end(tmp_path / "straight", tmp_path / "run")
    assert not list((tmp_path / "run").glob(".partial-*"))


DAMAGED = b'\xff\xfe\x00\n{"step": "4"}\n[1]\n{"step": 4, "lo\n\n'


def test_damaged_lines_of_metrics_are_named_and_left_out(finished, tmp_path):
    fit(tmp_path / "straight")
    lines = tmp_path / "run" / "metrics.jsonl"
    lines.write_bytes(DAMAGED + lines.read_bytes())
    with pytest.warns(UserWarning, match=r"resume: .*metrics\.jsonl: damaged lines are left out: \[1, 2, 3, 4, 5\]"):
        fit(tmp_path / "run", resume=True)
    assert_same_end(tmp_path / "straight", tmp_path / "run")


def test_a_run_draws_its_curve(finished, tmp_path, monkeypatch):
    (tmp_path / "run" / "curve.png").unlink()
    monkeypatch.setattr("unrolled.figures.training_curves.training_curve", training_curve)
    fit(tmp_path / "run", resume=True)
    drawn = (tmp_path / "run" / "curve.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert drawn == training_curve(tmp_path / "run").read_bytes()


def test_the_curve_is_drawn_of_the_lines_that_are_whole(finished, tmp_path):
    whole = training_curve(tmp_path / "run").read_bytes()
    lines = tmp_path / "run" / "metrics.jsonl"
    lines.write_bytes(DAMAGED + lines.read_bytes())
    with pytest.warns(UserWarning, match=r"metrics\.jsonl: damaged lines are left out: \[1, 2, 3, 4, 5\]"):
        training_curve(tmp_path / "run")
    assert (tmp_path / "run" / "curve.png").read_bytes() == whole


@pytest.mark.parametrize("room", ["for nothing", "for weights but no checkpoint"])
def test_on_a_full_disk_the_last_checkpoint_stays(room, tmp_path, monkeypatch):
    fit(tmp_path / "straight")
    sizes = [(tmp_path / "straight" / name).stat().st_size for name in ("best.safetensors", "last.pt")]
    assert sizes[0] < sizes[1]
    limit = 1000 if room == "for nothing" else sum(sizes) // 2
    with contextlib.ExitStack() as full, monkeypatch.context() as patch:
        at_step(patch, 5, lambda: full.enter_context(file_size_limit(limit)))
        message = r"stopped at step 8, for results could not be written: .*[Ff]ile too large.* the checkpoint of step 4"
        with pytest.raises(TrainingError, match=message):
            fit(tmp_path / "run")
    assert not list((tmp_path / "run").glob(".*"))
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] == 4
    fit(tmp_path / "run", resume=True)
    assert_same_end(tmp_path / "straight", tmp_path / "run")


def test_a_disk_that_is_full_from_the_start_is_noticed_before_training(tmp_path, monkeypatch):
    at_step(monkeypatch, 0, crash)
    with file_size_limit(1000), pytest.raises(ValueError, match="File too large"):
        fit(tmp_path / "limited")
    usage = namedtuple("Usage", "total used free")(10**9, 10**9, 50_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ValueError, match=r"has 0\.1 MB free, and the checkpoints need 0\.\d MB"):
        fit(tmp_path / "full")


def test_the_room_that_is_asked_for_is_what_the_checkpoints_take(tmp_path, monkeypatch):
    asked = []

    class Usage:
        @property
        def free(self):
            return 0

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage())
    with pytest.raises(ValueError, match="checkpoints need") as error:
        fit(tmp_path / "run", network=EPGN(3, 16))
    asked = 1e6 * float(str(error.value).split("need ")[1].split(" MB")[0])
    monkeypatch.undo()
    fit(tmp_path / "run", network=EPGN(3, 16), training=options(steps=2))
    assert asked == pytest.approx(3 * (tmp_path / "run" / "last.pt").stat().st_size, rel=0.1)


@pytest.mark.parametrize("folder", ["/proc/run", "/dev/null/run"])
def test_folders_that_cannot_be_written_are_refused_before_training(folder, monkeypatch):
    at_step(monkeypatch, 0, crash)
    with pytest.raises(ValueError, match=f"cannot write {folder}"):
        fit(folder)


def test_only_temporary_files_are_removed(tmp_path):
    for name in (".partial-last-x.pt", ".hidden", "last.pt"):
        (tmp_path / name).write_bytes(b"")
    remove_temporary(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".hidden", "last.pt"}


@pytest.mark.parametrize("name", ["last.pt", "metrics.jsonl", "best.safetensors", "environment.json", "curve.png"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_takes_the_place_of_a_file_is_named_before_training(kind, name, finished, tmp_path, monkeypatch):
    at_step(monkeypatch, 0, crash)
    elsewhere = tmp_path / "elsewhere"
    (finished / name).rename(elsewhere)
    before = elsewhere.read_bytes()
    put(kind, finished / name, elsewhere)
    for resume in (True, False):
        with pytest.raises(ValueError, match=rf"folder: .*{name} cannot be used: it is a {kind}, not a file"):
            fit(finished, resume=resume)
    assert elsewhere.read_bytes() == before


def test_a_run_begins_only_where_it_writes_over_nothing(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (*RESULTS, *MARKS):
        (folder / name).write_bytes(b"mine")
        with pytest.raises(ValueError, match=f"holds {name}, which a run that begins|already holds a run"):
            check_folder(folder, goes_on=False)
        (folder / name).unlink()
    # What is left of a run that ended before its first checkpoint, and files of other names, are not in the way.
    (folder / "notes.txt").write_bytes(b"mine")
    (folder / "config.yaml").write_text("# Written by unrolled train.\nseed: 0\n")
    (folder / "environment.json").write_text('{"unrolled": "0.1.0"}')
    check_folder(folder, goes_on=False)
    assert (folder / "notes.txt").read_bytes() == b"mine"
