import h5py
import numpy as np
import pytest
import skimage.metrics
import torch
from PIL import Image

import unrolled
from tests.helpers import picture, write_picture
from unrolled.data import read_image
from unrolled.metrics import shown_psnr
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing, DrawnOperator, Inpainting, MaskedFourier, RadialMask
from unrolled.reconstruction.evaluation import table
from unrolled.reconstruction.pipeline import iterates
from unrolled.solvers.methods import classical


def from_y(y, network, operator, size=None, **how):
    """The first image of those that measurements are of."""
    return unrolled.reconstruct(None, network, operator, y=y, size=size, **how)[0]


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
    torch.testing.assert_close(from_y(y, network, operator), unrolled.reconstruct(image, network, operator))
    assert from_y(y, network, operator, (30, 40)).shape == (1, 30, 40)


def test_batches_are_reconstructed_each_image_for_itself(model):
    network, operator = model
    images = torch.stack([picture(22, 33, 0), picture(22, 33, 1) / 2])
    single = torch.stack([unrolled.reconstruct(image, *model) for image in images])
    torch.testing.assert_close(unrolled.reconstruct(images, *model), single)
    y = operator(images)
    torch.testing.assert_close(unrolled.reconstruct(network=network, operator=operator, y=y), single)
    own = torch.stack([unrolled.reconstruct(image, *model, scale="max") for image in images])
    torch.testing.assert_close(unrolled.reconstruct(images, *model, scale="max"), own)
    units = unrolled.reconstruct(None, *model, y=torch.stack([y[0], 300 * y[1]]), scale="max")
    for found, factor, alone in zip(units, (1, 300), y, strict=True):
        expected = factor * unrolled.reconstruct(None, *model, y=alone[None], scale="max")[0]
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * factor)
    for bad, said in [
        ({"image": images, "y": y}, "an image, or its measurements y, one of them"),
        ({}, "an image, or its measurements y"),
        ({"image": images, "size": (9, 9)}, "size: is for measurements"),
        ({"image": images[:0]}, "none of them 0"),
        ({"image": torch.stack([images[0], 9 * images[1]])}, "image: values must be in"),
    ]:
        with pytest.raises(ValueError, match=said):
            unrolled.reconstruct(network=network, operator=operator, **bad)


def test_an_operator_alone_reconstructs_by_total_variation():
    operator = Inpainting(keep=0.5, height=24, width=20)
    image = picture(24, 20)
    y = operator(image[None])
    found = unrolled.reconstruct(y=y, operator=operator)
    torch.testing.assert_close(found, classical("tv", y, operator).clamp(0, 1))
    assert unrolled.reconstruct(image, operator=operator).shape == image.shape
    assert float((found[0] - image).square().mean()) < 0.1 * float((y[0] - image).square().mean())
    with pytest.raises(ValueError, match="tile: only networks"):
        unrolled.reconstruct(y=y, operator=operator, tile=8)


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
        (y[:0], None, "floating point, got torch.float32"),
        (y, (40, 40), "size: must be within"),
        (y.long(), None, "floating point"),
        (y.double() * 1e300, None, "brightest pixel is about .*e\\+299, where white is 1; give scale"),
    ]:
        with pytest.raises(ValueError, match=message):
            from_y(y_bad, network, operator, size)


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


def test_what_goes_in_comes_out_in_its_own_units(model, tmp_path):
    network, operator = model
    image = (255 * picture(22, 33)).round()
    expected = unrolled.reconstruct(image / 255, network, operator)
    for given, scale, found in [
        (image.to(torch.uint8), None, 255 * expected),
        (image[0].to(torch.uint8).numpy(), None, 255 * expected[0]),
        (257 * image.int().to(torch.uint16), None, 65535 * expected),
        (image / 255 * 3e-4, 3e-4, 3e-4 * expected),
        (16 * image - 1024, (-1024, 255 * 16 - 1024), 255 * 16 * expected - 1024),
    ]:
        back = unrolled.reconstruct(given, network, operator, scale=scale)
        inside = (expected > 1e-3) & (expected < 1 - 1e-3)  # with a scale nothing is clipped
        inside = inside.reshape(back.shape)
        torch.testing.assert_close(back[inside], found[inside], rtol=1e-3, atol=1e-3 * float(found.abs().max()))
    Image.fromarray(image[0].numpy().astype(np.uint16) * 16).save(tmp_path / "twelve.png")
    with pytest.raises(ValueError, match="nothing in it is brighter"):
        unrolled.reconstruct(tmp_path / "twelve.png", network, operator)
    found = unrolled.reconstruct(tmp_path / "twelve.png", network, operator, scale=4080)
    torch.testing.assert_close(found.clamp(0, 4080), 4080 * expected, rtol=1e-3, atol=5)


