import gzip

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from tests.helpers import picture
from unrolled.data import read_image
from unrolled.reconstruction.outputs import ENDINGS, Output
from unrolled.system.scales import UNIT, Range

HOUNSFIELD = Range(-1024, 3071, True)
GREY, COLOR = picture(9, 11), torch.cat([picture(9, 11, seed) for seed in range(3)])


def written(tmp_path, ending, images, bits=0, span=UNIT, affine=None):
    path = tmp_path / f"x{ending}"
    Output(ending, bits).write(path, images, [span] * len(images), affine)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    return path


@pytest.mark.parametrize("ending", [".png", ".tif", ".jpg", ".bmp", ".webp"])
def test_pictures_of_8_bits_go_from_black_to_white(tmp_path, ending):
    for span in (UNIT, HOUNSFIELD):
        with Image.open(written(tmp_path, ending, [GREY], span=span)) as file:
            found = np.asarray(file.convert("L")).astype(float)
        assert np.abs(found - 255 * GREY[0].numpy()).max() <= (0.5 if ending in (".png", ".tif", ".bmp") else 12)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_16_bits_hold_whole_numbers_in_the_units_of_the_image(tmp_path, ending):
    assert torch.allclose(read_image(written(tmp_path, ending, [GREY], 16)), GREY, atol=0.51 / 65535)
    path = written(tmp_path, ending, [GREY * 1.01 - 0.005], 16, Range(100, 4095, True))
    pixels = np.asarray(Image.open(path)).astype(float)
    np.testing.assert_allclose(pixels, (GREY[0] * 1.01 - 0.005) * 3995 + 100, atol=0.51)
    assert pixels.dtype != np.uint8


def test_tiff_holds_numbers_and_colors(tmp_path):
    np.testing.assert_allclose(
        tifffile.imread(written(tmp_path, ".tif", [GREY], 32, HOUNSFIELD)), GREY[0] * 4095 - 1024, atol=1e-3
    )
    for bits, white in ((16, 65535), (32, 1)):
        found = tifffile.imread(written(tmp_path / str(bits), ".tiff", [COLOR], bits)).astype(float)
        np.testing.assert_allclose(found / white, COLOR.movedim(0, -1), atol=1e-5)


def test_stacks_are_written_in_the_layouts_of_their_formats(tmp_path):
    images = [picture(9, 11, seed) for seed in range(4)]
    expected = torch.cat(images).numpy() * 4095 - 1024
    found = np.load(written(tmp_path / "n", ".npy", images, span=HOUNSFIELD))
    with h5py.File(written(tmp_path / "h", ".h5", images, span=HOUNSFIELD)) as file:
        assert list(file) == ["reconstruction"]  # (slice, height, width), as fastMRI has it
        assert file["reconstruction"].dtype == np.float32
        np.testing.assert_allclose(file["reconstruction"], expected, atol=1e-3)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    affine = np.diag([2.0, 3, 4, 1])
    for ending in (".nii", ".nii.gz"):
        path = written(tmp_path / ending, ending, images, span=HOUNSFIELD, affine=affine)
        image = nibabel.load(path)
        np.testing.assert_allclose(np.asarray(image.dataobj).transpose(2, 1, 0), expected, atol=1e-3)
        np.testing.assert_array_equal(image.affine, affine)
    assert gzip.decompress(path.read_bytes())[:4] == (348).to_bytes(4, "little")
    assert np.load(written(tmp_path / "1", ".npy", [GREY])).shape == (9, 11)
    assert np.load(written(tmp_path / "2", ".npy", [COLOR, COLOR])).shape == (2, 3, 9, 11)


def test_complex_numbers_stay_so_where_they_can(tmp_path):
    image = torch.polar(GREY, 3 * GREY)
    assert np.load(written(tmp_path / "n", ".npy", [image])).dtype == np.complex64
    found = np.asarray(nibabel.load(written(tmp_path / "f", ".nii", [image])).dataobj)[..., 0].T
    np.testing.assert_allclose(found, image[0], atol=1e-6)
    with h5py.File(written(tmp_path / "h", ".h5", [image])) as file:
        np.testing.assert_allclose(file["reconstruction"][0], image[0], atol=1e-6)


def test_what_a_file_cannot_hold_is_refused_by_name(tmp_path):
    for ending, bits, said in [
        (".doc", 0, "must end in one of .png"),
        (".jpg", 32, r"bits: .jpg holds 8, got 32; floating point: .tif"),
        (".png", 32, "holds 8 or 16, got 32"),
        (".npy", 8, "holds 32, got 8"),
        (".tif", 12, "holds 8 or 16 or 32, got 12$"),
    ]:
        with pytest.raises(ValueError, match=said):
            Output(ending, bits)
    for output, how, said in [
        (Output(".png", 16), {"scale": (-1024, 3071)}, r"x reaches from -1024 \(black\) .* choose 32 bits"),
        (Output(".png", 16), {"scale": 3e-4}, "to 0.0003"),
        (Output(".tif", 16), {"scale": 1e6}, "numbers of 16 bits"),
        (Output(".png", 16), {"color": True}, "holds no colours, as .tif"),
        (Output(".h5"), {"color": True}, "holds no colours, as .tif, .tiff, .npy do"),
        (Output(".png"), {"is_complex": True}, "x is complex, which .png does not hold; choose one of .npy"),
        (Output(".tif", 32), {"is_complex": True}, "is complex"),
    ]:
        with pytest.raises(ValueError, match=said):
            output.check("x", **{"color": False, "is_complex": False, "scale": None, **how})
    for ending in ENDINGS:
        Output(ending).check("x", False, False, (-1024, 3071))
    with pytest.raises(ValueError, match="numbers of 16 bits"):  # of the largest magnitude, which is known only now
        Output(".png", 16).write(tmp_path / "x.png", [GREY], [Range(0, 0.5, True)])
