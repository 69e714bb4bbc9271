import h5py
import numpy as np
import pytest
import torch

from tests.raw_files import header, lines_of, write_raw
from unrolled.data.kspace_fastmri import VolumeFacts
from unrolled.data.kspace_files import KSpace, read_kspace, volume_facts
from unrolled.system.cfl import write_cfl


def centered_fourier(x: np.ndarray) -> np.ndarray:
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x, axes), norm="ortho"), axes)


def centered_inverse(y: np.ndarray) -> np.ndarray:
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(y, axes), norm="ortho"), axes)


def random(*shape: int) -> np.ndarray:
    draw = np.random.default_rng(0)
    return (draw.normal(size=shape) + 1j * draw.normal(size=shape)).astype(np.complex64)


def write(path, **sets):
    with h5py.File(path, "w") as file:
        for name, value in sets.items():
            file[name] = value
    return path


def test_one_coil_in_the_layout_of_fastmri(tmp_path):
    x = np.random.default_rng(0).uniform(size=(3, 10, 8))
    y = centered_fourier(x).astype(np.complex64)
    y[..., :2] = y[..., -1:] = 0  # the padding
    truth = x[:, 2:8, 1:7].astype(np.float32)
    path = write(tmp_path / "volume.h5", kspace=y, reconstruction_esc=truth)
    for index, which in [(0, 0), (2, 2), (None, 1)]:
        kspace = read_kspace(path, index)
        np.testing.assert_array_equal(kspace.y.numpy(), y[which][None])
        np.testing.assert_array_equal(kspace.truth.numpy(), truth[which])
        np.testing.assert_array_equal(kspace.mask.numpy(), np.tile([0, 0, 1, 1, 1, 1, 1, 0], (10, 1)))
        assert kspace.centered
        assert kspace.ratio == pytest.approx(5 / 8)
    with pytest.warns(UserWarning, match="nearly all energy lies in the middle"):
        assert not read_kspace(path, centered=False).centered


def test_several_coils_with_a_mask(tmp_path):
    y = random(2, 3, 6, 5)
    y[..., 4] = 0
    mask = np.array([1, 0, 1, 0, 1], dtype=bool)  # the last column is padding, whatever the mask says
    path = write(tmp_path / "volume.hdf5", kspace=y, mask=mask, reconstruction_rss=np.ones((2, 4, 4)))
    kspace = read_kspace(path, 1)
    assert kspace.y.shape == (3, 6, 5)
    np.testing.assert_array_equal(kspace.mask.numpy(), np.tile([1, 0, 1, 0, 0], (6, 1)))
    np.testing.assert_array_equal(kspace.y.numpy(), y[1] * [1, 0, 1, 0, 0])
    assert kspace.truth.shape == (4, 4)


def test_a_mask_of_both_axes_is_taken_as_it_is(tmp_path):
    mask = np.random.default_rng(0).integers(0, 2, (6, 5))
    kspace = read_kspace(write(tmp_path / "volume.h5", kspace=random(1, 6, 5), mask=mask))
    np.testing.assert_array_equal(kspace.mask.numpy(), mask)
    assert (kspace.y[0][kspace.mask == 0] == 0).all()


def test_sampled_is_what_any_coil_measured(tmp_path):
    y = random(2, 4, 5)
    y[:, 1] = 0
    y[0, 2] = 0
    np.save(tmp_path / "y.npy", y)
    kspace = read_kspace(tmp_path / "y.npy", centered=False, axes="coil, height, width")
    np.testing.assert_array_equal(kspace.mask.numpy()[:, 0], [1, 0, 1, 1])


