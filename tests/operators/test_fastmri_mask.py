import numpy as np
import pytest

from unrolled.operators import FastMRIMask, MaskedFourier
from unrolled.operators.sampled_fourier import sampling_mask

NAME = "file1000000.h5"


def columns(mask: FastMRIMask, width: int) -> list[int]:
    found = mask.centered(2, width)
    assert (found[0] == found[1]).all()
    return np.flatnonzero(found[0]).tolist()


def test_columns_are_those_of_the_published_algorithm():
    # By hand from RandomState with the letters' numbers for its seed. Of 40 columns 3 are the middle, 19 … 21.
    numbers = np.random.RandomState([102, 105, 108, 101, *[49], *[48] * 6, 46, 104, 53]).uniform(size=40)
    likely = [4, 9, 10, 14, 23, 24, 28, 29, 32, 35]  # below (40/4 − 3)/(40 − 3) = .189
    assert numbers[likely].max() < 7 / 37 < np.delete(numbers, [*likely, 19, 20, 21]).min()
    assert columns(FastMRIMask(seed=NAME), 40) == sorted([*likely, 19, 20, 21])
    # Of 0 … 4 this seed draws 1; 4 (3 − 40)/(3·4 − 40) = 5.286 is the distance, so 6.286, 11.571, 16.857, 22.143 …
    assert columns(FastMRIMask(4, 0.08, "equispaced", NAME), 40) == [1, 6, 12, 17, 19, 20, 21, 22, 27, 33, 38]
    # Of 0 … 3 it draws 1, which is odd: from 20 + 1 + 2 to the right, and from 19 to the left.
    right_and_left = [3, 7, 11, 15, 19, 23, 27, 31, 35, 39]
    assert columns(FastMRIMask(4, 0.08, "magic", NAME), 40) == sorted([*right_and_left, 20, 21])
    # An even draw, 4 of 0 … 7: from 32 + 5 to the right, and from 31 − 6 to the left.
    assert np.random.RandomState(0).randint(0, 8) == 4
    assert columns(FastMRIMask(8, 0.04, "magic", 0), 64) == [1, 9, 17, 25, 31, 32, 33, 37, 45, 53, 61]


@pytest.mark.parametrize("width", [320, 368, 203])
@pytest.mark.parametrize(("acceleration", "center"), [(4, 0.08), (8, 0.04)])
def test_masks_have_the_properties_that_their_papers_state(acceleration, center, width):
    middle = round(center * width)
    first = (width - middle + 1) // 2
    counts = {}
    for kind in ("random", "equispaced", "magic"):
        masks = [FastMRIMask(acceleration, center, kind, seed).centered(1, width)[0] for seed in range(60)]
        assert all(mask[first : first + middle].all() for mask in masks)
        counts[kind] = np.array([mask.sum() for mask in masks])
    deviation = counts["random"].std() / np.sqrt(60)
    assert abs(counts["random"].mean() - width / acceleration) < 4 * deviation
    assert abs(counts["equispaced"] - width / acceleration).max() <= 2
    assert counts["magic"].min() > width / acceleration
    # Outside of the middle no column of a magic mask mirrors another.
    mask = masks[0].copy()
    mask[first - 1 : first + middle + 1] = False
    mirrored = mask[1 - width % 2 :][::-1]
    assert not (mask[1 - width % 2 :] & mirrored).any()


def test_a_mask_serves_where_masks_do():
    mask = FastMRIMask(4, 0.1, seed=NAME)
    operator = MaskedFourier(mask, 8, 40, centered=True)
    np.testing.assert_array_equal(operator.mask.numpy(), mask.centered(8, 40))
    drawn = sampling_mask("x", mask, 8, 40)
    np.testing.assert_array_equal(np.fft.fftshift(drawn.numpy()), mask.centered(8, 40))
    assert FastMRIMask(seed=np.int64(3)) == FastMRIMask(seed=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"acceleration": 1.0}, "acceleration must be in"),
        ({"acceleration": float("nan")}, "acceleration must be in"),
        ({"center": 0.0}, "center must be in"),
        ({"columns": "poisson"}, "columns must be random, equispaced or magic, got 'poisson'"),
        ({"columns": "magic", "acceleration": 4.5}, "a whole number >= 3 for magic columns, got 4.5"),
        ({"seed": -1}, "seed must be in"),
        ({"seed": ""}, "got an empty name"),
        ({"seed": 0.5}, "seed must be a whole number"),
    ],
)
def test_bad_arguments_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=f"FastMRIMask: .*{message}"):
        FastMRIMask(**options)


def test_a_middle_without_columns_or_with_all_of_them_is_refused():
    for mask, width in ((FastMRIMask(4, 0.08), 6), (FastMRIMask(4, 0.25), 40), (FastMRIMask(8, 0.2), 320)):
        with pytest.raises(ValueError, match=f"of {width} columns .* give another center or acceleration"):
            mask.draw(4, width)
