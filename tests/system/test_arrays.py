"""Arrays from files: right, or refused with what is there."""

import io
import os
import pickle
import struct
import tracemalloc
import zlib
from functools import partial

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch

from tests.helpers import write_matrix
from unrolled.system.arrays import read_array
from unrolled.system.matlab import variables

read_matrix = partial(read_array, dimensions=2)
MATRIX = np.random.default_rng(0).normal(size=(4, 9))


@pytest.mark.parametrize("kind", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "c16", "c8", "?"])
@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_5_as_scipy_wrote_it(kind, compressed):
    for shape in ((4, 9), (1, 1), (3, 1), (2, 3, 4), (0, 3)):
        array = (np.random.default_rng(1).normal(size=shape) * 50 + (3j if "c" in kind else 0)).astype(kind)
        file = io.BytesIO()
        others = {"text": "hello", "struct": {"a": 1}, "cell": np.array([1, "a"], dtype=object)}
        scipy.io.savemat(file, {"x": array, "a_longer_name": array, **others}, do_compression=compressed)
        found = {name: (size, load) for name, size, _, load in variables(file.getvalue())}
        for name in ("x", "a_longer_name"):
            assert found[name][0] == shape
            np.testing.assert_array_equal(found[name][1](), array)
        assert all(found[name][1] is None for name in others)


@pytest.mark.parametrize("complex_numbers", [False, True])
@pytest.mark.parametrize("format", ["4", "5", "7.3"])
def test_every_version_of_matlab(tmp_path, format, complex_numbers):
    matrix = MATRIX * (1 + 2j) if complex_numbers else MATRIX
    path = tmp_path / "a.mat"
    if format == "7.3":
        with h5py.File(path, "w") as file:
            pairs = np.empty((9, 4), dtype=[("real", "f8"), ("imag", "f8")])
            pairs["real"], pairs["imag"] = matrix.T.real, matrix.T.imag
            file["phi"] = pairs if complex_numbers else matrix.T
    else:
        scipy.io.savemat(path, {"phi": matrix, "note": "text"}, format=format)
    found = read_matrix(path)
    assert found.dtype == (torch.complex128 if complex_numbers else torch.float64)
    np.testing.assert_array_equal(found.numpy(), matrix)


def test_names_choose_among_several(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"a": MATRIX, "b": 2 * MATRIX})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"], file["b"] = MATRIX, 2 * MATRIX
    for name in ("a.mat", "a.h5"):
        np.testing.assert_array_equal(read_matrix(tmp_path / name, "b").numpy(), 2 * MATRIX)
        with pytest.raises(ValueError, match=rf"{name} must hold one matrix; found: a \(.*4 × 9\), b \(.*4 × 9\)"):
            read_matrix(tmp_path / name)
        with pytest.raises(ValueError, match=rf"{name} must hold one matrix 'c'; found: a"):
            read_matrix(tmp_path / name, "c")


class Code:
    def __reduce__(self):
        return os.mkdir, ("canary",)


def test_objects_are_not_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "objects.npy", np.array([[Code()]]), allow_pickle=True)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(Code()))
    for name in ("objects.npy", "pickle.npy"):
        with pytest.raises(ValueError, match=rf"{name} cannot be read as \.npy"):
            read_matrix(tmp_path / name)
    assert not (tmp_path / "canary").exists()


def test_the_message_says_what_is_there(tmp_path):
    np.save(tmp_path / "vector.npy", MATRIX[0])
    np.save(tmp_path / "text.npy", np.array([["a"]]))
    np.savez(tmp_path / "archive.npz", a=MATRIX)
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    scipy.io.savemat(tmp_path / "sparse.mat", {"phi": scipy.sparse.eye(3), "note": "text"})
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_group("group")["phi"] = MATRIX
        file["text"], file["none"], file["one"] = "hello", h5py.Empty("f8"), 1.0
        file["soft"], file["away"] = h5py.SoftLink("/group/phi"), h5py.ExternalLink("empty.h5", "phi")
        file.create_dataset("raw", (4, 9), "f8", external=[(tmp_path / "vector.npy", 0, 288)])
        layout = h5py.VirtualLayout((4, 9), "f8")
        layout[:] = h5py.VirtualSource("empty.h5", "phi", (4, 9))
        file.create_virtual_dataset("virtual", layout)
    for name, message in {
        "vector.npy": r"found: vector \(float64, 9\)",
        "text.npy": r"found: text \(<U1, 1 × 1\)",
        "archive.npy": "an archive of several arrays",
        "sparse.mat": r"found: phi \(sparse, 3 × 3\), note \(char, 1 × 4\)",
        "empty.h5": "found: nothing",
        "other.h5": r"away \(link, not followed.*group \(group.*one \(float64, a single number\), "
        r"raw \(in another file.*soft \(link, not followed.*virtual \(in another file, 4 × 9\)",
    }.items():
        with pytest.raises(ValueError, match=rf"{name} .*{message}"):
            read_matrix(tmp_path / name)
    assert read_array(tmp_path / "other.h5", "one") == 1


