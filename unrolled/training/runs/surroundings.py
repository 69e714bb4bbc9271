"""On what a run ran: versions, machine, git revision."""

import functools
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from unrolled.training import distributed

PACKAGES = ("torch", "numpy", "scikit-image", "safetensors", "jsonargparse", "unrolled")


def environment() -> dict[str, str | None]:
    """Versions of Python and packages, processor or GPU, threads, and the git revision of the code."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(),
        "threads": str(torch.get_num_threads()),
        "processes": str(distributed.size()),
        "revision": _first_revision(),
    }


@functools.cache
def _first_revision() -> str | None:
    """The revision when it was first asked for: a process that runs several times goes on with the code it has read."""
    return revision()


@functools.cache
def _version(package: str) -> str | None:
    """The version of a package; None of one that is used without being installed, as this one may be in a checkout."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def revision() -> str | None:
    """The git revision of a checkout, with "+" if it has uncommitted changes; None for an installation."""
    here = Path(__file__).resolve().parents[3]
    if not (here / ".git").exists():
        return None
    try:
        commit = _git(here, "rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
