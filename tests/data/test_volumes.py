import sys

import numpy as np
import pytest
import torch

from tests.helpers import picture, write_picture
from tests.volumes import dicom, nifti, write_series
from unrolled.data import ImageData, open_images
from unrolled.data.stores import to_float
from unrolled.data.volumes import find_volumes

VOLUME = (3000 * torch.cat([picture(12, 15, seed) for seed in range(3)])).numpy().astype(np.int16)
SCALE = (-1000, 3000)


def test_volumes_are_images_to_train_and_to_evaluate_on(tmp_path):
    write_series(tmp_path / "ct", VOLUME.astype(np.uint16))
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "v.nii.gz").write_bytes(nifti(VOLUME.transpose(2, 1, 0), packed=True))
    expected = (torch.from_numpy(VOLUME).float() + 1000) / 4000
    for source in ("ct", "n", "n/v.nii.gz"):
        images = open_images(tmp_path / source, scale=SCALE)
        torch.testing.assert_close(torch.cat([to_float(image.read()) for image in images]), expected)
    data = ImageData(train=[str(tmp_path)], hold_out=2, crop=11, scale=SCALE)
    store, held_out = data.load()
    assert (len(store), len(held_out)) == (4, 2)
    (tmp_path / "n" / "broken.nii").write_bytes(b"no volume")
    with pytest.raises(ValueError, match=r"NIfTI: .*broken.nii: is not a file of NIfTI"):
        open_images(tmp_path, scale=SCALE)


@pytest.mark.parametrize(("name", "library"), [("a.dcm", "pydicom"), ("a.nii", "nibabel")])
def test_what_is_not_installed_is_named(name, library, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(dicom(VOLUME[0]) if library == "pydicom" else nifti(VOLUME))
    for module in [each for each in sys.modules if each.partition(".")[0] == library]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, library, None)
    (found,) = find_volumes(tmp_path / name)
    assert found.error.endswith(f"{name}: is read with {library}: pip install 'unrolled[medical]'")


def test_what_is_in_a_folder_is_found_with_names_for_outputs(tmp_path):
    write_picture(tmp_path / "photo.one.jpg")
    write_series(tmp_path / "ct", VOLUME.astype(np.uint16))
    write_series(tmp_path / "two", VOLUME.astype(np.uint16))
    for path in write_series(tmp_path / "x", VOLUME.astype(np.uint16), SeriesInstanceUID="1.2.5").iterdir():
        path.rename(tmp_path / "two" / f"b{path.name}")
    write_series(tmp_path / "xray", VOLUME[:1].astype(np.uint16))
    (tmp_path / "v.nii.gz").write_bytes(nifti(VOLUME, packed=True))
    (tmp_path / "broken.h5").write_bytes(b"no images")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    found = {str(each.place): (each.ending, each.single, bool(each.error)) for each in find_volumes(tmp_path)}
    assert found == {
        "broken": (".h5", False, True),
        "ct": (".nii.gz", False, False),
        "photo.one": (".png", True, False),
        "two-1": (".nii.gz", False, False),
        "two-2": (".nii.gz", False, False),
        "v": (".nii.gz", False, False),
        "xray/IM001": (".nii.gz", True, False),
    }
    with pytest.raises(ValueError, match="there is no file or folder"):
        find_volumes(tmp_path / "nothing")
