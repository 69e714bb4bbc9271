import struct

import h5py
import ismrmrd
import numpy as np
import pytest

from tests.raw_files import header, lines_of, readout, write_raw
from unrolled.data.kspace_fastmri import VolumeFacts
from unrolled.data.kspace_files import read_kspace, volume_facts

HEIGHT, WIDTH = 20, 12


def random(coils: int = 3, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(coils, height, width)) + 1j * draw.normal(size=(coils, height, width))


def images(y: np.ndarray) -> np.ndarray:
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(y, axes), norm="ortho"), axes)


def test_lines_come_to_their_places_and_margins_along_the_readout_are_cut(tmp_path):
    slices = [random(seed=seed) for seed in range(3)]
    acquisitions = [each for number, y in enumerate(slices) for each in lines_of(y, slice=2 * number)]
    path = write_raw(tmp_path / "raw.h5", [acquisitions[at] for at in np.random.default_rng(0).permutation(36)])
    for index, y in enumerate(slices):
        kspace = read_kspace(path, index)
        np.testing.assert_allclose(images(kspace.y.numpy()), images(y)[:, 5:15], atol=1e-5)
        assert kspace.mask.shape == (10, WIDTH)
        assert (kspace.ratio, kspace.centered, kspace.size) == (1, True, (10, 10))  # 200 of 240 mm, 10 of 12 lines
    assert read_kspace(path).y.equal(read_kspace(path, 1).y)
    with pytest.raises(ValueError, match="has slices 0 … 2, got slice 3"):
        read_kspace(path, 3)


def test_what_is_no_part_of_the_image_is_left_out(tmp_path):
    y, noise = random(), random(seed=9)
    flags = [ismrmrd.ACQ_IS_NOISE_MEASUREMENT, ismrmrd.ACQ_IS_NAVIGATION_DATA, ismrmrd.ACQ_IS_PHASECORR_DATA,
             ismrmrd.ACQ_IS_DUMMYSCAN_DATA, ismrmrd.ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA]  # fmt: skip
    others = [readout(noise[:2, :7, 0], 99, [flag]) for flag in flags]
    others.append(readout(noise[:, :, 0], 0, encoding_space_ref=1))
    # Both halves of a mean, and lines for calibration alone, of which those of another scan are not of this image.
    lines = [*lines_of(y + noise), *lines_of(y - noise, average=1)]
    calibration = [readout(y[:, :, line], line, [ismrmrd.ACQ_IS_PARALLEL_CALIBRATION]) for line in (5, 6)]
    both = [readout(y[:, :, 7], 7, [ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING])]
    whole = write_raw(tmp_path / "whole.h5", [*others, *lines])
    np.testing.assert_allclose(images(read_kspace(whole).y.numpy()), images(y)[:, 5:15], atol=1e-5)
    for mode, sampled in (("embedded", [1, 5, 6, 7]), ("separate", [1, 7])):
        path = write_raw(
            tmp_path / f"{mode}.h5", [*others, *calibration, *both, readout(y[:, :, 1], 1)], header(calibration=mode)
        )
        assert np.flatnonzero(read_kspace(path).mask[0]).tolist() == sampled


def test_partial_fourier_and_asymmetric_echoes(tmp_path):
    y = random(2, 20, 12)
    # 9 of 12 lines were measured, the zero frequency as line 3 of them.
    path = write_raw(tmp_path / "lines.h5", lines_of(y[:, :, 3:]), header(center=3, last=8))
    kspace = read_kspace(path)
    assert np.flatnonzero(kspace.mask[0]).tolist() == [*range(3, 12)]
    np.testing.assert_allclose(images(kspace.y.numpy()), images(y * (np.arange(12) >= 3))[:, 5:15], atol=1e-5)
    # Echoes of 14 samples, of which the fifth is the zero frequency, and two more at the ends that are thrown away.
    short = [readout(y[:, 4:20, line], line, center_sample=6, discard_pre=2, discard_post=1) for line in range(12)]
    path = write_raw(tmp_path / "echoes.h5", short)
    with pytest.warns(UserWarning, match="its echoes are asymmetric"):
        kspace = read_kspace(path)
    assert np.flatnonzero(kspace.mask[:, 0]).tolist() == [*range(6, 19)]
    np.testing.assert_allclose(kspace.y.numpy()[:, 6:19], y[:, 6:19], rtol=1e-6)
    assert (kspace.mask.shape, kspace.size) == ((20, 12), (10, 10))


def test_slices_of_three_dimensions_lie_across_the_readout(tmp_path):
    volume = random(2, 8 * 6, 5).reshape(2, 8, 6, 5)  # coil, readout, both phase encodings
    volume[:, :, 1, 3] = 0
    lines = [
        readout(volume[:, :, line, second], line, kspace_encode_step_2=second)
        for line in range(6)
        for second in range(5)
        if (line, second) != (1, 3)
    ]
    text = header(encoded=(8, 6), image=(4, 6), field=(400, 200), depth=5, center=3, last=5)
    path = write_raw(tmp_path / "raw.h5", lines, text)
    across = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(volume, 1), axis=1, norm="ortho"), 1)
    for index in range(4):
        kspace = read_kspace(path, index)
        np.testing.assert_allclose(kspace.y.numpy(), across[:, 2 + index], atol=1e-5)
        np.testing.assert_array_equal(kspace.mask.numpy(), across[0, 0] != 0)
        assert kspace.size == (6, 5)
    assert volume_facts(path) == VolumeFacts(4, (2, 6, 5))


