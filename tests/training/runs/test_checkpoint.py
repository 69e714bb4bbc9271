"""Whatever happens, one whole checkpoint is there, and none that is not whole is used."""

import hashlib
import io
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from tests.training.small_runs import Crash, assert_same_end, at_step, crash, fit, options, tensors
from unrolled.training.runs.checkpoint import Checkpoints, load_checkpoint, write_checkpoint


def test_a_resume_before_the_first_checkpoint_starts_and_says_so(straight, tmp_path):
    with pytest.warns(UserWarning, match="holds no checkpoint yet; starting at the beginning"):
        fit(tmp_path / "resumed", resume=True)
    assert_same_end(straight, tmp_path / "resumed")


def test_checkpoints_by_time_change_nothing(straight, tmp_path, monkeypatch):
    saved, save = [], Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda self, state: (saved.append(state["step"]), save(self, state)))
    fit(tmp_path / "often", training=options(checkpoint_minutes=1e-9))
    assert saved == list(range(13))
    assert_same_end(straight, tmp_path / "often")


@pytest.mark.parametrize("harm", ["a flipped bit", "cut short", "missing"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(harm, straight, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 10, crash)
        with pytest.raises(Crash):
            fit(tmp_path / "run")
    last = tmp_path / "run" / "last.pt"
    content = bytearray(last.read_bytes())
    weight = next(t for t in tensors(load_checkpoint(last)["average"]) if t.numel() > 20)
    content[content.index(weight.numpy().tobytes()) + 8] ^= 1
    last.write_bytes(content if harm == "a flipped bit" else content[: len(content) // 2])
    if harm == "missing":
        last.unlink()
    message = "no checkpoint" if harm == "missing" else "damaged"
    with pytest.warns(UserWarning, match=f"last.pt.*{message}.*|{message}.*last.pt.*going on from previous.pt, step 4"):
        fit(tmp_path / "run", resume=True)
    assert_same_end(straight, tmp_path / "run")


def test_when_both_are_damaged_the_run_is_refused(finished):
    for name in ("last.pt", "previous.pt"):
        path = finished / name
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"last.pt is damaged.*previous.pt is damaged"):
        fit(finished, resume=True)


def test_at_every_moment_of_saving_there_is_a_whole_checkpoint(tmp_path, monkeypatch):
    checkpoints, found = Checkpoints(tmp_path), []
    checkpoints.save({"step": 0})
    checkpoints.save({"step": 1})
    replace = Path.replace

    def watched(self, target):
        replace(self, target)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append(Checkpoints(tmp_path).load()["step"])

    monkeypatch.setattr(Path, "replace", watched)
    checkpoints.save({"step": 2})
    assert found == [1, 2]
    # After a fall-back the damaged last one must not take the place of the whole one before.
    (tmp_path / "last.pt").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="going on from previous.pt"):
        assert checkpoints.load()["step"] == 1
    checkpoints.save({"step": 3})
    assert found == [1, 2, 3]
    assert load_checkpoint(tmp_path / "previous.pt")["step"] == 1


def test_a_checkpoint_that_holds_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("executed",)

    write_checkpoint(tmp_path / "last.pt", {"step": 1, "code": Evil()})
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        fit(tmp_path, resume=True)


def test_a_checkpoint_that_unpacks_to_far_more_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    write_checkpoint(path, {"step": 1, "zeros": torch.zeros(2**16)})
    with zipfile.ZipFile(path) as stored:
        members = [(info.filename, stored.read(info)) for info in stored.filelist]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    content = packed.getvalue()[:-2] + (64).to_bytes(2, "little")
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())
    with pytest.raises(ValueError, match="it is packed, which no checkpoint is"):
        load_checkpoint(path)


def test_a_checkpoint_of_another_format_is_refused(tmp_path):
    write_checkpoint(tmp_path / "last.pt", {"step": 1, "format": 99})
    with pytest.raises(ValueError, match="format 99, this version reads 2"):
        load_checkpoint(tmp_path / "last.pt")


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    write_checkpoint(tmp_path / "last.pt", {"weights": 1})
    with pytest.raises(ValueError, match="is not a checkpoint of this project"):
        load_checkpoint(tmp_path / "last.pt")
