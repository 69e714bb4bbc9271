"""Images as users have them: every layout and scale is taken for what it is, or refused by name."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import picture, write_picture
from unrolled.data.unit_images import as_image, single_to_unit, to_unit

IMAGE = (picture(12, 15) * 255).round() / 255
LEVELS = (IMAGE * 255).round().to(torch.uint8)


@pytest.mark.parametrize(
    ("value", "scale"),
    [
        (IMAGE, None),
        (IMAGE[0], None),
        (IMAGE.numpy()[0, ::-1][::-1], None),
        (LEVELS, None),
        (LEVELS[0].numpy(), None),
        (LEVELS.numpy().astype(np.uint16) * 257, None),
        (IMAGE.double().tolist(), None),
        (Image.fromarray(LEVELS[0].numpy()), None),
        (IMAGE * 3e-4, 3e-4),
        (IMAGE * 190, 190),
        (LEVELS.to(torch.int16) * 16 - 1024, (-1024, 255 * 16 - 1024)),
        (IMAGE * 7e5 / IMAGE.max(), float(7e5 / IMAGE.max())),
        (Image.fromarray(LEVELS[0].numpy()), 255),
        (LEVELS, 255),
    ],
)
def test_every_form_of_an_image_gives_that_image(value, scale):
    image, span = to_unit("image", value, scale)
    assert image.shape == (1, 12, 15)
    torch.testing.assert_close(image, IMAGE, atol=1e-6, rtol=1e-5)
    assert span.given == (scale is not None)


def test_color_and_complex_images_keep_what_they_have():
    color = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    image, _ = to_unit("image", Image.fromarray(color))
    np.testing.assert_allclose(image.numpy(), np.moveaxis(color, -1, 0) / 255, atol=1e-7)
    wave = torch.polar(190 * IMAGE, 5 * IMAGE)
    image, span = to_unit("image", wave, "max")
    torch.testing.assert_close(span.from_unit(image), wave)
    assert float(image.abs().max()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.zeros(12, 15, 3), r"seems to have its channels last"),
        (torch.zeros(1, 1, 12, 15), r"must be \(channel, height, width\) or \(height, width\)"),
        (torch.zeros(15), r"must be \(channel, height, width\)"),
        (torch.tensor(3.0), r"must be \(channel, height, width\)"),
        (torch.zeros(1, 0, 15), "none of them 0"),
        ("photo", "must be an array of numbers"),
    ],
)
def test_other_layouts_are_refused(value, said):
    with pytest.raises(ValueError, match=f"x: .*{said}"):
        as_image("x", value)


def test_an_image_that_stands_for_itself_must_not_be_dark(tmp_path):
    for dark in (IMAGE * 3e-4, (IMAGE[0] * 4095).to(torch.uint16), (IMAGE * 16383).to(torch.uint16)):
        with pytest.raises(ValueError, match=r"image: nothing in it is brighter than .* give scale"):
            single_to_unit("image", dark)
        single_to_unit("image", dark, scale="max")
    twelve = (IMAGE[0] * 4095).numpy().astype(np.uint16)
    Image.fromarray(twelve).save(tmp_path / "twelve.png")
    with pytest.raises(ValueError, match=r"image: nothing in it is brighter than 0\.0593 of white"):
        single_to_unit("image", tmp_path / "twelve.png")
    image, span = single_to_unit("image", tmp_path / "twelve.png", scale=4095)
    np.testing.assert_allclose(image[0], twelve / 4095, atol=1e-6)
    assert (span.black, span.white) == (0, 4095)
    for fine in (LEVELS // 40, IMAGE * 0, IMAGE * 0.3, write_picture(tmp_path / "dark.png")):
        single_to_unit("image", fine)