def test_of_several_images_of_a_slice_the_first_is_taken(tmp_path):
    y = random()
    path = write_raw(tmp_path / "raw.h5", [*lines_of(random(seed=1), repetition=1), *lines_of(y)])
    with pytest.warns(UserWarning, match="has 2 images of each slice, by their repetition; the first is taken"):
        np.testing.assert_allclose(images(read_kspace(path).y.numpy()), images(y)[:, 5:15], atol=1e-5)


Y = random()


@pytest.mark.parametrize(
    ("acquisitions", "changed", "message"),
    [
        (lines_of(Y), {"trajectory": "radial"}, "has the trajectory 'radial'; only Cartesian"),
        (lines_of(Y), {"trajectory": "epi"}, "correct the phases of its echoes"),
        ([*lines_of(Y), *lines_of(Y, slice=1)], {"depth": 4}, "has 2 slabs of three dimensions"),
        (lines_of(Y, kspace_encode_step_2=1), {}, r"at \(0, 1\) of both phase encodings"),
        (lines_of(Y, flags=[ismrmrd.ACQ_IS_REVERSE]), {}, "read out in both directions"),
        (lines_of(Y, flags=[ismrmrd.ACQ_IS_NOISE_MEASUREMENT]), {}, "has no acquisition of an image among its 12"),
        (lines_of(Y, encoding_space_ref=1), {}, "has no acquisition of an image"),
        ([*lines_of(Y), *lines_of(Y[:2])], {}, "acquisitions of 2 and of 3 coils in slice 0"),
        (lines_of(Y), {"encoded": (20, 10)}, r"samples 0 … 19 at \(-1, 0\) of both .* matrix is \(20, 10, 1\)"),
        (lines_of(Y), {"encoded": (16, 12)}, r"samples -2 … 17 at \(0, 0\) .* matrix is \(16, 12, 1\)"),
        (lines_of(Y, discard_pre=30), {}, "samples 30 … 19"),
        (lines_of(0 * Y), {}, "is 0 everywhere"),
        (lines_of(Y * np.nan), {}, "must be finite"),
    ],
)
def test_what_cannot_be_taken_is_named(tmp_path, acquisitions, changed, message):
    path = write_raw(tmp_path / "raw.h5", acquisitions, header(**changed))
    with pytest.raises(ValueError, match=f"raw.h5.*{message}"):
        read_kspace(path)


def damaged(path, change) -> bytes:
    """What a heap's first entry and its reference become."""
    with h5py.File(path) as file:
        data = file["dataset/data"]
        at = data.id.get_chunk_info(0).byte_offset + data.id.get_type().get_member_offset(2)
    whole = bytearray(path.read_bytes())
    change(whole, at, struct.unpack_from("<Q", whole, at + 4)[0])
    path.write_bytes(whole)
    return bytes(whole)


def all_free(whole: bytearray, at: int, heap: int) -> None:
    whole[heap + 16 : heap + 32] = bytes(16)  # free space of the size 0, from which HDF5's library does not return


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda whole, at, heap: struct.pack_into("<I", whole, at, 2**32 - 1), "claims 17,179,869,180 bytes, but 480"),
        (lambda whole, at, heap: struct.pack_into("<I", whole, at, 3), "an entry claims 12 bytes, but 480"),
        (lambda whole, at, heap: struct.pack_into("<Q", whole, at + 4, 2**63), "there is no heap"),
        (lambda whole, at, heap: struct.pack_into("<Q", whole, heap + 8, 2**40), "reaches beyond the file"),
        (lambda whole, at, heap: struct.pack_into("<Q", whole, heap + 24, 2**62), "is damaged"),
        (all_free, "an entry claims .* but 0 are there"),
        (lambda whole, at, heap: whole.__delitem__(slice(-5000, None)), "cut short|beyond the file"),
    ],
)
def test_damaged_heaps_are_neither_followed_nor_waited_for(tmp_path, change, message):
    path = write_raw(tmp_path / "raw.h5", lines_of(Y))
    damaged(path, change)
    with pytest.raises(ValueError, match=message):
        read_kspace(path)


def test_other_lists_and_packed_ones_are_refused(tmp_path):
    whole = write_raw(tmp_path / "whole.h5", lines_of(Y))
    with h5py.File(whole) as source:
        numbers = source["dataset/data"][:]
        for name, sets, message in [
            ("packed", {"data": numbers, "compression": "gzip"}, "is compressed; write it again with: h5repack"),
            ("lists", {"data": numbers["data"], "dtype": numbers.dtype["data"]}, "has no acquisitions of this format"),
            ("heads", {"data": numbers["head"]}, "has no acquisitions of this format"),
            ("table", {"data": numbers[:, None]}, "must be a list"),
            ("nothing", {"shape": (12,), "dtype": numbers.dtype, "chunks": (4,)}, "claims 12 entries, but 0"),
        ]:
            with h5py.File(tmp_path / f"{name}.h5", "w") as file:
                source.copy("dataset/xml", file.create_group("dataset"))
                file["dataset"].create_dataset("data", **sets)
            with pytest.raises(ValueError, match=message):
                read_kspace(tmp_path / f"{name}.h5")
    for given in ({"axes": "coil, height, width"}, {"centered": False}):
        with pytest.raises(ValueError, match=r"(axes|centered): must be left out for .*whole\.h5"):
            read_kspace(whole, **given)
