"""Devices are found by name, or refused."""

import pytest
import torch

from unrolled.system.devices import torch_device


def test_a_device_is_found_by_its_name(monkeypatch):
    assert torch_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert torch_device("auto") == torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_auto_is_the_gpu():
    assert torch_device("auto").type == "cuda"


@pytest.mark.parametrize("name", ["toaster", "cuda:99", "", "cpu:x"])
def test_a_device_that_is_not_here_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"device: '{name}' is not usable here"):
        torch_device(name)