@pytest.mark.filterwarnings("ignore:k-space.*nearly all energy")  # so few numbers have an energy by chance
def test_numpy_files(tmp_path):
    for name, y, index, axes, expected in [
        ("plain", random(4, 5), None, None, random(4, 5)[None]),
        ("turned", random(4, 5), None, "width,height", random(4, 5).T[None]),
        ("coils", random(3, 4, 5).astype(np.complex128), None, "coil, height, width", random(3, 4, 5)),
        ("one", random(1, 4, 5), None, None, random(1, 4, 5)),
        ("slices", random(3, 4, 5), 2, "slice, height, width", random(3, 4, 5)[2:]),
        ("stack", random(7, 3, 4, 5), None, None, random(7, 3, 4, 5)[3]),
        ("stack", random(7, 3, 4, 5), 6, None, random(7, 3, 4, 5)[6]),
        ("last", random(4, 5, 3), None, "height, width, coil", random(4, 5, 3).transpose(2, 0, 1)),
        ("bart", random(3, 7, 4, 5), 6, "coil, slice, height, width", random(3, 7, 4, 5)[:, 6]),
    ]:
        np.save(tmp_path / f"{name}.npy", y)
        found = read_kspace(tmp_path / f"{name}.npy", index, centered=True, axes=axes).y
        assert found.dtype == torch.complex64
        np.testing.assert_array_equal(found.numpy(), expected)


def test_only_the_slice_is_read(tmp_path):
    # The other slice cannot be read: its filter is broken.
    with h5py.File(tmp_path / "volume.h5", "w") as file:
        data = file.create_dataset("kspace", data=random(2, 16, 16), chunks=(1, 16, 16), fletcher32=True)
        at = data.id.get_chunk_info(1).byte_offset
    with open(tmp_path / "volume.h5", "r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 8)
    assert read_kspace(tmp_path / "volume.h5", 0).y.shape == (1, 16, 16)
    with pytest.raises(ValueError, match="damaged"):
        read_kspace(tmp_path / "volume.h5", 1)


def test_undersampling_keeps_what_both_masks_have():
    y = torch.from_numpy(random(2, 4, 5))
    before = torch.ones(4, 5)
    before[:, 0] = 0
    mask = torch.tensor([1.0, 1, 0, 0, 1]).expand(4, 5)
    found = KSpace(y * before, before, True, torch.ones(3, 3)).undersampled(mask)
    np.testing.assert_array_equal(found.mask.numpy(), np.tile([0, 1, 0, 0, 1], (4, 1)))
    np.testing.assert_array_equal(found.y.numpy(), y.numpy() * [0, 1, 0, 0, 1])
    assert found.centered
    assert found.truth.shape == (3, 3)
    with pytest.raises(ValueError, match=r"mask: must be \(4, 5\) like k-space, got \(5, 4\)"):
        found.undersampled(torch.ones(5, 4))
    with pytest.raises(ValueError, match="leaves nothing"):
        found.undersampled(1 - before)


def with_nan(*shape: int) -> np.ndarray:
    y = random(*shape)
    y[..., 0, 0] = np.nan
    return y


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({}, "has no data set 'kspace'; it holds nothing"),
        ({"image": random(2, 4, 5)}, "has no data set 'kspace'; it holds image"),
        ({"kspace": random(2, 4, 5).real}, "must be complex, is float32"),
        ({"kspace": random(4, 5)}, r"must be \(slice, height, width\) or \(slice, coil, height, width\)"),
        ({"kspace": random(1, 2, 3, 4, 5)}, r"must be \(slice, height, width\) or"),
        ({"kspace": random(0, 4, 5)}, "none of them 0"),
        ({"kspace": with_nan(2, 4, 5)}, "must be finite, but 1 numbers"),
        ({"kspace": random(2, 4, 5).astype(np.complex128) * 1e300}, "must be finite"),
        ({"kspace": np.zeros((2, 4, 5), np.complex64)}, "is 0 everywhere in this slice"),
        ({"kspace": random(2, 4, 5), "mask": np.ones(4)}, r"mask must be numbers \(5,\) or \(4, 5\)"),
        ({"kspace": random(2, 4, 5), "mask": np.full(5, 0.5)}, "mask must be of 0 and 1"),
        ({"kspace": random(2, 4, 5), "mask": np.zeros(5)}, "is 0 wherever its mask samples it"),
        ({"kspace": random(2, 4, 5), "reconstruction_esc": np.ones((3, 4, 4))}, "'reconstruction_esc' must be"),
        ({"kspace": random(2, 4, 5), "reconstruction_rss": np.ones((2, 4, 4), int)}, "must be floating point"),
        ({"kspace": random(2, 4, 5), "reconstruction_rss": np.full((2, 4, 4), np.nan)}, "must be finite"),
    ],
)
def test_bad_volumes_are_refused(tmp_path, sets, message):
    with pytest.raises(ValueError, match=message):
        read_kspace(write(tmp_path / "volume.h5", **sets))


