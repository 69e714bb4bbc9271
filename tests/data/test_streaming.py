"""Training from files that do not fit into memory is training from memory, step by step, and after a resume too."""

import pytest
import torch

from tests.helpers import write_picture
from unrolled import TrainingOptions, fit
from unrolled.data import ImageData, ImageStore, open_images, prepare_images
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing
from unrolled.training import Loop


def train(folder, data, resume=False, **more):
    torch.manual_seed(0)
    network, operator = EPGN(1, 2), BlockCompressedSensing(ratio=0.25, block=11)
    options = TrainingOptions(steps=6, batch=2, validations=3, warmup=1)
    figures = fit(network, operator, data, options, folder=folder, progress=False, resume=resume, **more)
    return figures, network.state_dict()


def assert_same(one, other):
    assert one[0] == other[0]
    assert all(torch.equal(one[1][name], other[1][name]) for name in one[1])


@pytest.fixture
def photos(tmp_path):
    for seed in range(5):
        write_picture(tmp_path / "photos" / f"{seed}.png", 60, 60, seed)
    return tmp_path / "photos"


def data(source, **more):
    return ImageData([str(source)], crop=33, hold_out=2, **more)


def test_streamed_or_prepared_the_same_weights_come_out(photos, tmp_path):
    in_memory = train(tmp_path / "a", data(photos))
    assert_same(in_memory, train(tmp_path / "b", data(photos, cache_mib=0)))
    prepare_images([photos], tmp_path / "set.h5", progress=False)
    assert_same(in_memory, train(tmp_path / "c", data(tmp_path / "set.h5", cache_mib=0)))


def test_an_interrupted_run_draws_on(photos, tmp_path, monkeypatch):
    whole = train(tmp_path / "a", data(photos, cache_mib=0))
    validate = Loop.validate

    def interrupt(*arguments):
        validate(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "validate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", data(photos, cache_mib=0))
    monkeypatch.undo()
    assert_same(whole, train(tmp_path / "b", data(photos, cache_mib=0), resume=True))


def test_a_store_can_be_trained_on(photos, tmp_path):
    store = ImageStore(open_images(photos), cache_mib=0)
    figures, _ = train(tmp_path / "a", store, crop=33, validation=[store[0]])
    assert figures["psnr"] > 0
