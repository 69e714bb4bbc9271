"""Fixtures that tests of several folders share. The process that only hands tests out need not load torch."""

import contextlib
import gc
import multiprocessing.util
import os
import shutil
import tempfile

import pytest

from tests.pairs import ALTERNATE, FULL, other_color


def pytest_generate_tests(metafunc):
    """What takes a `device` is run on each that there is."""
    if "device" in metafunc.fixturenames:
        import torch

        found = [torch.accelerator.current_accelerator().type] if torch.accelerator.is_available() else []
        metafunc.parametrize("device", ["cpu", *found], indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """What takes a `device` is marked so; small studies, trained for many seconds, are left to `make test-full`."""
    for item in items:
        if "device" in getattr(item, "fixturenames", ()):
            item.add_marker("device")
    if not FULL:
        left = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not item.get_closest_marker("full")]
    if ALTERNATE:
        left = {*other_color([_row(item.nodeid) for item in items])}
        config.hook.pytest_deselected(items=[items[number] for number in sorted(left)])
        items[:] = [item for number, item in enumerate(items) if number not in left]


def _row(test: str) -> tuple[str, str]:
    """The folder and the name of a test without its case; of laws that classes of tests inherit one name for all."""
    place, _, name = test.partition("[")[0].rpartition("::")
    return test.split("/")[1], name if place.count("::") else f"{place}::{name}"


def pytest_collection_finish():
    """What is loaded by now stays, and little of the rest is garbage: its collector need not look again and again."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory):
    """A folder for what tests, and processes that are killed in them, leave behind; it is removed in the end.

    Launchers, compilers and servers of processes put files into the system's temporary folder, and some never remove
    them. The path is short, for names of sockets are.
    """
    tmp_path_factory.getbasetemp()  # pytest keeps its own folder where it always is
    multiprocessing.util.get_temp_dir()  # one for all processes, removed by Python when this one ends
    before = {name: os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")}, tempfile.tempdir
    folder = tempfile.mkdtemp(prefix="tests-")
    os.environ.update(dict.fromkeys(before[0], folder))
    tempfile.tempdir = folder
    yield
    tempfile.tempdir = before[1]
    for name, value in before[0].items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def undrawn_curves():
    """An empty file takes the place of a run's curve, whose drawing takes longer than many steps of training."""
    with pytest.MonkeyPatch.context() as patch:
        drawing = "unrolled.figures.training_curves.training_curve"
        patch.setattr(drawing, lambda folder, score: (folder / "curve.png").touch())
        yield


@pytest.fixture(scope="session", autouse=True)
def unsynchronised_files():
    """Files need not survive a power failure: every run of training would wait for the disk a dozen times."""
    with pytest.MonkeyPatch.context() as patch:
        if not FULL:
            patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_seeds():
    """Where there is no device to be seeded, `torch.manual_seed` keeps a trace of its caller for each that may come."""
    import torch

    from unrolled.system.devices import seed_generators

    with pytest.MonkeyPatch.context() as patch:
        if not torch.accelerator.is_available():
            patch.setattr(torch, "manual_seed", seed_generators)
        yield


@pytest.fixture
def device(request):
    """A device, in single precision as it is on the CPU."""
    import torch

    with torch.backends.cudnn.flags(allow_tf32=False) if request.param == "cuda" else contextlib.nullcontext():
        yield torch.device(request.param)


@pytest.fixture
def no_collector():
    """What is dropped ends at once, or stays."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def fresh_compiler():
    """A compiler without graphs of other tests: it makes only so many of one function before it gives up."""
    import torch

    torch.compiler.reset()
    yield
    torch.compiler.reset()
