"""Files of volumes for tests: slices of DICOM and NIfTI."""

import gzip
import io
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, MRImageStorage, RLELossless

ACROSS = [1, 0, 0, 0, 1, 0]
"""Rows to the left of a patient and columns to the back, as DICOM has them."""


def dicom(pixels: np.ndarray, *, frames: int = 1, syntax: str = ExplicitVRLittleEndian, **entries: Any) -> bytes:
    """A DICOM file of whole numbers of 8 or 16 bits, (height, width), or (frame, height, width); None leaves out."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = MRImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    bits = 8 * pixels.dtype.itemsize
    facts = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.4",
        "InstanceNumber": 1,
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelSpacing": [2.0, 3.0],
        "ImageOrientationPatient": ACROSS,
        "ImagePositionPatient": [10.0, 20.0, 0.0],
        "NumberOfFrames": frames if frames > 1 else None,
    }
    for name, value in {**facts, **entries}.items():
        if value is not None:
            setattr(data, name, value)
    if syntax == RLELossless:
        from pydicom.pixels.encoders import RLELosslessEncoder

        described = {
            "rows": pixels.shape[-2],
            "columns": pixels.shape[-1],
            "samples_per_pixel": 1,
            "number_of_frames": 1,
        }
        described |= {"bits_allocated": bits, "bits_stored": bits, "pixel_representation": 0}
        described |= {"photometric_interpretation": "MONOCHROME2"}
        data.PixelData = encapsulate([RLELosslessEncoder.encode(pixels, **described)])
        data["PixelData"].VR = "OB"
    else:
        data.PixelData = pixels.astype(
            pixels.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")
        ).tobytes()
        data["PixelData"].VR = "OB" if bits == 8 else "OW"
    out = io.BytesIO()
    dcmwrite(out, data, enforce_file_format=True)
    return out.getvalue()


def write_series(folder: Path, slices: np.ndarray, **entries: Any) -> Path:
    """Slices (slice, height, width) of whole numbers, each in a file, 4 mm apart; names are in another order."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(slices):
        place = [10.0, 20.0, 4.0 * number]
        facts = {"ImagePositionPatient": place, "InstanceNumber": number + 1, **entries}
        (folder / f"IM{len(slices) - number:03}").write_bytes(dicom(pixels, **facts))
    return folder


def nifti(
    array: np.ndarray, *, second: bool = False, packed: bool = False, slope: float = 1, inter: float = 0
) -> bytes:
    """A NIfTI file of an array (width, height, slice), of the first version or the second."""
    kind = nibabel.Nifti2Image if second else nibabel.Nifti1Image
    image = kind(array, np.diag([2.0, 3, 4, 1]))
    image.header.set_slope_inter(slope, inter)
    data = image.to_bytes()
    return gzip.compress(data, mtime=0) if packed else data