def test_claims_are_not_believed(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000, 100000), }".ljust(117) + b"\n"
    (tmp_path / "large.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(80))
    with h5py.File(tmp_path / "large.h5", "w") as file:
        file.create_dataset("phi", (30_000, 30_000), "f8", chunks=(100, 100), fillvalue=1.0, compression="gzip")
    scipy.io.savemat(tmp_path / "five.mat", {"phi": MATRIX})
    five = (tmp_path / "five.mat").read_bytes()
    (tmp_path / "five.mat").write_bytes(five.replace(struct.pack("<2i", 4, 9), struct.pack("<2i", 40_000, 90_000)))
    scipy.io.savemat(tmp_path / "four.mat", {"phi": MATRIX}, format="4")
    four = (tmp_path / "four.mat").read_bytes()
    (tmp_path / "four.mat").write_bytes(four.replace(struct.pack("<2i", 4, 9), struct.pack("<2i", 40_000, 90_000)))
    for name, head in {"bomb": b"", "cell": struct.pack("<8I", 6, 8, 1, 0, 5, 8, 4, 9) + b"\1\0\4\0cell"}.items():
        packed = zlib.compress(struct.pack("<2I", 14, 4 * 10**7) + head + bytes(4 * 10**7 - len(head)), 1)
        (tmp_path / f"{name}.mat").write_bytes(five[:128] + struct.pack("<2I", 15, len(packed)) + packed)
    for path in sorted(tmp_path.iterdir()):
        tracemalloc.start()
        with pytest.raises(ValueError, match=rf"{path.name}"):
            read_matrix(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 20_000_000, path.name


@pytest.mark.parametrize("suffix", ["npy", "mat", "h5"])
def test_a_file_cut_anywhere_is_refused(tmp_path, suffix):
    path = write_matrix(tmp_path / f"a.{suffix}", MATRIX)
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"a\.{suffix}"):
            read_matrix(path)


def test_types_that_no_matlab_knows_are_refused(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"phi": MATRIX})
    whole = (tmp_path / "a.mat").read_bytes()
    at = whole.index(struct.pack("<2I", 9, MATRIX.nbytes))
    for kind in (0, 8, 99, 0x3939, 0xFFFF):
        (tmp_path / "a.mat").write_bytes(whole[:at] + struct.pack("<I", kind) + whole[at + 4 :])
        with pytest.raises(ValueError, match=r"a\.mat"):
            read_matrix(tmp_path / "a.mat")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    for path in (tmp_path / "pipe.npy", tmp_path, "x" * 5000 + ".npy", "/dev/zero"):
        with pytest.raises(ValueError, match="there is no file"):
            read_matrix(path)


def test_variables_that_are_cut_short_are_refused(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"phi": MATRIX})
    head = (tmp_path / "a.mat").read_bytes()[:128]
    flags = struct.pack("<8I", 6, 8, 6, 0, 5, 8, 4, 9)  # a matrix of numbers, without a name
    packed = zlib.compress(struct.pack("<2I", 9, 8) + bytes(8))  # numbers where a variable should be
    for name, element in {
        "short": struct.pack("<2I", 14, len(flags)) + flags,
        "other": struct.pack("<2I", 15, len(packed)) + packed,
    }.items():
        (tmp_path / f"{name}.mat").write_bytes(head + element)
    for name, reason in {"short": "a variable is cut short", "other": "a compressed element is not a variable"}.items():
        with pytest.raises(ValueError, match=rf"{name}.mat cannot be read as .mat: {reason}"):
            read_matrix(tmp_path / f"{name}.mat")


def write_cells(path, cells, **more):
    """A cell array as MATLAB 7.3 writes it: references to transposed matrices."""
    with h5py.File(path, "w") as file:
        inside = [file.create_dataset(f"#refs#/{number}", data=cell.T) for number, cell in enumerate(cells)]
        references = np.array([each.ref for each in inside], dtype=h5py.ref_dtype)
        file.create_dataset("kernels", data=references[:, None])
        for name, value in more.items():
            file[name] = value
    return path


def test_a_cell_of_a_cell_array_is_named_by_its_number(tmp_path):
    cells = [np.random.default_rng(n).normal(size=(3 + n, 5)) for n in range(3)]
    path = write_cells(tmp_path / "kernels.mat", cells, other=np.ones(4))
    for number, cell in enumerate(cells, 1):
        np.testing.assert_array_equal(read_matrix(f"{path}{{{number}}}").numpy(), cell)
    np.testing.assert_array_equal(read_matrix(write_cells(tmp_path / "one.mat", cells[:1])).numpy(), cells[0])
    for wrong in ("", "{4}", "{0}"):
        with pytest.raises(ValueError, match=r"must hold one matrix; found: .*kernels\{2\} .* FILE.mat\{1\}"):
            read_matrix(f"{path}{wrong}")
    with pytest.raises(ValueError, match=r"there is no file .*none.mat$"):
        read_matrix(tmp_path / "none.mat{1}")
    scipy.io.savemat(tmp_path / "five.mat", {"x": MATRIX})
    with pytest.raises(ValueError, match=r"must hold one matrix"):
        read_matrix(tmp_path / "five.mat{1}")
