import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage.color import rgb2lab

from tests.helpers import write_picture
from unrolled.data import embedded_images, list_images, read_image, read_images, to_uint8
from unrolled.data.embedded import SPLITS
from unrolled.data.images import _to_tensor, array_to_image
from unrolled.data.stores import FileImage, image_size

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
    alpha = np.tile(np.array([0, 85, 255], np.uint8), (6, 1))
    for name, pixels in {
        "grey.png": np.dstack([np.full_like(alpha, 30), alpha]),
        "color.png": np.dstack([np.full_like(alpha, 30)] * 3 + [alpha]),
        "color.webp": np.dstack([np.full_like(alpha, 30)] * 3 + [alpha]),
    }.items():
        Image.fromarray(pixels).save(tmp_path / name, **({"lossless": True} if "webp" in name else {}))
        shown = np.array([255, 255 + (30 - 255) / 3, 30]) / 255
        for image in (read_image(tmp_path / name), read_image(tmp_path / name, color=True)):
            assert np.abs(image.numpy() - shown).max() < 1.01 / 255, name
    Image.fromarray(np.zeros((6, 8, 4), np.uint8)).save(tmp_path / "empty.png")
    assert (read_image(tmp_path / "empty.png") == 1).all()


def test_one_transparent_value_shows_white_paper(tmp_path):
    Image.fromarray(GRADIENT).save(tmp_path / "palette.gif", transparency=0)
    Image.fromarray(GRADIENT).save(tmp_path / "grey.png", transparency=0)
    Image.fromarray(COLOR).save(tmp_path / "color.png", transparency=tuple(COLOR[0, 0].tolist()))
    Image.fromarray(GRADIENT.astype(np.uint16) * 257).save(tmp_path / "deep.png", transparency=0)
    white = np.where(GRADIENT == 0, 255, GRADIENT)
    for name in ("palette.gif", "grey.png", "deep.png"):
        np.testing.assert_array_equal(to_uint8(read_image(tmp_path / name)), white, err_msg=name)
    assert (read_image(tmp_path / "color.png", color=True)[:, 0, 0] == 1).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_upright_as_the_camera_noted(tmp_path, orientation, suffix):
    upright = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda x: np.rot90(x, -1),
        7: lambda x: np.rot90(x, 2).T,
        8: np.rot90,
    }[orientation]
    image = Image.fromarray(GRADIENT)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"a.{suffix}", exif=exif, **({"quality": 100} if suffix == "jpg" else {}))
    found = to_uint8(read_image(tmp_path / f"a.{suffix}"))
    assert found.shape == upright(GRADIENT).shape
    assert np.abs(found.astype(int) - upright(GRADIENT)).max() <= (3 if suffix == "jpg" else 0)


def as_mode(mode: str, color: tuple[int, int, int]) -> Image.Image:
    """A patch of a color in a mode; Pillow converts to some of them only by way of others."""
    image = Image.new("RGB", (9, 8), color)
    if mode in ("La", "RGBa"):
        return image.convert(mode.upper()).convert(mode)
    if mode in ("P", "PA"):
        return image.quantize(2).convert(mode)
    if mode == "LAB":  # L in [0, 100] as 8 bits, a and b around 128
        lab = np.round(rgb2lab(np.array(color) / 255) * [2.55, 1, 1] + [0, 128, 128])
        return Image.new("LAB", (9, 8), tuple(lab.astype(int).tolist()))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_every_mode_in_color_gives_the_color_it_stands_for(mode):
    rounding = {"YCbCr": 2, "HSV": 2, "LAB": 6}.get(mode, 0.01)  # LAB: 8 bits, and another white
    found = _to_tensor(as_mode(mode, (200, 90, 40)), color=True)[0][:, 0, 0].numpy() * 255
    assert np.abs(found - (200, 90, 40)).max() <= rounding
    luma = _to_tensor(as_mode(mode, (200, 90, 40)), color=False)[0][0, 0, 0].item() * 255
    assert luma == pytest.approx(found @ [0.299, 0.587, 0.114], abs=0.51)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La"])
def test_every_mode_in_grey_gives_its_grey(mode):
    for grey in (0, 255) if mode == "1" else (0, 77, 255):
        image = as_mode(mode, (grey,) * 3)
        assert _to_tensor(image, color=False)[0][0, 0, 0].item() * 255 == pytest.approx(grey)
        assert (_to_tensor(image, color=True)[0] * 255 - grey).abs().max() < 0.01


def test_cmyk_jpegs_are_not_inverted(tmp_path):
    pixels = np.dstack([COLOR, np.zeros_like(GRADIENT)])  # ink: 255 - light
    Image.frombytes("CMYK", (50, 40), pixels.tobytes()).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    found = to_uint8(read_image(tmp_path / "a.jpg", color=True))
    assert np.abs(found.astype(int) - (255 - COLOR)).max() <= 4
    data = (tmp_path / "a.jpg").read_bytes()
    marker = data.index(b"\xff\xee")
    length = 2 + int.from_bytes(data[marker + 2 : marker + 4], "big")
    (tmp_path / "unmarked.jpg").write_bytes(data[:marker] + data[marker + length :])
    with pytest.raises(ValueError, match=r"unmarked\.jpg: is CMYK without the mark"):
        read_image(tmp_path / "unmarked.jpg")


