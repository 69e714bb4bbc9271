import numpy as np
import pytest

from tests import bombs
from tests.volumes import nifti
from unrolled.data.nifti import open_nifti

VOLUME = np.random.default_rng(0).integers(-1000, 3000, (5, 9, 4)).astype(np.int16)


def opened(tmp_path, array, name="v.nii", **how):
    (tmp_path / name).write_bytes(nifti(array, **how))
    return open_nifti(tmp_path / name, scale=(-5000, 9000))


@pytest.mark.parametrize("how", [{}, {"packed": True}, {"second": True}, {"slope": 2, "inter": -10}], ids=str)
def test_slices_are_those_of_the_third_axis_in_the_units_of_the_file(tmp_path, how):
    volume = opened(tmp_path, VOLUME, **how)
    expected = VOLUME.astype(float) * how.get("slope", 1) + how.get("inter", 0)
    assert len(volume.images) == 4
    for number, image in enumerate(volume.images):
        pixels, span = image.with_range()
        assert pixels.shape == image.shape == (1, 9, 5)
        np.testing.assert_allclose(span.from_unit(pixels)[0], expected[..., number].T, atol=0.01)
    np.testing.assert_array_equal(volume.affine, np.diag([2, 3, 4, 1]))


def test_windows_complex_numbers_and_single_slices(tmp_path):
    (tmp_path / "c.nii").write_bytes(nifti((VOLUME / 4000 * 1j).astype(np.complex64)))
    image = open_nifti(tmp_path / "c.nii").images[2]
    assert image.is_complex
    np.testing.assert_allclose(image.read(slice(2, 4), slice(1, 3))[0], VOLUME[1:3, 2:4, 2].T / 4000 * 1j, atol=1e-6)
    assert len(opened(tmp_path, VOLUME[..., 0]).images) == 1


def test_what_is_no_volume_is_named(tmp_path):
    for name, data, said in [
        ("a.nii", b"none", "is not a file of NIfTI"),
        ("a.nii", nifti(np.zeros((3, 4, 5, 2), np.float32)), "must have the axes width, height and slice"),
        ("a.nii", nifti(VOLUME)[:-9], "could the file be damaged"),
        ("a.nii.gz", nifti(VOLUME, packed=True)[:-9], "NIfTI: .*a.nii.gz"),
        ("a.nii.gz", bombs.NIFTI["claims.nii.gz"](), "its volume would take"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=said):
            open_nifti(tmp_path / name, scale="max").images[0].with_range()


def test_numbers_of_16_bits_have_no_white_of_their_own(tmp_path):
    (tmp_path / "a.nii").write_bytes(nifti(VOLUME.astype(np.uint16)))
    with pytest.raises(ValueError, match=r"a.nii 0: .*whose white is not known; give scale"):
        open_nifti(tmp_path / "a.nii").images[0].with_range()
