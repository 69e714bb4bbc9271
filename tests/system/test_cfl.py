import numpy as np
import pytest
import torch

from unrolled.system.arrays import read_array
from unrolled.system.cfl import open_cfl, write_cfl


def random(*shape: int) -> np.ndarray:
    draw = np.random.default_rng(0)
    return (draw.normal(size=shape) + 1j * draw.normal(size=shape)).astype(np.complex64)


def by_hand(path, array: np.ndarray, lengths: str, more: str = "") -> None:
    """Bytes as BART's documentation has them."""
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{lengths}\n{more}")
    path.write_bytes(array.astype("<c8").tobytes(order="F"))


def test_axes_are_those_of_bart(tmp_path):
    y = random(5, 4, 3, 2)  # readout, phase, coil, slice
    by_hand(tmp_path / "y.cfl", y, "5 4 1 3 1 1 1 1 1 1 1 1 1 2 1 1 ", "# Command\nfft -u 3 x y\n# Creator\nBART 0.9\n")
    found = open_cfl(tmp_path / "y.cfl")
    assert (found.shape, found.dtype) == ((2, 1, 3, 5, 4), np.complex64)
    np.testing.assert_array_equal(found[:, 0], y.transpose(3, 2, 0, 1))
    by_hand(tmp_path / "short.cfl", y[..., 0], "5 4 1 3")
    np.testing.assert_array_equal(open_cfl(tmp_path / "short.cfl")[0, 0], y[..., 0].transpose(2, 0, 1))


def test_what_is_written_is_read_again(tmp_path):
    for axes, y in {
        "height, width": random(5, 4),
        "coil, height, width": random(3, 5, 4),
        "set, coil, height, width": random(2, 3, 5, 4),
        "width, slice, coil, height": random(4, 2, 3, 5),
    }.items():
        write_cfl(tmp_path / "y.cfl", torch.from_numpy(y), axes)
        names = axes.split(", ")
        order = [name for name in ("slice", "set", "coil", "height", "width") if name in names]
        expected = y.transpose([names.index(name) for name in order])
        np.testing.assert_array_equal(open_cfl(tmp_path / "y.cfl").reshape(expected.shape), expected)
        np.testing.assert_array_equal(read_array(tmp_path / "y.cfl").numpy(), expected)
    text = (tmp_path / "y.hdr").read_text()
    assert text.splitlines()[:2] == ["# Dimensions", "5 4 1 3 1 1 1 1 1 1 1 1 1 2 1 1"]
    assert {path.name for path in tmp_path.iterdir()} == {"y.cfl", "y.hdr"}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "must be a short text"),
        ("# Dimensions\n", "must be a short text"),
        ("# Dimensions\n5 4 0 3\n", "lengths >= 1"),
        ("# Dimensions\n5 4 -1\n", "lengths >= 1"),
        ("# Dimensions\n5 4e9\n", "lengths >= 1"),
        ("# Dimensions\n" + "1 " * 17, "at most 16"),
        ("# Dimensions\n5 4 1 3\n" + "#" * 2**16, "must be a short text"),
        ("# Dimensions\n5 4\n", "has 480 bytes, but its header states 160"),
        ("# Dimensions\n" + "999999999 " * 3, "has 480 bytes, but its header states 7,9"),
        ("# Dimensions\n5 4 3\n", r"has 3 of second phase \(axis 2\)"),
        ("# Dimensions\n5 4 1 1 1 1 1 1 1 1 3\n", r"has 3 of time \(axis 10\)"),
    ],
)
def test_headers_that_do_not_fit_are_refused(tmp_path, header, message):
    by_hand(tmp_path / "y.cfl", random(5, 4, 3), "5 4 1 3")
    (tmp_path / "y.hdr").write_text(header)
    for read in (open_cfl, read_array):
        with pytest.raises(ValueError, match=message):
            read(tmp_path / "y.cfl")


def test_files_that_are_missing_or_of_others_are_named(tmp_path):
    (tmp_path / "y.cfl").write_bytes(bytes(8))
    with pytest.raises(ValueError, match=r"there is no file .*y\.hdr; an array is a \.cfl and a \.hdr"):
        open_cfl(tmp_path / "y.cfl")
    (tmp_path / "y.hdr").write_text("of another program")
    with pytest.raises(ValueError, match=r"y\.hdr is there, and is no header of this format"):
        write_cfl(tmp_path / "y.cfl", random(5, 4), "height, width")
    for path, axes in (("y.npy", "height, width"), ("z.cfl", "height"), ("z.cfl", "height, width, time")):
        with pytest.raises(ValueError, match=r"must end in|axes must be"):
            write_cfl(tmp_path / path, random(5, 4), axes)
    assert not (tmp_path / "z.cfl").exists()
