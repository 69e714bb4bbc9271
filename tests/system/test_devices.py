"""Devices are found by name, or refused; what goes between them arrives, in the precision that they have."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from unrolled.operators.stationary import linear_estimator
from unrolled.system.devices import Sent, in_double, send, torch_device

pytestmark = pytest.mark.device


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


def test_numbers_arrive_and_come_back(device):
    x = torch.randn(3, 4)
    there = send(x, device)
    assert there.device.type == device.type
    assert Sent((2 * there).sum(1)).read() == pytest.approx((2 * x).sum(1).tolist())
    assert torch.equal(in_double(there).cpu(), x.double())
    assert in_double(there.to(torch.complex64)).dtype == torch.complex128


def test_mps_has_no_double_precision():
    with FakeTensorMode(), torch.no_grad():  # no such device is needed for tensors without numbers
        x, spread = torch.empty(5, 9, device="mps"), torch.empty(65, 65, device="mps")
        assert (in_double(x).dtype, in_double(x).device.type) == (torch.float64, "cpu")
        found = linear_estimator(x, spread, 3)
    assert (found.dtype, found.device.type) == (torch.float32, "mps")
