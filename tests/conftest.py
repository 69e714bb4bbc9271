"""Fixtures that tests of several folders share."""

import pytest
import torch


@pytest.fixture
def fresh_compiler():
    """A compiler without graphs of other tests: it makes only so many of one function before it gives up."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()
