"""Data sets of HDF5 files: whether their numbers lie in the file itself, and what reading them unpacks."""

import math
from pathlib import Path
from typing import Any

from unrolled.system.claims import check_claim

CHECKING = {2, 3}
"""HDF5's numbers of the filters that keep the size: shuffle and Fletcher's checksum."""

ROUNDING = {5, 6}
"""And of those that keep fewer bits of each number, which may come before another: n-bit and scale-offset."""


def is_link(group: Any, name: str) -> bool:
    """Whether a name leads to another place, in this file or in another."""
    import h5py

    return not isinstance(group.get(name, getlink=True), h5py.HardLink)


def lies_elsewhere(data: Any) -> bool:
    """Whether the numbers of a data set are in other files, which would read as 0 if missing."""
    return bool(data.is_virtual or data.external)


def check_unpacking(path: Path, data: Any) -> None:
    """Raise ValueError if reading any number of a data set would unpack more than its file may ask for.

    Chunks are unpacked whole, by one filter after another.
    """
    name, size = data.name, path.stat().st_size
    if data.id.get_storage_size() > size:
        raise ValueError(f"{name!r} claims {data.id.get_storage_size():,} bytes of a file of {size:,}")
    if data.chunks is None:
        return
    check_claim(f"a chunk of {name!r}", math.prod(data.chunks) * data.dtype.itemsize, size)
    properties = data.id.get_create_plist()
    filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    packing = [number for number in filters if number not in CHECKING | ROUNDING]
    if len(packing) > 1 or len({*filters}) < len(filters):
        raise ValueError(f"{name!r} is packed more than once, by the filters {filters}; write it with one compression")