def test_bad_files_and_slices_are_refused(tmp_path):
    path = write(tmp_path / "volume.h5", kspace=random(2, 4, 5))
    for index in (2, -1):
        with pytest.raises(ValueError, match=f"has slices 0 … 1, got slice {index}"):
            read_kspace(path, index)
    (tmp_path / "broken.h5").write_bytes(b"not a volume")
    (tmp_path / "broken.npy").write_bytes(b"not an array")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "text.txt").write_text("1 2")
    np.save(tmp_path / "real.npy", np.ones((4, 5)))
    np.save(tmp_path / "line.npy", random(5))
    np.save(tmp_path / "none.npy", random(0, 5))
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}]), allow_pickle=True)
    for name, message in [
        ("broken.h5", "not an HDF5 file"),
        ("broken.npy", "cannot be read as .npy"),
        ("empty.npy", "cannot be read as .npy"),
        ("text.txt", "must end in one of"),
        ("nowhere.h5", "there is no file"),
        ("real.npy", "must be complex"),
        ("line.npy", "must be"),
        ("none.npy", "none of them 0"),
        ("objects.npy", "cannot be read"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_kspace(tmp_path / name)
    np.save(tmp_path / "one.npy", random(4, 5))
    with pytest.raises(ValueError, match="slice must be left out"):
        read_kspace(tmp_path / "one.npy", 0)


def test_links_and_empty_claims_are_not_followed(tmp_path):
    write(tmp_path / "other.h5", kspace=random(2, 4, 5))
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["kspace"] = h5py.ExternalLink("other.h5", "kspace")
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((2, 4, 5), np.complex64)
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "kspace", (2, 4, 5))
        file.create_virtual_dataset("kspace", layout)
    with h5py.File(tmp_path / "claims.h5", "w") as file:
        file.create_dataset("kspace", (10**4, 10**4, 10**4), np.complex64, chunks=(1, 100, 100))
    for name, message in [
        ("linked", "has no data set 'kspace'"),
        ("virtual", "lies in other files"),
        ("claims", "claims 8,000,000,000,000 bytes"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_kspace(tmp_path / f"{name}.h5")


def test_an_archive_and_a_group_are_named_for_what_they_are(tmp_path):
    np.savez(tmp_path / "archive.npz", kspace=random(4, 5))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    with pytest.raises(ValueError, match="archive of several arrays"):
        read_kspace(tmp_path / "archive.npy")
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("kspace")
    with pytest.raises(ValueError, match=r"group\.h5 has no data set 'kspace'"):
        read_kspace(tmp_path / "group.h5")


def disc(height: int = 48, width: int = 40) -> np.ndarray:
    """A picture with dark around it, that no shift leaves as it is."""
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    inside = np.hypot(rows, columns) < 0.7
    return inside * (1 + 0.5 * np.sin(5 * rows) * (columns > 0.1)) * np.exp(1j * columns)


LAYOUTS = {
    "fastMRI": (centered_fourier, True),
    "fft2": (np.fft.fft2, False),
    "fftshift of fft2": (lambda x: np.fft.fftshift(np.fft.fft2(x)), False),
    "fft2 of ifftshift": (lambda x: np.fft.fft2(np.fft.ifftshift(x)), True),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sampled", [1, 3])
@pytest.mark.parametrize("size", [(48, 40), (47, 41)])
@pytest.mark.filterwarnings("ignore:k-space.*cut in quarters")
def test_every_layout_of_the_fourier_transform_gives_the_picture(tmp_path, layout, sampled, size):
    transform, centered = LAYOUTS[layout]
    image = disc(*size)
    mask = np.zeros(size[1])
    mask[::sampled] = 1
    mask[size[1] // 2 - 4 : size[1] // 2 + 4] = 1
    mask = mask if layout in ("fastMRI", "fftshift of fft2") else np.fft.ifftshift(mask)
    np.save(tmp_path / "y.npy", transform(image) * mask)
    kspace = read_kspace(tmp_path / "y.npy")
    assert kspace.centered == centered
    y = kspace.y[0].numpy()
    back = np.fft.ifft2(np.fft.ifftshift(y) if centered else y)
    back = np.abs(np.fft.fftshift(back) if centered else back)
    back *= np.abs(image).sum() / back.sum()
    error, quartered = (np.abs(shown - np.abs(image)).sum() for shown in (back, np.fft.fftshift(back)))
    assert error < (0.5 if sampled > 1 else 1e-5) * quartered
    np.testing.assert_array_equal(kspace.mask.numpy(), np.broadcast_to((y != 0).any(0), size))


def test_where_the_zero_frequency_lies_is_asked_if_it_is_not_clear(tmp_path):
    np.save(tmp_path / "noise.npy", random(24, 20))
    with pytest.raises(ValueError, match=r"noise\.npy: it is not clear .* give centered"):
        read_kspace(tmp_path / "noise.npy")
    assert not read_kspace(tmp_path / "noise.npy", centered=False).centered
    assert read_kspace(write(tmp_path / "volume.h5", kspace=random(2, 24, 20))).centered  # as fastMRI has it
    corner = np.fft.fft2(np.fft.ifftshift(disc()))[None].astype(np.complex64)
    with pytest.warns(UserWarning, match="cut in quarters"):
        assert read_kspace(write(tmp_path / "corner.h5", kspace=corner)).centered


def test_three_axes_are_asked_for(tmp_path):
    np.save(tmp_path / "three.npy", random(3, 24, 20))
    with pytest.raises(ValueError, match=r"three\.npy: is \(3, 24, 20\), which may be coils or slices; give axes"):
        read_kspace(tmp_path / "three.npy")
    for axes in ("coil, height", "coil, coil, height, width", "x, height, width", ""):
        with pytest.raises(ValueError, match="axes: must be height, width"):
            read_kspace(tmp_path / "three.npy", axes=axes)
    with pytest.raises(ValueError, match=r"must be \(height, width\), none of them 0, is \(3, 24, 20\)"):
        read_kspace(tmp_path / "three.npy", axes="height, width")


def test_the_truth_of_one_coil_is_not_that_of_all(tmp_path):
    x = np.stack([np.abs(disc()), np.abs(disc())[::-1]])
    one = centered_fourier(x).astype(np.complex64)
    other = (1.7 * x + 0.2).astype(np.float32)
    both = write(tmp_path / "both.h5", kspace=one, reconstruction_rss=other, reconstruction_esc=x.astype(np.float32))
    np.testing.assert_allclose(read_kspace(both, 0).truth.numpy(), x[0], atol=1e-6)
    with pytest.warns(UserWarning, match="'reconstruction_rss', the image of all coils"):
        assert read_kspace(write(tmp_path / "all.h5", kspace=one, reconstruction_rss=other)).truth is None
    # Of this one coil, which full sampling tells, also the middle alone.
    own = write(tmp_path / "own.h5", kspace=one, reconstruction_rss=x[:, 4:-4, 5:-5].astype(np.float32))
    np.testing.assert_allclose(read_kspace(own, 1).truth.numpy(), x[1, 4:-4, 5:-5], atol=1e-6)
    several = np.stack([one, 0.5 * one], 1)
    path = write(tmp_path / "esc.h5", kspace=several, reconstruction_esc=other)
    with pytest.warns(UserWarning, match="'reconstruction_esc', the image of one coil"):
        assert read_kspace(path).truth is None


def test_k_space_of_arrays_is_checked():
    y, mask = random(2, 4, 5), np.ones((4, 5), bool)
    kspace = KSpace(y.astype(np.complex128)[:, ::-1], mask, True, -np.ones((3, 3)))
    assert (kspace.y.dtype, kspace.mask.dtype, float(kspace.truth.min())) == (torch.complex64, torch.float32, 1)
    np.testing.assert_array_equal(kspace.y.numpy(), y[:, ::-1])
    for wrong, message in (
        ({"y": y[0]}, r"y must be \(coil, height, width\)"),
        ({"y": y * np.nan}, "y must be finite"),
        ({"mask": mask.T}, r"mask must be \(4, 5\) like y"),
        ({"mask": 0.5 * mask}, "mask must be of 0 and 1"),
        ({"truth": np.ones(3)}, r"truth must be \(height, width\)"),
    ):
        with pytest.raises(ValueError, match=f"k-space: {message}"):
            KSpace(**{"y": y, "mask": mask, "centered": True, **wrong})


def test_pairs_are_complex_and_slices_whole_numbers(tmp_path):
    generator = np.random.default_rng(0)
    pairs = np.zeros((2, 8, 8), dtype=[("real", "f4"), ("imag", "f4")])
    pairs["real"], pairs["imag"] = generator.random((2, 2, 8, 8))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = pairs
    found = read_kspace(tmp_path / "a.h5", slice=np.int64(1), centered=True)
    np.testing.assert_array_equal(found.y[0], pairs[1]["real"] + 1j * pairs[1]["imag"])
    for wrong in (True, 1.0, "1"):
        with pytest.raises(ValueError, match="has slices 0 … 1, got slice"):
            read_kspace(tmp_path / "a.h5", slice=wrong, centered=True)
    torch.testing.assert_close(KSpace(found.y.conj(), found.mask, True).y, found.y.conj().resolve_conj())


def test_the_size_of_the_image_is_that_of_fastmris_header(tmp_path):
    y = random(2, 3, 20, 12)
    for name, text in {
        "text": header(image=(10, 10)),
        "bytes": np.bytes_(header(image=(10, 10)).encode()),
        "wide": header(image=(10, 16)),
    }.items():
        kspace = read_kspace(write(tmp_path / f"{name}.h5", kspace=y, ismrmrd_header=text))
        assert kspace.size == ((10, 12) if name == "wide" else (10, 10))
        assert kspace.undersampled(np.ones((20, 12))).size == kspace.size
    for text, message in (("<a>", "is no XML"), ("x" * 2**21, "at most 1,048,576 are read"), (3, "must be a text")):
        with pytest.warns(UserWarning, match=f"{message}.*; so the size of the image is not known"):
            assert read_kspace(write(tmp_path / "bad.h5", kspace=y, ismrmrd_header=text)).size is None


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("size", [(6, 7), (5, 9), (10, 4)])
def test_k_space_of_the_middle_shows_the_middle(centered, size):
    y = random(2, 10, 9)
    kspace = KSpace(y, np.ones((10, 9)), centered, size=(8, 5)).cropped(size)
    to_image = centered_inverse if centered else lambda y: np.fft.ifft2(y, norm="ortho")
    top, left = (10 - size[0]) // 2, (9 - size[1]) // 2
    expected = to_image(y)[:, top : top + size[0], left : left + size[1]]
    np.testing.assert_allclose(to_image(kspace.y.numpy()), expected, atol=1e-5)
    assert kspace.mask.shape == size
    assert kspace.size == (min(8, size[0]), min(5, size[1]))


def test_along_undersampled_lines_k_space_is_not_cut():
    mask = np.ones((10, 9))
    mask[:, ::2] = 0
    kspace = KSpace(random(2, 10, 9) * mask, mask, True).cropped((6, 9))
    np.testing.assert_array_equal(kspace.mask.numpy(), mask[:6])
    assert bool((kspace.y[:, kspace.mask == 0] == 0).all())
    with pytest.raises(ValueError, match="cannot be cut to a width of 5, because its lines along the width"):
        kspace.cropped((6, 5))
    for size in ((7, 9), (0, 3)):
        with pytest.raises(ValueError, match="size: must be within the image"):
            kspace.cropped(size)


def test_files_of_bart(tmp_path):
    y = random(2, 3, 12, 10)
    y[..., 5:8, 4:7] *= 30
    write_cfl(tmp_path / "y.cfl", y, "slice, coil, height, width")
    kspace = read_kspace(tmp_path / "y.cfl", 0)
    np.testing.assert_array_equal(kspace.y.numpy(), y[0])
    assert kspace.centered
    with pytest.raises(ValueError, match="axes: must be left out"):
        read_kspace(tmp_path / "y.cfl", axes="coil, height, width")
    write_cfl(tmp_path / "maps.cfl", y, "set, coil, height, width")
    with pytest.raises(ValueError, match="has 2 sets of maps, so it is not k-space"):
        read_kspace(tmp_path / "maps.cfl")


def test_raw_files_of_scanners_are_named_for_what_converts_them(tmp_path):
    with pytest.raises(ValueError, match="convert it to ISMRMRD first, by siemens_to_ismrmrd"):
        read_kspace(tmp_path / "meas.dat")


STATED = {"acquisition": "CORPDFS_FBK", "patient_id": "ä" * 40, "max": 3e-4, "norm": np.float32(0.5)}


def test_what_fastmri_states_of_a_volume(tmp_path):
    path = write(tmp_path / "volume.h5", kspace=random(4, 3, 6, 5))
    assert volume_facts(path) == VolumeFacts(4, (3, 6, 5))
    assert volume_facts(path, axes="coil, slice, height, width") == VolumeFacts(3, (4, 6, 5))
    with h5py.File(path, "a") as file:
        file.attrs.update(STATED)
    assert volume_facts(path) == VolumeFacts(4, (3, 6, 5), *STATED.values())
    # Other forms: of fixed length, and what is no text and no number.
    with h5py.File(path, "a") as file:
        file.attrs["acquisition"], file.attrs["patient_id"] = np.bytes_("AXT2"), 3
        file.attrs["max"], file.attrs["norm"] = "large", np.nan
    assert volume_facts(path) == VolumeFacts(4, (3, 6, 5), "AXT2")
    with h5py.File(tmp_path / "latest.h5", "w", libver="latest") as file:
        file["kspace"] = random(4, 6, 5)
        file.attrs.update(STATED)
    assert volume_facts(tmp_path / "latest.h5") == VolumeFacts(4, (1, 6, 5), None, None, 3e-4, 0.5)


def test_texts_that_claim_more_than_there_is_are_refused(tmp_path):
    path = write(tmp_path / "volume.h5", kspace=random(4, 6, 5))
    with h5py.File(path, "a") as file:
        file.attrs.update(STATED)
    whole = path.read_bytes()
    at = whole.index(b"acquisition\0") + 48  # behind its name, type and space, each in multiples of 8 bytes
    for claimed, message in ((2**32 - 1, "claims 4,294,967,295 bytes; at most 1,000"), (99, "claims 99 bytes, but 11")):
        path.write_bytes(whole[:at] + claimed.to_bytes(4, "little") + whole[at + 4 :])
        with pytest.raises(ValueError, match=message):
            volume_facts(path)


def test_the_shapes_of_other_files(tmp_path):
    np.save(tmp_path / "stack.npy", random(7, 3, 4, 5))
    np.save(tmp_path / "turned.npy", random(4, 5))
    write_cfl(tmp_path / "y.cfl", random(2, 3, 4, 5), "slice, coil, height, width")
    lines = [*lines_of(random(3, 20, 12)), *lines_of(random(3, 20, 12), slice=1)]
    assert volume_facts(tmp_path / "stack.npy") == VolumeFacts(7, (3, 4, 5))
    assert volume_facts(tmp_path / "turned.npy", axes="width, height") == VolumeFacts(1, (1, 5, 4))
    assert volume_facts(tmp_path / "y.cfl") == VolumeFacts(2, (3, 4, 5))
    assert volume_facts(write_raw(tmp_path / "raw.h5", lines)) == VolumeFacts(2, (3, 10, 12))
    other = write_raw(tmp_path / "other.h5", [*lines, *lines_of(random(2, 20, 12), slice=2)])
    with pytest.raises(ValueError, match="has 3 coils in slice 0, and 2 in slice 2"):
        volume_facts(other)
    assert read_kspace(other, 2).y.shape == (2, 10, 12)
