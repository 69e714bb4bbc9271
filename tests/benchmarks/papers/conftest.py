"""What all tests of the papers share."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from tests.pairs import FULL


@pytest.fixture(scope="module", autouse=True)
def unpainted():
    """Pictures that are made but not painted, which takes most of their time; with UNROLLED_TEST_FULL they are."""

    def savefig(figure, path, **_):
        assert all(axes.has_data() for axes in figure.axes)
        Path(path).touch()

    with pytest.MonkeyPatch.context() as patch:
        if not FULL:
            patch.setattr(Figure, "savefig", savefig)
        yield
