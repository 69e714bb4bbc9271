import hashlib
import itertools

import numpy as np
import pytest
import torch

from unrolled.operators import CartesianMask, Coils, GaussianMask, RadialMask, UniformMask

ALL = [RadialMask(0.2), CartesianMask(4.0), CartesianMask(4.0, rows=True), CartesianMask(3.0, equispaced=True),
       UniformMask(0.2), GaussianMask(0.2)]  # fmt: skip


def drawn(mask, height: int, width: int) -> np.ndarray:
    return mask.draw(height, width).numpy()


def point_mirrored(mask: np.ndarray) -> np.ndarray:
    """The mask at the negative of every frequency, DC at [0, 0]."""
    rows, columns = (np.arange(side) * -1 % side for side in mask.shape)
    return mask[rows[:, None], columns]


@pytest.mark.parametrize("mask", ALL, ids=repr)
@pytest.mark.parametrize("shape", [(32, 48), (33, 21), (1, 1), (7, 1)])
def test_masks_are_of_0_and_1_and_sample_dc(mask, shape):
    found = drawn(mask, *shape)
    assert found.shape == shape
    assert set(np.unique(found)) <= {0, 1}
    assert found[0, 0] == 1
    np.testing.assert_array_equal(np.fft.fftshift(found), mask.centered(*shape))


@pytest.mark.parametrize(
    ("mask", "digest"),
    [
        (RadialMask(0.2), "74bd6f201402d96e"),
        (CartesianMask(4.0, seed=1), "5aa85aa5a5aa52de"),
        (CartesianMask(4.0, equispaced=True), "3db66db051418a78"),
        (UniformMask(0.3, seed=2), "186f888e1d148c4b"),
        (GaussianMask(0.2), "1fe6c14c4d473516"),
    ],
    ids=repr,
)
def test_masks_are_the_same_everywhere(mask, digest):
    # Written down once: weights keep the rule of a mask, so another machine must draw the same.
    packed = np.packbits(drawn(mask, 256, 240).astype(bool))
    assert hashlib.sha256(packed.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(64, 64), (33, 50)])
def test_ratios(ratio, shape):
    count = shape[0] * shape[1]
    assert drawn(UniformMask(ratio), *shape).sum() == round(ratio * count)
    assert drawn(GaussianMask(ratio), *shape).sum() == round(ratio * count)
    lines = drawn(RadialMask(ratio), *shape).sum()
    assert ratio * count <= lines < ratio * count + 3 * max(shape)  # no more than a few lines too many


@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.33, 0.7])
@pytest.mark.parametrize("shape", [(256, 256), (48, 64), (33, 33), (20, 31)])
def test_radial_masks_are_their_own_point_mirror_image(ratio, shape):
    found = drawn(RadialMask(ratio), *shape)
    np.testing.assert_array_equal(found, point_mirrored(found))


def test_radial_lines_have_no_gaps_and_thin_out():
    found = RadialMask(0.2).centered(65, 65)
    assert found[32].all()  # the horizontal line
    assert found[28:37, 28:37].all()
    radius = np.hypot(*np.mgrid[-32:33, -32:33])
    rings = [found[(radius >= a) & (radius < a + 8)].mean() for a in (0, 8, 16, 24)]
    assert all(inner > outer for inner, outer in itertools.pairwise(rings))


@pytest.mark.parametrize("equispaced", [False, True])
@pytest.mark.parametrize(("acceleration", "center"), [(4.0, 0.08), (8.0, 0.04), (2.0, 0.0), (4.0, 0.5)])
@pytest.mark.parametrize("width", [320, 321])
def test_cartesian_columns(equispaced, acceleration, center, width):
    found = CartesianMask(acceleration, center, equispaced).centered(10, width)
    assert (found == found[:1]).all()
    columns = found[0]
    middle = max(1, round(center * width))
    assert columns.sum() == max(middle, round(width / acceleration))
    first = width // 2 - middle // 2
    assert columns[first : first + middle].all()
    if equispaced and columns.sum() > middle:
        # The columns outside of the middle, numbered without it, are at equal distances, but for rounding.
        outside = np.delete(columns, np.arange(first, first + middle))
        gaps = np.diff(np.flatnonzero(outside))
        assert gaps.max() - gaps.min() <= 1


def test_cartesian_rows_are_columns_turned():
    rows = CartesianMask(4.0, rows=True).centered(40, 30)
    np.testing.assert_array_equal(rows, CartesianMask(4.0).centered(30, 40).T)


def test_gaussian_density_falls_with_the_radius_as_stated():
    draws = np.mean([GaussianMask(0.05, 0.15, seed).centered(64, 64) for seed in range(200)], axis=0)
    radius = np.hypot(*np.mgrid[-32:32, -32:32])
    rings = [draws[(radius >= a) & (radius < a + 4)].mean() for a in range(0, 32, 4)]
    assert all(inner > outer for inner, outer in itertools.pairwise(rings))
    # Where few are drawn, draws without replacement follow the density: exp(−r²/2σ²), σ = .15·64.
    far = (draws[(radius >= 24) & (radius < 26)].mean() / draws[(radius >= 18) & (radius < 20)].mean(),
           np.exp(-(25**2 - 19**2) / (2 * 9.6**2)))  # fmt: skip
    assert far[0] == pytest.approx(far[1], rel=0.35)


def test_seeds_make_other_masks():
    for kind in (CartesianMask, UniformMask, GaussianMask):
        assert (drawn(kind(seed=0), 32, 32) != drawn(kind(seed=1), 32, 32)).any()
        np.testing.assert_array_equal(drawn(kind(seed=1), 32, 32), drawn(kind(seed=1), 32, 32))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (RadialMask, {"ratio": 0.0}, r"RadialMask: ratio must be in \(0, 1\], got 0.0"),
        (UniformMask, {"ratio": 1.1}, "UniformMask: ratio"),
        (GaussianMask, {"ratio": float("nan")}, "GaussianMask: ratio"),
        (GaussianMask, {"spread": 0.0}, "GaussianMask: spread"),
        (GaussianMask, {"spread": float("inf")}, "GaussianMask: spread"),
        (CartesianMask, {"acceleration": 0.5}, "CartesianMask: acceleration"),
        (CartesianMask, {"center": 1.0}, r"CartesianMask: center must be in \[0, 1\)"),
        (CartesianMask, {"center": -0.1}, "CartesianMask: center"),
        (UniformMask, {"seed": -1}, "UniformMask: seed"),
        (CartesianMask, {"seed": 2**32}, "CartesianMask: seed"),
    ],
)
def test_bad_arguments_are_refused_by_name(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


@pytest.mark.parametrize("side", [32.5, 8.0, "8", True, 0, -3, None], ids=repr)
def test_sides_are_whole_numbers(side):
    for draw in (RadialMask(0.2).draw, UniformMask(0.2).draw, CartesianMask(2.0).draw, Coils(2).draw):
        with pytest.raises(ValueError, match=r": height must be a whole number >= 1, got "):
            draw(side, 8)
        with pytest.raises(ValueError, match=r": width must be a whole number >= 1, got "):
            draw(8, side)


def test_sides_may_be_numbers_of_numpy_and_of_tensors():
    expected = GaussianMask(0.2).draw(8, 7)
    assert torch.equal(GaussianMask(0.2).draw(np.int64(8), torch.tensor(7)), expected)
