"""Memory that tensors free and soon want again."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # the numbers of glibc's malloc.h


def keep_freed_memory(kept: int = 2**28, largest: int = 160 * 2**20) -> bool:
    """Let the C library keep freed memory for the next tensors, instead of giving it back to the system at once.

    Feature maps of an image of 512² are larger than what glibc keeps by itself. It then asks the system for fresh pages
    for every map, and filling those takes longer than the arithmetic: large images are reconstructed several times as
    fast with this (`benchmarks/allocation.py`). It holds for the whole process: the commands of this package call it,
    importing the package does not.

    Parameters
    ----------
    kept : int
        bytes of freed memory to keep at most at the end of the heap.
    largest : int
        tensors of more bytes than this are given back as before.

    Returns
    -------
    bool
        whether this C library can be told so (glibc, on Linux); elsewhere nothing is done.
    """
    for name, value in {"kept": kept, "largest": largest}.items():
        if not 0 < value < 2**31:
            raise ValueError(f"keep_freed_memory: {name} must be in 1 … 2^31 − 1 bytes, got {value!r}")
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, largest)) and bool(mallopt(_TRIM_THRESHOLD, kept))
