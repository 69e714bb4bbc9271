import numpy as np
import pytest
import skimage.metrics
import torch
from PIL import Image

import unrolled
from tests.helpers import picture, write_picture
from unrolled.data import read_image
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing
from unrolled.reconstruction.pipeline import from_measurements, iterates


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return EPGN(2, 4).eval(), BlockCompressedSensing(ratio=0.5, block=11)


@pytest.mark.parametrize("size", [(33, 33), (7, 7), (40, 51), (12, 100)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_comes_back_in_its_size(model, size, channels):
    image = picture(*size).expand(channels, -1, -1)
    result = unrolled.reconstruct(image, *model)
    assert result.shape == image.shape
    assert 0 <= result.min() <= result.max() <= 1
    mirrored = (result - image.flip(-1)).abs().mean()
    assert (result - image).abs().mean() < 0.6 * mirrored  # blocks and pixels are at their places


def test_color_channels_are_reconstructed_each_for_itself(model):
    channels = [picture(22, 33, seed) for seed in range(3)]
    together = unrolled.reconstruct(torch.cat(channels), *model)
    for channel, alone in zip(together, channels, strict=True):
        torch.testing.assert_close(channel, unrolled.reconstruct(alone, *model)[0])


def test_evaluation_follows_the_protocol_step_by_step(model, tmp_path):
    network, operator = model
    for seed in range(2):
        write_picture(tmp_path / f"{seed}.png", 40, 50, seed)
    result = unrolled.evaluate(network, tmp_path, operator)
    for seed, row in enumerate(result["images"]):
        pixels = np.asarray(Image.open(tmp_path / f"{seed}.png")).astype(np.float32) / 255
        padded = np.zeros((44, 55), np.float32)
        padded[:40, :50] = pixels
        with torch.no_grad():
            x = network(operator(torch.from_numpy(padded)[None, None]), operator)
        x = x[0, 0, :40, :50].clamp(0, 1).numpy()
        assert row["name"] == f"{seed}.png"
        assert row["psnr"] == pytest.approx(skimage.metrics.peak_signal_noise_ratio(pixels, x, data_range=1), abs=1e-3)
        expected = skimage.metrics.structural_similarity(pixels, x, data_range=1)
        assert row["ssim"] == pytest.approx(expected, abs=1e-5)
        assert row["seconds"] > 0
    for key in ("psnr", "ssim", "start_psnr"):
        assert result[key] == pytest.approx(np.mean([row[key] for row in result["images"]]))


def test_measurements_taken_elsewhere_give_the_same_image(model):
    network, operator = model
    image = picture(33, 44)
    y = operator(image.unsqueeze(0))
    torch.testing.assert_close(from_measurements(y, network, operator), unrolled.reconstruct(image, network, operator))
    assert from_measurements(y, network, operator, (30, 40)).shape == (1, 30, 40)


def test_iterates_begin_at_the_start_and_end_at_the_reconstruction(model):
    image = picture(30, 40)
    images = iterates(image, *model)
    assert len(images) == 3
    torch.testing.assert_close(images[-1], unrolled.reconstruct(image, *model))


def test_a_network_that_was_used_can_be_trained():
    network, operator = EPGN(1, 4), BlockCompressedSensing(ratio=0.5, block=11, learned=True)
    x = picture(22, 22)
    unrolled.reconstruct(x, network, operator)
    network.loss(x.unsqueeze(0), operator(x.unsqueeze(0)), operator).backward()


def test_bad_images_and_measurements_are_refused(model, tmp_path):
    network, operator = model
    write_picture(tmp_path / "one.png", 1, 1)
    for bad in (tmp_path / "one.png", torch.zeros(1, 1, 1), torch.zeros(1, 30, 6)):
        with pytest.raises(ValueError, match="at least 7 pixels"):
            unrolled.reconstruct(bad, network, operator)
    with pytest.raises(ValueError, match="NaN"):
        unrolled.reconstruct(torch.full((1, 30, 30), torch.nan), network, operator)
    with pytest.raises(ValueError, match=r"one\.png.*at least 7"):
        unrolled.evaluate(network, tmp_path, operator)
    with pytest.raises(ValueError, match="operator: is needed"):
        unrolled.reconstruct(picture(30, 30), network)
    y = operator(picture(33, 44).unsqueeze(0))
    for y_bad, size, message in [
        (y[:, :, 1:], None, "measurements must be"),
        (y * torch.nan, None, "finite"),
        (y.repeat(2, 1, 1, 1, 1), None, "of one image"),
        (y, (40, 40), "size: must be within"),
        (y.long(), None, "floating point"),
        (y.double() * 1e300, None, "brightest pixel is about .*e\\+299, where white is 1; give scale"),
    ]:
        with pytest.raises(ValueError, match=message):
            from_measurements(y_bad, network, operator, size)


def test_the_luma_of_a_color_photo_is_what_is_reconstructed(model, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (22, 33, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    expected = unrolled.reconstruct(read_image(tmp_path / "a.png"), *model)
    assert torch.equal(unrolled.reconstruct(tmp_path / "a.png", *model), expected)
    assert unrolled.reconstruct(tmp_path / "a.png", *model, color=True).shape == (3, 22, 33)


def test_values_of_another_scale_are_refused_not_clipped(model):
    network, operator = model
    for image, values in ((3 * torch.ones(1, 22, 22), "3 to 3"), (-torch.ones(1, 22, 22), "-1 to -1")):
        for name, use in {
            "image": lambda x: unrolled.reconstruct(x, network, operator),
            "ct": lambda x: unrolled.evaluate(network, {"ct": x}, operator),
        }.items():
            with pytest.raises(ValueError, match=rf"{name}: values must be in \[0, 1\], got {values}; give scale"):
                use(image)