def test_sixteen_bits_with_alpha_are_read_with_eight(tmp_path):
    rows = np.zeros((6, 1 + 4 * 4), np.uint8)
    rows[:, 1::2] = np.tile([30, 0, 30, 85, 30, 170, 30, 255], (6, 1))  # the high bytes of grey and alpha
    rows[:, 2::2] = rows[:, 1::2]
    (tmp_path / "a.png").write_bytes(png(4, 6, 16, 4, rows.tobytes()))
    shown = 255 + (30 - 255) * np.array([0, 85, 170, 255]) / 255
    assert np.abs(read_image(tmp_path / "a.png").numpy() * 255 - shown).max() <= 1


def test_sixteen_bits_in_color_are_read_with_eight(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", COLOR.astype(np.uint16) * 257)
    np.testing.assert_array_equal(to_uint8(read_image(tmp_path / "a.tif", color=True)), COLOR)
    tifffile.imwrite(tmp_path / "big.tif", GRADIENT.astype(np.uint16) * 257, byteorder=">")
    np.testing.assert_array_equal(to_uint8(read_image(tmp_path / "big.tif")), GRADIENT)


def test_what_has_no_single_meaning_is_refused(tmp_path):
    frames = [Image.fromarray(GRADIENT), Image.fromarray(255 - GRADIENT)]
    for name in ("moving.gif", "moving.png", "moving.webp", "stack.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    tifffile.imwrite(tmp_path / "signed.tif", GRADIENT.astype(np.int16))
    tifffile.imwrite(tmp_path / "long.tif", GRADIENT.astype(np.uint32))
    tifffile.imwrite(tmp_path / "inverse.tif", GRADIENT.astype(np.uint16), photometric="miniswhite")
    for name, message in {
        "moving.gif": "several images",
        "moving.png": "several images",
        "moving.webp": "several images",
        "stack.tif": "several images",
        "signed.tif": "white is not known",
        "long.tif": "white is not known",
        "inverse.tif": "0 as white",
    }.items():
        with pytest.raises(ValueError, match=rf"{name}: .*{message}"):
            read_image(tmp_path / name)


def test_a_photograph_with_a_preview_is_its_first_picture(tmp_path):
    frames = [Image.fromarray(GRADIENT), Image.fromarray(255 - GRADIENT)]
    frames[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=frames[1:], quality=100)
    found = to_uint8(read_image(tmp_path / "a.jpg"))
    assert np.abs(found.astype(int) - GRADIENT).max() <= 3


def test_other_formats_are_not_decoded_whatever_they_are_called(tmp_path):
    (tmp_path / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(ValueError, match="not an image of a known format"):
        read_image(tmp_path / "script.png")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for name in ("pipe.png", "folder.png", "nowhere.png", "loop.png", "/dev/zero", "x" * 5000 + ".png", "a\0.png"):
        with pytest.raises(ValueError, match="there is no file"):
            read_image(tmp_path / name)
    assert [path.name for path in list_images(tmp_path)] == ["loop.png", "nowhere.png", "pipe.png"]
    with pytest.raises(ValueError, match=r"nowhere\.png|loop\.png"):
        read_images(tmp_path)


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ValueError, match=r"a\.png.*Permission denied"):
        read_image(write_picture(tmp_path / "a.png"))


def test_names_need_not_be_text(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png"))
    write_picture(path)
    assert list_images(tmp_path) == [path]
    assert read_image(path).shape == (1, 40, 50)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="not an image"):
        read_image(path)


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
        "large.tif": r"must be in \[0, 1\]",
    }.items():
        with pytest.raises(ValueError, match=rf"(?s){name}.*{message}|{message}.*{name}"):
            read_image(tmp_path / name)


def png(width: int, height: int, depth: int, kind: int, data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of these scan lines, each behind its filter byte, whatever its header claims."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def claiming(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of grey pixels of which only the first few are there."""
    return png(width, height, 8, 0, b"\0" + b"\xff" * 1000, *chunks)


def test_bombs_are_refused_before_they_are_unpacked(tmp_path):
    text = b"key\0\0" + zlib.compress(bytes(100_000_000))
    for name, data, message in [
        ("pixels.png", claiming(50_000, 50_000), "too large"),
        ("text.png", claiming(10, 10, (b"zTXt", text)), "cannot be decoded"),
        ("profile.png", claiming(10, 10, (b"iCCP", text)), "cannot be decoded|known format"),
        ("empty.png", claiming(0, 10), "cannot be decoded|known format"),
    ]:
        (tmp_path / name).write_bytes(data)
        tracemalloc.start()
        with pytest.raises(ValueError, match=rf"{name} .*({message})"):
            read_image(tmp_path / name)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 20_000_000


def test_a_photograph_of_a_hundred_megapixels_is_read_within_its_size(tmp_path):
    side = 10_000
    Image.new("L", (side, side), 51).save(tmp_path / "large.png", compress_level=1)
    tracemalloc.start()
    image = read_image(tmp_path / "large.png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert image.shape == (1, side, side)
    assert image[0, -1, -1] == np.float32(0.2)
    assert peak < 5.1 * side**2  # the result, float32, and the pixels as bytes


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


def test_twelve_bits_are_read_with_their_own_white(tmp_path):
    tags = {256: 2, 257: 2, 258: 12, 259: 1, 262: 1, 273: 122, 277: 1, 278: 2, 279: 6}  # width, height, bits, …
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)
    (tmp_path / "twelve.tif").write_bytes(head + bytes.fromhex("fff000 7ff001"))
    assert len(head) == tags[273]
    np.testing.assert_allclose(read_image(tmp_path / "twelve.tif")[0] * 4095, [[4095, 0], [2047, 1]], atol=1e-3)
    assert image_size(tmp_path / "twelve.tif") == (2, 2)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_tiff_of_floating_point(tmp_path, kind, color, orientation):
    pixels = (COLOR if color else COLOR[..., 0]).astype(kind) / kind(255)
    kinds = {"photometric": "rgb" if color else "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", pixels, extratags=[(274, "H", 1, orientation, True)], **kinds)
    turned = {1: pixels, 3: pixels[::-1, ::-1], 6: np.rot90(pixels, -1)}[orientation]
    found = read_image(tmp_path / "a.tif", color)
    np.testing.assert_allclose(found.numpy().squeeze(), np.moveaxis(turned, -1, 0) if color else turned, atol=1e-3)
    if color:
        luma = turned.astype(float) @ [0.299, 0.587, 0.114]
        np.testing.assert_allclose(read_image(tmp_path / "a.tif")[0], luma, atol=1e-3)
    assert image_size(tmp_path / "a.tif") == turned.shape[:2]


def test_a_scale_says_what_white_is(tmp_path):
    numbers = np.arange(12, dtype=np.int32).reshape(3, 4) * 100
    tifffile.imwrite(tmp_path / "int.tif", numbers)
    tifffile.imwrite(tmp_path / "float.tif", numbers.astype(np.float32))
    Image.fromarray(numbers.astype(np.uint16)).save(tmp_path / "deep.png")
    for name in ("int.tif", "float.tif", "deep.png"):
        np.testing.assert_allclose(read_image(tmp_path / name, scale=1000)[0], numbers / 1000, atol=1e-6)
        np.testing.assert_allclose(read_image(tmp_path / name, scale="max")[0], numbers / 1100, atol=1e-6)
    np.testing.assert_allclose(
        read_image(tmp_path / "int.tif", scale=(100, 1100))[0], (numbers - 100) / 1000, atol=1e-6
    )
    with pytest.raises(ValueError, match=r"int\.tif: has integers of 32 bits .* give scale"):
        read_image(tmp_path / "int.tif")
    write_picture(tmp_path / "a.png")
    np.testing.assert_allclose(read_image(tmp_path / "a.png", scale=510), read_image(tmp_path / "a.png") / 2, atol=1e-6)
    with pytest.raises(ValueError, match="image: scale must be"):
        read_image(tmp_path / "a.png", scale="bright")


def test_tiff_may_state_what_white_is(tmp_path):
    numbers = (np.arange(12, dtype=np.uint16) * 372).reshape(3, 4)
    tifffile.imwrite(tmp_path / "a.tif", numbers, extratags=[(281, "H", 1, 4095, True)])
    np.testing.assert_allclose(read_image(tmp_path / "a.tif")[0], numbers / 4095, atol=1e-6)
    tifffile.imwrite(tmp_path / "b.tif", numbers, extratags=[(281, "H", 1, 255, True)])
    with pytest.raises(ValueError, match=r"b\.tif: has numbers outside of 0 … 255"):
        read_image(tmp_path / "b.tif")


def test_a_file_cannot_hold_more_pixels_than_its_bytes_allow(tmp_path):
    for name, size in {"a.gif": (13000, 13000), "a.png": (20000, 8000)}.items():
        picture = Image.new("L", (4, 4))
        picture.save(tmp_path / name)
        data = bytearray((tmp_path / name).read_bytes())
        if name == "a.gif":
            data[6:10] = struct.pack("<HH", *size)
        else:
            data[16:24] = struct.pack(">II", *size)
            data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
        (tmp_path / name).write_bytes(data)
        tracemalloc.start()
        with pytest.raises(ValueError, match=r"claims [\d,]+ pixels in \d+ bytes, more than it can hold"):
            read_image(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.stop()


def test_an_orientation_that_is_written_in_an_odd_way_is_the_same_in_header_and_picture(tmp_path):
    # Two numbers where one belongs: of which the decoder warns.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x02\0\x08" + bytes(6)
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert FileImage(tmp_path / "a.jpg", True).shape == read_image(tmp_path / "a.jpg", color=True).shape == (3, 40, 20)
