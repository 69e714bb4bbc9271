"""Files of ISMRMRD, written by its own package."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import numpy as np

HEADER = """<?xml version="1.0" encoding="UTF-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace>
      <matrixSize><x>{encoded[0]}</x><y>{encoded[1]}</y><z>{depth}</z></matrixSize>
      <fieldOfView_mm><x>{field[0]}</x><y>{field[1]}</y><z>5</z></fieldOfView_mm>
    </encodedSpace>
    <reconSpace>
      <matrixSize><x>{image[0]}</x><y>{image[1]}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>200</x><y>200</y><z>5</z></fieldOfView_mm>
    </reconSpace>
    <encodingLimits>
      <kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum><center>{center}</center></kspace_encoding_step_1>
    </encodingLimits>
    <trajectory>{trajectory}</trajectory>
    <parallelImaging>
      <accelerationFactor><kspace_encoding_step_1>2</kspace_encoding_step_1>
        <kspace_encoding_step_2>1</kspace_encoding_step_2></accelerationFactor>
      <calibrationMode>{calibration}</calibrationMode>
    </parallelImaging>
  </encoding>
</ismrmrdHeader>
"""

USUAL = {"encoded": (20, 12), "image": (10, 10), "field": (400, 240), "depth": 1, "center": 6, "last": 11,
         "trajectory": "cartesian", "calibration": "embedded"}  # fmt: skip
"""Twice as many samples along the readout as the image has, and a fifth more lines."""


def header(**changed: Any) -> str:
    return HEADER.format(**{**USUAL, **changed})


def readout(samples: np.ndarray, line: int, flags: Iterable[int] = (), **more: Any) -> ismrmrd.Acquisition:
    """A readout (coil, samples), with numbers of its header or of its counters."""
    made = ismrmrd.Acquisition.from_array(samples.astype(np.complex64))
    made.center_sample = samples.shape[1] // 2
    made.idx.kspace_encode_step_1 = line
    for name, value in more.items():
        setattr(made.idx if hasattr(made.idx, name) else made, name, value)
    for flag in flags:
        made.set_flag(flag)
    return made


def lines_of(y: np.ndarray, **more: Any) -> list[ismrmrd.Acquisition]:
    """All lines of k-space (coil, readout, phase)."""
    return [readout(y[:, :, line], line, **more) for line in range(y.shape[2])]


def write_raw(path: Path, acquisitions: list[ismrmrd.Acquisition], text: str | None = None) -> Path:
    data = ismrmrd.Dataset(str(path))
    data.write_xml_header((header() if text is None else text).encode())
    data.close()
    rows = [ismrmrd.file.Acquisitions.to_numpy(each) for each in acquisitions]
    with h5py.File(path, "a") as file:
        buffer = np.array(rows, dtype=ismrmrd.hdf5.acquisition_dtype)
        file["dataset"].create_dataset("data", data=buffer, maxshape=(None,), chunks=(3,))
    return path
