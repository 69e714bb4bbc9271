"""What is noted of the machine and the code that a run ran on."""

import json
import platform
import subprocess
from pathlib import Path

import torch

from unrolled.training.runs import surroundings as module
from unrolled.training.runs.surroundings import environment, revision


def test_versions_and_machine_are_noted_as_text():
    found = environment()
    assert found["python"] == platform.python_version()
    assert torch.__version__.startswith(found["torch"])  # which may say more of the build
    assert (found["threads"], found["processes"]) == (str(torch.get_num_threads()), "1")
    assert found["device"]
    assert json.loads(json.dumps(found)) == found


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(module, "PACKAGES", ("torch", "no-such-package"))
    assert environment()["no-such-package"] is None


def test_the_revision_is_that_of_a_checkout_with_a_mark_of_changes(tmp_path, monkeypatch):
    file = tmp_path / "unrolled" / "training" / "runs" / "environment.py"
    file.parent.mkdir(parents=True)
    file.write_text("")
    monkeypatch.setattr(module, "__file__", str(file))
    assert revision() is None  # of an installation

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)

    git("init", "-q")
    assert revision() is None  # nothing is committed yet
    git("add", ".")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "--short=12", "HEAD").stdout.strip()
    assert revision() == commit
    file.write_text("# changed")
    assert revision() == f"{commit}+"


def test_where_the_system_does_not_tell_its_processor_python_does(monkeypatch):
    class Unreadable(type(Path())):  # for the module alone: importlib reads by paths too
        def read_text(self, *_, **__):
            raise PermissionError

    monkeypatch.setattr(module, "Path", Unreadable)
    monkeypatch.setattr(module.platform, "processor", lambda: "")
    monkeypatch.setattr(module.platform, "machine", lambda: "a machine")
    assert environment()["device"].startswith("a machine")
