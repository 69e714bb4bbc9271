"""A run that tests share."""

import shutil

import pytest

from tests.training.small_runs import fit


@pytest.fixture(scope="session")
def straight(tmp_path_factory):
    """The folder of a run from beginning to end. It is for reading only."""
    folder = tmp_path_factory.mktemp("shared") / "straight"
    fit(folder)
    return folder


@pytest.fixture
def finished(straight, tmp_path):
    """A copy of it, to do with what one likes."""
    return shutil.copytree(straight, tmp_path / "run")
