"""A folder belongs to one run at a time."""

import errno
import os
import signal

import pytest

from tests.training.small_runs import command, processes_context, short_command, wait_for
from unrolled.cli import main
from unrolled.training.runs.lock import locked


def test_a_second_run_in_the_folder_is_refused_until_the_first_is_gone(tmp_path, capsys):
    folder = tmp_path / "run"
    argv = [*short_command(tmp_path), f"--folder={folder}", "--training.steps=100000"]
    process = processes_context().Process(target=command, args=(argv,))
    process.start()
    wait_for(lambda: (folder / "last.pt").exists(), process)
    before = (folder / "config.yaml").read_bytes()
    assert main([*argv, "--resume"]) == 1
    assert f"in use by another run (process {process.pid} on " in capsys.readouterr().err
    assert (folder / "config.yaml").read_bytes() == before
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (folder / "run.lock").exists()
    with locked(folder):
        pass
    assert not (folder / "run.lock").exists()


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch):
    def refuse(file):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("unrolled.training.runs.lock._lock", refuse)
    with pytest.warns(UserWarning, match="without locks"), locked(tmp_path):
        assert (tmp_path / "run.lock").read_text().startswith(f"process {os.getpid()} on ")
