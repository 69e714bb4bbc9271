"""Good weights, to be altered."""

import pytest
from safetensors.torch import load_file

import unrolled
from tests.weights.cases import PAIRS
from unrolled import weights


@pytest.fixture(scope="package")
def whole(tmp_path_factory):
    """Their tensors and card."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    unrolled.save(path, *PAIRS["drawn matrix"]())
    return load_file(path), weights.read_card(path)
