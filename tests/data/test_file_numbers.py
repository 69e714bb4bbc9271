"""Numbers of files that Pillow reads otherwise than the file has them."""

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from tests.data.test_images import png
from unrolled.data import ImageStore, read_image
from unrolled.data.images import numbers_in
from unrolled.data.unit_images import single_to_unit

GREY = (np.arange(40)[:, None] * 60 + np.arange(50)[None] * 30).astype(np.uint16)
DEEP = np.stack([GREY, GREY[::-1], 4000 - GREY], axis=-1).astype(np.uint16)


@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_deep_colors_of_tiff_are_read_exactly_by_a_scale(tmp_path, planes):
    pixels = np.moveaxis(DEEP, -1, 0) if planes == "separate" else DEEP
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", planarconfig=planes)
    found = read_image(tmp_path / "a.tif", color=True, scale=4095)
    np.testing.assert_allclose(found, np.moveaxis(DEEP, -1, 0) / 4095, atol=1e-6)


def test_deep_colors_in_planes_are_those_of_the_file(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(16 * DEEP, -1, 0), photometric="rgb", planarconfig="separate")
    found = read_image(tmp_path / "a.tif", color=True)
    np.testing.assert_allclose(found, np.moveaxis(16 * DEEP, -1, 0) / 65535, atol=1e-6)


def test_dark_deep_colors_are_refused_and_so_is_a_scale_for_those_that_are_read_with_eight_bits(tmp_path):
    rows = np.concatenate([np.zeros((40, 1), np.uint8), DEEP.astype(">u2").reshape(40, -1).view(np.uint8)], 1)
    (tmp_path / "a.png").write_bytes(png(50, 40, 16, 2, rows.tobytes()))
    (tmp_path / "a.ppm").write_bytes(b"P6 50 40 65535\n" + DEEP.astype(">u2").tobytes())
    for name in ("a.png", "a.ppm"):
        assert numbers_in(tmp_path / name) == torch.uint16
        with pytest.raises(ValueError, match="image: nothing in it is brighter than"):
            single_to_unit("image", tmp_path / name)
        with pytest.raises(ValueError, match=f"{name}: has colors or alpha of 16 bits, of which 8 are read"):
            read_image(tmp_path / name, scale=4095)


@pytest.mark.parametrize(("white", "kind"), [(100, "u1"), (60000, ">u2")])
def test_a_scale_is_in_the_numbers_of_pgm_not_in_those_of_pillow(tmp_path, white, kind):
    numbers = (GREY / GREY.max() * 0.7 * white).round()
    (tmp_path / "a.pgm").write_bytes(b"P5 50 40 %d\n" % white + numbers.astype(kind).tobytes())
    for scale in (None, white):
        np.testing.assert_allclose(read_image(tmp_path / "a.pgm", scale=scale)[0], numbers / white, atol=0.003)


def test_tiff_whose_numbers_pillow_misreads(tmp_path):
    signed = (GREY // 32).astype(np.int8) - 50
    tifffile.imwrite(tmp_path / "signed.tif", signed)
    with pytest.raises(ValueError, match=r"signed\.tif: .*int8, whose white is not known"):
        read_image(tmp_path / "signed.tif")
    found = read_image(tmp_path / "signed.tif", scale=(-50, 100))[0]
    np.testing.assert_allclose(found, (signed + 50.0) / 150, atol=1e-6)
    for kind in (np.uint32, np.uint64):
        tifffile.imwrite(tmp_path / "large.tif", GREY.astype(kind) * 1_000_000)
        np.testing.assert_allclose(read_image(tmp_path / "large.tif", scale=4e9)[0], GREY / 4e3, atol=1e-6)
    tifffile.imwrite(tmp_path / "inverse.tif", GREY / 4e3, photometric="miniswhite")
    with pytest.raises(ValueError, match=r"inverse\.tif: .*0 as white"):
        read_image(tmp_path / "inverse.tif")


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_dark_pictures_of_pillow_are_refused(kind):
    dark = Image.fromarray((GREY * 1e-6).astype(kind)) if kind == np.float32 else Image.fromarray(GREY.astype(kind))
    for take in (lambda: single_to_unit("image", dark), lambda: ImageStore([dark])):
        with pytest.raises(ValueError, match="nothing in it is brighter than"):
            take()
