"""Files are written whole or not at all."""

import json
import math
import os
import signal
import stat
import subprocess
import sys

import pytest

from tests.helpers import put
from tests.training.small_runs import file_size_limit
from unrolled.system import files
from unrolled.system.files import TEMPORARY, append_line, check_writable, remove_temporary, replacing, write_json


def test_a_file_takes_the_place_of_another_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new folder" / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("first")
        assert not path.exists()
        assert temporary.parent == path.parent  # on the same file system, or else the renaming would be a copy
        assert temporary.suffix == path.suffix
    assert path.read_text() == "first"

    class Stop(Exception):
        pass

    def stop_half_way():
        with replacing(path) as temporary:
            temporary.write_text("sec")
            raise Stop

    with pytest.raises(Stop):
        stop_half_way()
    assert path.read_text() == "first"
    assert os.listdir(path.parent) == ["a.txt"]


def test_the_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    with replacing(tmp_path / "replaced") as temporary:
        temporary.write_text("")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "replaced")}
    assert len(modes) == 1


def enter(path):
    with replacing(path):
        pass


@pytest.mark.parametrize("write", [enter, check_writable])
def test_what_cannot_be_written_is_refused_with_the_reason(tmp_path, write):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "a.txt", tmp_path, tmp_path / ("x" * 300) / "a.txt"):
        with pytest.raises(ValueError, match=f"cannot write {path}"):
            write(path)
    assert os.listdir(tmp_path) == ["file"]


def test_a_check_leaves_no_file(tmp_path):
    check_writable(tmp_path / "folder" / "a.txt")
    assert os.listdir(tmp_path / "folder") == []


def test_a_full_disk_is_an_error_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fill():
        with replacing(path):
            raise OSError(28, "No space left on device")

    with pytest.raises(ValueError, match=r"cannot write .*a\.txt.*No space left"):
        fill()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_killed_processes_left_is_removed(tmp_path):
    for name in (f"{TEMPORARY}last-1.pt", f"{TEMPORARY}last-2.pt", "last.pt"):
        (tmp_path / name).write_text("")
    remove_temporary(tmp_path)
    assert os.listdir(tmp_path) == ["last.pt"]


def test_what_is_not_finite_becomes_null(tmp_path):
    facts = {"psnr": math.inf, "rows": [{"loss": math.nan}, (1.5, -math.inf)], "name": "a", "count": 3, "none": None}
    write_json(tmp_path / "facts.json", facts)

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    found = json.loads((tmp_path / "facts.json").read_text(), parse_constant=refuse)
    assert found == {"psnr": None, "rows": [{"loss": None}, [1.5, None]], "name": "a", "count": 3, "none": None}


@pytest.mark.parametrize("nameless", [True, False])
def test_a_kill_while_a_folder_is_checked_leaves_nothing(nameless, tmp_path):
    program = (
        "import errno, importlib.util, os, signal\n"
        f"made = importlib.util.spec_from_file_location('files', {files.__file__!r})\n"  # without PyTorch
        "files = importlib.util.module_from_spec(made)\n"
        "made.loader.exec_module(files)\n"
        "real = os.open\n"
        "def killed(path, flags, *mode):\n"
        f"    if flags & os.O_TMPFILE == os.O_TMPFILE and not {nameless}:\n"
        "        raise OSError(errno.EOPNOTSUPP, 'Operation not supported')\n"
        "    real(path, flags, *mode)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "def killed_too(path, mode):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.open, os.access = killed, killed_too\n"
        f"files.check_writable({str(tmp_path / 'run' / 'x.json')!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert [*(tmp_path / "run").iterdir()] == []


def test_what_a_kill_left_beside_a_target_goes_when_it_is_written_again(tmp_path):
    with replacing(tmp_path / "a[1].txt") as being_written:
        for name in ("a[1]-x.txt", "a1-x.txt", "b-x.txt"):
            (tmp_path / f"{TEMPORARY}{name}").write_text("left by a kill")
        write_json(tmp_path / "a[1].txt", 1)
        assert being_written.exists()
        assert not (tmp_path / f"{TEMPORARY}a[1]-x.txt").exists()
        being_written.write_text("2")
    assert (tmp_path / "a[1].txt").read_text() == "2"
    assert set(os.listdir(tmp_path)) == {"a[1].txt", f"{TEMPORARY}a1-x.txt", f"{TEMPORARY}b-x.txt"}


@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "folder"])
@pytest.mark.parametrize("write", [enter, check_writable, lambda path: append_line(path, "x")])
def test_what_is_not_a_file_is_neither_written_nor_replaced(write, kind, tmp_path):
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text("mine")
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "a.txt"
    put(kind, path, elsewhere)
    with pytest.raises(ValueError, match=rf"cannot write {path}: it is a {kind.split()[0]}, not a file"):
        write(path)
    assert elsewhere.read_text() == "mine"
    assert os.listdir(tmp_path / "folder") == ["a.txt"]
    assert not (tmp_path / "missing").exists()


def test_devices_and_files_that_are_read_only_stay(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="cannot write /dev/null: it is a device or socket, not a file"):
        write_json("/dev/null", {})
    path = tmp_path / "a.json"
    path.write_text("mine")
    path.chmod(0o444)
    access = os.access  # the administrator may write everything
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and os.stat(path).st_mode & 0o200 != 0)
    with pytest.raises(ValueError, match=rf"cannot write {path}: it is read-only"):
        write_json(path, {})
    assert path.read_text() == "mine"


def test_an_input_is_no_output(tmp_path):
    path, other = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("mine")
    check_writable(path, None, other, tmp_path, "a-name")
    other.hardlink_to(path)
    with pytest.raises(ValueError, match=rf"cannot write {path}: it is an input"):
        check_writable(path, other)


def test_a_line_is_appended_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.jsonl"
    append_line(path, "first")
    with file_size_limit(10), pytest.raises(ValueError, match=r"cannot write .*a\.jsonl: .*File too large"):
        append_line(path, "second")
    assert path.read_text() == "first\n"
    append_line(path, "second")
    assert path.read_text() == "first\nsecond\n"
