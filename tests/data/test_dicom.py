import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, JPEGLSLossless, RLELossless

from tests.volumes import dicom, write_series
from unrolled.data.dicom import is_dicom, open_series

RNG = np.random.default_rng(0)
SLICES = RNG.integers(0, 4096, (3, 9, 11)).astype(np.uint16)


def numbers(volume) -> np.ndarray:
    """The slices in their own units, (slice, height, width)."""
    return np.stack([image.load() for image in volume.images])


def one(tmp_path, pixels, **entries):
    (tmp_path / "a.dcm").write_bytes(dicom(pixels, **entries))
    (volume,) = open_series([tmp_path / "a.dcm"], scale="max")
    return volume


def test_slices_are_sorted_by_their_place_and_know_where_they_are(tmp_path):
    folder = write_series(tmp_path / "ct", SLICES, RescaleSlope="1", RescaleIntercept="-1024")
    (volume,) = open_series(sorted(folder.iterdir()), scale=(-1024, 3071))
    np.testing.assert_array_equal(numbers(volume), SLICES.astype(int) - 1024)
    assert volume.path == folder
    # Of the pixel in row i and column j of slice k DICOM says (10 + 3j, 20 + 2i, 4k), to the left, back and up.
    for i, j, k in ((0, 0, 0), (2, 5, 1)):
        np.testing.assert_allclose(volume.affine @ [j, i, k, 1], [-(10 + 3 * j), -(20 + 2 * i), 4 * k, 1])
    image, span = volume.images[1].with_range()
    np.testing.assert_allclose(span.from_unit(image)[0], SLICES[1].astype(int) - 1024.0, atol=1e-3)


def test_sagittal_slices_are_sorted_too(tmp_path):
    folder = tmp_path / "sagittal"
    folder.mkdir()
    for number, pixels in enumerate(SLICES):  # rows to the back, columns down: the normal is to the right
        place = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "ImagePositionPatient": [5.0 * number, 0, 0]}
        (folder / f"{number}").write_bytes(dicom(pixels, **place))
    (volume,) = open_series(sorted(folder.iterdir()))
    np.testing.assert_array_equal(numbers(volume), SLICES[::-1])
    np.testing.assert_allclose(volume.affine @ [1, 2, 0, 1], [-10, -3, -4, 1])
    assert np.linalg.det(volume.affine) != 0


@pytest.mark.parametrize("entries", [{}, {"syntax": ExplicitVRBigEndian}, {"syntax": RLELossless}], ids=str)
def test_transfer_syntaxes_give_the_same_numbers(tmp_path, entries):
    np.testing.assert_array_equal(numbers(one(tmp_path, SLICES[0], **entries))[0], SLICES[0])


def test_where_the_smallest_number_is_white_numbers_are_mirrored(tmp_path):
    inverted = one(tmp_path, SLICES[0], PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(numbers(inverted)[0], 4095 - SLICES[0].astype(int))
    signed = one(tmp_path, (SLICES[0] - 2000).astype(np.int16), PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(numbers(signed)[0], -1 - (SLICES[0].astype(int) - 2000))


def test_frames_lie_where_their_own_groups_say(tmp_path):
    frames = [Dataset(), Dataset(), Dataset()]
    for frame, height in zip(frames, (8.0, 0.0, 4.0), strict=True):
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, height]
        frame.PixelValueTransformationSequence = [Dataset()]
        frame.PixelValueTransformationSequence[0].RescaleSlope = 2
        frame.PixelValueTransformationSequence[0].RescaleIntercept = height
    volume = one(tmp_path, SLICES, frames=3, PerFrameFunctionalGroupsSequence=frames, ImagePositionPatient=None)
    expected = [2 * SLICES[frame].astype(int) + height for frame, height in ((1, 0), (2, 4), (0, 8))]
    np.testing.assert_array_equal(numbers(volume), expected)
    assert volume.affine[2, 2] == 4
    film = one(tmp_path, SLICES, frames=3)  # all at the place of the file
    np.testing.assert_array_equal(numbers(film), SLICES)
    assert film.affine is None


def test_series_are_told_apart_and_bad_ones_are_named(tmp_path):
    write_series(tmp_path / "a", SLICES)
    other = write_series(tmp_path / "b", SLICES, SeriesInstanceUID="1.2.5")
    for path in other.iterdir():
        path.rename(tmp_path / "a" / f"x{path.name}")
    assert [len(volume.images) for volume in open_series(sorted((tmp_path / "a").iterdir()))] == [3, 3]
    bad = {
        "lie at the same place": [{}, {"InstanceNumber": 2}],
        "same series is of": [{}, {"ImagePositionPatient": [0, 0, 9]}],
        "lie in one direction": [{}, {"ImageOrientationPatient": [1, 0, 0, 0, 0, 1]}],
        "which is not read; decompress it": [{"syntax": JPEGLSLossless}],
        "must be MONOCHROME1 or MONOCHROME2, is RGB": [{"PhotometricInterpretation": "RGB"}],
        "more": [{"Rows": 60000, "Columns": 60000}],
    }
    for said, files in bad.items():
        folder = tmp_path / said
        folder.mkdir()
        for number, entries in enumerate(files):
            pixels = SLICES[0, :, : 11 - number] if said == "same series is of" else SLICES[0]
            syntax = entries.pop("syntax", None)
            data = dicom(pixels, **entries)
            if syntax:
                data = data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.80"[:20])
            (folder / str(number)).write_bytes(data)
        with pytest.raises(ValueError, match=rf"DICOM: .*{said}"):
            open_series(sorted(folder.iterdir()), scale="max")


def test_reports_are_left_out_and_deflated_files_named(tmp_path):
    folder = write_series(tmp_path / "a", SLICES)
    (folder / "report").write_bytes(dicom(SLICES[0], Rows=None))
    assert [len(volume.images) for volume in open_series(sorted(folder.iterdir()))] == [3]
    with pytest.raises(ValueError, match="report: has no pixels"):
        open_series([folder / "report"])
    (folder / "z").write_bytes(dicom(SLICES[0], SeriesInstanceUID="1.2.840.10008.1.2.1.99"))
    with pytest.raises(ValueError, match="z: is deflated as a whole"):
        open_series([folder / "z"])


def test_a_gap_between_slices_is_told(tmp_path):
    folder = write_series(tmp_path / "gap", SLICES)
    (folder / "IM009").write_bytes(dicom(SLICES[0], ImagePositionPatient=[10.0, 20.0, 20.0]))
    with pytest.warns(UserWarning, match="not evenly spaced, 4 to 12 mm"):
        (volume,) = open_series(sorted(folder.iterdir()))
    assert volume.affine is None


def test_dicom_is_known_by_ending_or_mark(tmp_path):
    (tmp_path / "IM1").write_bytes(dicom(SLICES[0]))
    (tmp_path / "notes").write_bytes(b"x" * 200)
    (tmp_path / "DICOMDIR").write_bytes(dicom(SLICES[0]))
    assert [is_dicom(tmp_path / name) for name in ("IM1", "notes", "DICOMDIR", "no.dcm")] == [True, False, False, True]
