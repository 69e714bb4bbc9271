"""Training from shards: the same from a folder and from a server, by any number of processes, also after a kill."""

import os
import signal

import pytest
import torch

from tests.helpers import write_picture
from tests.http_server import serving
from tests.training.small_runs import command, fit, metrics, options, short_command, start_together, tensors, wait_for
from unrolled.data import ImageData, prepare_images
from unrolled.training.runs.checkpoint import load_checkpoint


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """The index of three shards of small images, and a cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(12):
        write_picture(tmp_path / "photos" / f"{number:02}.png", 24, 26, seed=number)
    prepare_images([tmp_path / "photos"], tmp_path / "shards" / "set.tar", shards=3, progress=False)
    return tmp_path / "shards" / "set.json"


@pytest.fixture
def address(shards):
    with serving({path.name: path.read_bytes() for path in shards.parent.iterdir()}) as server:
        yield server.url(shards.name)


def assert_same_weights(one, other):
    first, second = (tensors(load_checkpoint(folder / "last.pt")) for folder in (one, other))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_server_gives_the_run_that_a_folder_gives(shards, address, tmp_path):
    for name, source in (("near", shards), ("far", address)):
        data = ImageData([str(source)], crop=22, hold_out=1)
        fit(tmp_path / name, data, training=options(steps=3, validations=1))
    assert_same_weights(tmp_path / "near", tmp_path / "far")


@pytest.mark.full
def test_two_processes_one_of_them_killed_end_as_two_that_read_a_folder(shards, address, tmp_path):
    def argv(folder, source):
        own = [each for each in short_command(tmp_path) if not each.startswith(("--data.train", "--training.batch"))]
        return [*own, "--training.batch=2", f"--data.train=[{source}]", f"--folder={tmp_path / folder}", "--resume"]

    def run(folder, source):
        started = start_together(command, argv(folder, source))
        for process in started:
            process.join(120)
        assert [process.exitcode for process in started] == [0, 0]

    run("near", shards)
    killed = start_together(command, argv("far", address))
    wait_for(lambda: (tmp_path / "far" / "metrics.jsonl").exists() and len(metrics(tmp_path / "far")) > 10, killed[0])
    os.kill(killed[1].pid, signal.SIGKILL)
    for process in killed:
        process.join(60)
    assert killed[0].exitcode == 1
    assert load_checkpoint(tmp_path / "far" / "last.pt")["step"] < 160
    run("far", address)
    assert_same_weights(tmp_path / "near", tmp_path / "far")
