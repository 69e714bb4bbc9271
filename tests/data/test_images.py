import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from tests.helpers import write_picture
from unrolled.data import embedded_images, list_images, read_image, read_images, to_uint8
from unrolled.data.embedded import SPLITS
from unrolled.data.images import array_to_image

GRADIENT = (np.arange(40)[:, None] * 3 + np.arange(50)[None] * 2).astype(np.uint8)
COLOR = np.stack([GRADIENT, GRADIENT[::-1], 255 - GRADIENT], axis=-1)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "pgm"])
def test_grey_pixels_arrive_exactly(tmp_path, suffix):
    Image.fromarray(GRADIENT).save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}")
    assert image.dtype == torch.float32
    np.testing.assert_array_equal(image[0].numpy(), GRADIENT.astype(np.float32) / 255)
    assert torch.equal(read_image(tmp_path / f"a.{suffix}", color=True), image.expand(3, -1, -1))


def test_luma_is_that_of_itu_r_601(tmp_path):
    Image.fromarray(COLOR).save(tmp_path / "a.png")
    expected = COLOR @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read_image(tmp_path / "a.png")[0].numpy() * 255 - expected).max() <= 0.51
    color = read_image(tmp_path / "a.png", color=True)
    np.testing.assert_array_equal(to_uint8(color), COLOR)


def test_palettes_give_the_colors_they_stand_for(tmp_path):
    palette = Image.fromarray(GRADIENT).convert("P")
    palette.putpalette([value for level in range(256) for value in (255 - level,) * 3])
    palette.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(to_uint8(read_image(tmp_path / "a.tif")), 255 - GRADIENT)


def test_sixteen_bit_and_float(tmp_path):
    tifffile.imwrite(tmp_path / "deep.tif", GRADIENT.astype(np.uint16) * 257)
    tifffile.imwrite(tmp_path / "float.tif", (GRADIENT / 255).astype(np.float32))
    for name in ("deep.tif", "float.tif"):
        np.testing.assert_allclose(read_image(tmp_path / name)[0].numpy(), GRADIENT / 255, atol=1e-6)


def test_transparency_shows_white_paper(tmp_path):
    alpha = Image.fromarray(np.dstack([GRADIENT, np.zeros_like(GRADIENT)]), mode=None)
    alpha.save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == 1).all()


def test_rotated_by_its_camera(tmp_path):
    image = Image.fromarray(GRADIENT)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(to_uint8(read_image(tmp_path / "a.png")), np.rot90(GRADIENT, -1))


def test_what_is_no_image_is_refused_with_its_path(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello")
    write_picture(tmp_path / "whole.png")
    (tmp_path / "short.png").write_bytes((tmp_path / "whole.png").read_bytes()[:300])
    tifffile.imwrite(tmp_path / "nan.tif", np.full((9, 9), np.nan, np.float32))
    tifffile.imwrite(tmp_path / "large.tif", np.full((9, 9), 300.0, np.float32))
    for name, message in {
        "missing.png": "no file",
        "empty.png": "not an image",
        "text.jpg": "not an image",
        "short.png": "broken",
        "nan.tif": "NaN",
        "large.tif": r"lie in \[0, 1\]",
    }.items():
        with pytest.raises(ValueError, match=rf"(?s){name}.*{message}|{message}.*{name}"):
            read_image(tmp_path / name)


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    write_picture(tmp_path / "a.png", 100, 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"a\.png"):
        read_image(tmp_path / "a.png")


def test_folders_are_searched_and_sorted(tmp_path):
    for name in ("b.png", "a.JPG", "sub/c.tif"):
        write_picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    assert [path.name for path in list_images(tmp_path)] == ["a.JPG", "b.png", "c.tif"]
    assert len(read_images(tmp_path)) == 3
    assert list_images(tmp_path / "b.png") == [tmp_path / "b.png"]


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no images"):
        list_images(tmp_path)
    with pytest.raises(ValueError, match="no folder"):
        list_images(tmp_path / "nowhere")


def test_embedded_images_need_no_download_and_splits_share_no_scene(monkeypatch):
    import socket

    monkeypatch.setattr(socket, "socket", None)
    names = [name for split in SPLITS for name in SPLITS[split]]
    assert len(names) == len(set(names))
    for split in SPLITS:
        for name, image in embedded_images(split).items():
            assert image.shape[0] == 1, name
            assert min(image.shape[1:]) >= 132, name
            assert 0 <= image.min() < image.max() <= 1, name
    assert embedded_images("test", color=True)["coffee"].shape == (3, 400, 600)
    with pytest.raises(ValueError, match="split must be one of"):
        embedded_images("all")


def test_arrays_of_floating_point_are_taken_as_they_are():
    image = array_to_image(COLOR / 255.0, color=True)
    np.testing.assert_array_equal(to_uint8(image), COLOR)
    assert array_to_image(COLOR / 255.0).shape == (1, 40, 50)
