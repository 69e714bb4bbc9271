"""A disk that becomes full at any byte costs no file that was there, leaves no part of one, and is told in a line."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

import unrolled
from tests.helpers import write_picture
from tests.pairs import FULL
from tests.training.small_runs import assert_same_end, at_step, file_size_limit, fit, pieces
from unrolled.cli import main
from unrolled.penalties import L1
from unrolled.sparsify import ProximalStep
from unrolled.training import TrainingError
from unrolled.training.runs.checkpoint import Checkpoints

PLACES = 10 if FULL else 1
"""At how many bytes the disk becomes full, for each of two kinds of run and of three kinds of output."""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.full
@pytest.mark.parametrize("place", range(PLACES))
@pytest.mark.parametrize("sparse", [False, True])
def test_a_run_keeps_its_checkpoint_and_goes_on(sparse, place, straight, tmp_path, monkeypatch):
    how = {"sparsifier": lambda network: ProximalStep(network, L1(), target=0.5)} if sparse else {}
    if sparse:
        fit(tmp_path / "straight", **how)
        straight = tmp_path / "straight"
    largest = (straight / "last.pt").stat().st_size
    with ExitStack() as full, monkeypatch.context() as patch:
        at_step(patch, 5, lambda: full.enter_context(file_size_limit(int(largest * (place + 0.5) / PLACES))))
        with pytest.raises(TrainingError, match=r"stopped at step 8, for results could not be written: .*too large"):
            fit(tmp_path / "run", **how)
    assert not list((tmp_path / "run").glob(".*"))
    assert Checkpoints(tmp_path / "run").load()["step"] == 4
    assert all(json.loads(line)["step"] <= 8 for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    fit(tmp_path / "run", resume=True, **how)
    assert_same_end(straight, tmp_path / "run")


def command(output: str, folder: Path) -> list[str]:
    """The command that writes a file."""
    photos, weights = str(folder / "photos"), f"--weights={folder / 'w.safetensors'}"
    if output == "set.h5":
        return ["data", "prepare", photos, "--out", str(folder / output), "--force"]
    if output == "w.safetensors":
        return ["evaluate", weights, "--data", photos, "--record", "mine"]
    return ["reconstruct", f"{photos}/0.png", weights, "--out", str(folder / "a.png")]


@pytest.mark.parametrize("place", range(PLACES))
@pytest.mark.parametrize(
    "output", ["set.h5", *(pytest.param(name, marks=pytest.mark.full) for name in ("a.png", "w.safetensors"))]
)
def test_an_output_stays_as_it_was(output, place, tmp_path, capsys):
    for seed in range(2):
        write_picture(tmp_path / "photos" / f"{seed}.png", 99, 99, seed)
    unrolled.save(tmp_path / "w.safetensors", *pieces())
    assert main(command(output, tmp_path)) == 0
    whole = contents(tmp_path)
    with file_size_limit(int(len(whole[output]) * (place + 0.5) / PLACES)):
        assert main(command(output, tmp_path)) == 1
    said = capsys.readouterr().err
    assert f"error: cannot write {tmp_path / output}: " in said
    assert "Traceback" not in said
    assert contents(tmp_path) == whole
