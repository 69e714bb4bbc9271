"""torchvision beside any build of torch."""

import importlib

import pytest

from unrolled.system import import_torchvision


def test_torchvision_works_beside_this_torch():
    models = import_torchvision("torchvision.models")
    datasets = import_torchvision("torchvision.datasets")
    transforms = import_torchvision("torchvision.transforms.v2")
    image, label = datasets.FakeData(2, (3, 32, 32), 10, transforms.PILToTensor())[0]
    assert image.shape == (3, 32, 32)
    assert 0 <= label < 10
    assert models.resnet18().eval()(image[None].float()).shape == (1, 1000)


def test_other_errors_of_an_import_are_not_hidden(monkeypatch):
    def fail(module):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        import_torchvision()
