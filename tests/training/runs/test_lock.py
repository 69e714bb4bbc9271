"""A folder belongs to one run at a time."""

import errno
import os
import shutil
import signal
import threading
from contextlib import ExitStack

import pytest

from tests.pairs import FULL
from tests.training.small_runs import at_step, command, fit, processes_context, short_command, wait_for
from unrolled.cli import main
from unrolled.system.files import append_line, write_json
from unrolled.training import TrainingError
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


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP])
def test_a_file_system_without_locks_is_said_and_used(code, tmp_path, monkeypatch):
    def refuse(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("unrolled.training.runs.lock.lock", refuse)
    with ExitStack() as held:
        with pytest.warns(UserWarning, match="without locks"):
            held.enter_context(locked(tmp_path))
        assert (tmp_path / "run.lock").read_text().startswith(f"process {os.getpid()} on ")
        # Another run that takes the folder all the same stops this one before it writes.
        (tmp_path / "run.lock").write_text("process 1 on elsewhere")
        with pytest.raises(ValueError, match="no longer held by this run"):
            write_json(tmp_path / "facts.json", {})
    assert (tmp_path / "run.lock").read_text() == "process 1 on elsewhere"


def test_what_is_not_a_lock_is_left_as_it_is(tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    path = tmp_path / "run" / "run.lock"
    path.parent.mkdir()
    for make, said in (
        (lambda: path.symlink_to(precious), "it is a link, not a file"),
        (lambda: path.symlink_to(tmp_path / "missing"), "it is a link, not a file"),
        (lambda: os.link(precious, path), "is not the lock of a run; remove it"),
        (lambda: os.mkfifo(path), "it is a pipe, not a file"),
        (path.mkdir, "it is a folder, not a file"),
    ):
        make()
        with pytest.raises(ValueError, match=said), locked(path.parent):
            pass
        assert os.listdir(path.parent) == ["run.lock"]
        path.rmdir() if path.is_dir() else path.unlink()
    assert precious.read_text() == "mine"
    assert not (tmp_path / "missing").exists()


def test_a_folder_that_another_run_made_anew_is_left_to_it(tmp_path):
    folder = tmp_path / "run"
    with locked(folder):
        shutil.rmtree(folder)
        for write in (write_json, append_line):
            with pytest.raises(ValueError, match=r"run is no longer held by this run, for run\.lock was removed or is"):
                write(folder / "x", "")
        assert not folder.exists()
        entered, leave = threading.Event(), threading.Event()

        def hold():
            with locked(folder):
                entered.set()
                leave.wait(60)

        second = threading.Thread(target=hold)
        second.start()
        entered.wait(60)
        theirs = (folder / "run.lock").read_bytes()
        try:
            with pytest.raises(ValueError, match="no longer held"):
                write_json(folder / "x", {})
        finally:
            leave.set()
            second.join()
        (folder / "run.lock").write_bytes(theirs)
    assert os.listdir(folder) == ["run.lock"]
    assert (folder / "run.lock").read_bytes() == theirs


def test_a_run_whose_folder_is_deleted_stops_and_makes_none(tmp_path, monkeypatch):
    at_step(monkeypatch, 2, lambda: shutil.rmtree(tmp_path / "run"))
    with pytest.raises(TrainingError, match=r"stopped at step 4: folder: .* no longer held by this run"):
        fit(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_many_folders_leave_no_handle_open(tmp_path):
    with locked(tmp_path):
        before = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []
        for number in range(1000 if FULL else 100):
            with locked(tmp_path / str(number)):
                pass
        assert not before or os.listdir("/proc/self/fd") == before
    assert len(os.listdir(tmp_path)) == (1000 if FULL else 100)