def test_weights_take_another_operator_in_place_of_their_own(tmp_path):
    torch.manual_seed(0)
    network, own, few = EPGN(1, 2), *(BlockCompressedSensing(ratio=ratio, block=11) for ratio in (0.5, 0.2))
    own.fit_images([picture(44, 44)])
    path, images = tmp_path / "w.safetensors", [picture(33, 22, seed) for seed in range(3)]
    unrolled.save(path, network, own)
    with pytest.warns(UserWarning, match=r"was trained for BlockCompressedSensing\(ratio=0.5, block=11, .* alone"):
        found = unrolled.reconstruct(images[0], path, few)
    assert not few.fitted  # what the caller has given stays as it is
    fitted = BlockCompressedSensing(ratio=0.2, block=11)
    fitted.take_fit(own)
    network.eval()
    torch.testing.assert_close(found, unrolled.reconstruct(images[0], network, fitted))
    draw = DrawnOperator(few, {"ratio": [0.2, 0.6]})
    with pytest.warns(UserWarning, match="alone"):
        drawn = unrolled.evaluate(path, images, draw)
    assert not draw.operator.fitted
    draw.take_fit(own)
    for index, (image, row) in enumerate(zip(images, drawn["images"], strict=True)):
        expected = unrolled.reconstruct(image, network, draw.in_validation(index, (33, 22)))
        assert row["psnr"] == pytest.approx(float(shown_psnr(expected[None], image[None])), abs=1e-3)
    assert len({row["psnr"] for row in drawn["images"]}) == 3


def test_complex_images_come_back_complex():
    torch.manual_seed(0)
    operator = MaskedFourier(RadialMask(0.5), 22, 33, complex_images=True)
    network = EPGN(1, 2, complex_images=True)
    image = torch.polar(190 * picture(22, 33), 4 * picture(22, 33, 1))
    found = unrolled.reconstruct(image, network, operator, scale="max")
    top = image.abs().max()
    with torch.no_grad():
        expected = top * network(operator(image[None] / top), operator)[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-2)


def test_measurements_of_another_scale_are_refused_or_brought_to_it(model):
    network, operator = model
    y = operator(picture(22, 33).unsqueeze(0))
    expected = from_y(y, network, operator)
    for factor in (255.0, 1e-3):
        with pytest.raises(
            ValueError, match=r"measurements: seem to be of an image whose brightest pixel is .* give scale"
        ):
            from_y(factor * y, network, operator)
        found = from_y(factor * y.double().numpy(), network, operator, scale=factor)
        torch.testing.assert_close((found / factor).clamp(0, 1), expected, rtol=1e-3, atol=1e-4)
        by_itself = from_y(factor * y, network, operator, scale="max")
        torch.testing.assert_close(
            by_itself, factor * from_y(y, network, operator, scale="max"), rtol=1e-3, atol=1e-3 * factor
        )
    for wrong in (0, (0, 1), "99%", True):
        with pytest.raises(ValueError, match="measurements: scale must be"):
            from_y(y, network, operator, scale=wrong)
    assert not from_y(0 * y, network, operator).isnan().any()


def test_evaluation_says_what_its_peak_is(model, tmp_path):
    network, operator = model
    images = [picture(22, 33, seed) for seed in range(2)]
    expected = unrolled.evaluate(network, images, operator)
    assert expected["peak"].startswith("white, which is 255")
    with h5py.File(tmp_path / "ct.h5", "w") as file:
        file["hu"] = np.stack([4095 * image[0].double().numpy() - 1024 for image in images]).round().astype(np.int16)
        file["other"] = np.zeros((2, 3, 4))
    for given, how, said in [
        (torch.stack(images), {}, "white, which is 255"),
        ([4095 * image for image in images], {"scale": 4095}, "white = 4095"),
        (tmp_path / "ct.h5", {"scale": (-1024, 3071), "key": "hu"}, "white − black = 4095, from -1024 to 3071"),
    ]:
        found = unrolled.evaluate(network, given, operator, **how)
        assert found["psnr"] == pytest.approx(expected["psnr"], abs=0.01)
        assert found["peak"].startswith(said)
    assert "ct.h5 hu 1" in table(found)
    assert table(found).endswith("PSNR's peak is white − black = 4095, from -1024 to 3071.")
    for wrong, said in (
        (images[0], "images: must be a folder"),
        ([], "images: must be one at least"),
        ({"a": 3}, "a: must be"),
    ):
        with pytest.raises(ValueError, match=said):
            unrolled.evaluate(network, wrong, operator)


def test_an_operator_in_other_units_than_the_network_is_told():
    network, operator = unrolled.load("epgn-cs25")
    with pytest.warns(UserWarning, match="explains the measurements worse than a black image"):
        unrolled.reconstruct(picture(33, 33), network, 3.0 * operator)


def test_forms_of_images_scales_and_sizes():
    network, operator = EPGN(1, 2), BlockCompressedSensing(ratio=0.5, block=3)
    image = picture(9, 12)
    expected = unrolled.reconstruct(image, network, operator)
    torch.testing.assert_close(unrolled.reconstruct(image[0].tolist(), network, operator), expected[0])
    torch.testing.assert_close(unrolled.reconstruct(image.clone().requires_grad_(), network, operator), expected)
    with pytest.raises(ValueError, match="image: is on the device meta"):
        unrolled.reconstruct(image.to("meta"), network, operator)
    for scale in (np.array([0, 255]), torch.tensor([0.0, 255])):
        assert "from 0 to 255" in unrolled.evaluate(network, [255 * image], operator, scale=scale)["peak"]
    y = operator(image[None])
    for size in (np.array([9, 12]), torch.tensor([9, 12]), [9, 12]):
        torch.testing.assert_close(from_y(y, network, operator, size), expected)
    for size in (9, (9.0, 12), (True, 12), "ab", (9,)):
        with pytest.raises(ValueError, match="size: must be within the image"):
            from_y(y, network, operator, size)
    with pytest.raises(ValueError, match="operator: must be a LinearOperator, got a ndarray"):
        unrolled.reconstruct(image, network, np.eye(3))
