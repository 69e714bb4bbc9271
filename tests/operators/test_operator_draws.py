"""Operators that are drawn: which, from what, for images of which size, and what is refused."""

import math

import numpy as np
import pytest
import torch

from unrolled.operators import (
    BlockCompressedSensing,
    Blur,
    CartesianMask,
    Coils,
    Dense,
    Downsampling,
    DrawnOperator,
    GaussianKernel,
    Inpainting,
    LinearOperator,
    MaskedFourier,
    MotionKernel,
    MultiCoilFourier,
    OneOfOperators,
    OperatorDraw,
    RadialMask,
    Radon,
    SamplingMask,
    Scaled,
)
from unrolled.operators.drawn_values import as_drawn
from unrolled.operators.operator_draws import merged
from unrolled.operators.unit_norm import norm_for_networks
from unrolled.system.recipes import build, describe

INPAINTING = Inpainting(keep=0.5, height=8, width=8)


def several(draw, count=200, sides=(8, 8)):
    return [draw.in_training(3, step, 0, sides) for step in range(count)]


def test_numbers_are_drawn_evenly_or_their_logarithms():
    parts = np.random.default_rng(0).random(4000)
    for given, expected in (
        ([2, 6], 4.0),
        ({"low": 0.01, "high": 1.0, "spread": "logarithmic"}, 0.99 / math.log(100)),  # the integral of x over dx/x
    ):
        drawn = [as_drawn("ratio", given, whole=False).at(part) for part in parts]
        assert np.mean(drawn) == pytest.approx(expected, rel=0.05)
        low, high = given if isinstance(given, list) else (given["low"], given["high"])
        assert low <= min(drawn)
        assert max(drawn) <= high
    whole = [as_drawn("angles", [3, 5], whole=True).at(part) for part in parts]
    assert {type(number) for number in whole} == {int}
    counts = [whole.count(number) / len(whole) for number in (3, 4, 5)]
    assert counts == pytest.approx([1 / 3] * 3, abs=0.03)
    logarithmic = as_drawn("angles", {"low": 10, "high": 1000, "spread": "logarithmic"}, whole=True)
    assert sum(logarithmic.at(part) < 100 for part in parts) / len(parts) == pytest.approx(0.5, abs=0.03)
    chosen = [as_drawn("factor", {"choices": ["a", 2]}, whole=True).at(part) for part in parts]
    assert chosen.count("a") / len(chosen) == pytest.approx(0.5, abs=0.03)
    assert as_drawn("seed", "anew", whole=True).at(1 - 1e-12) == 2**32 - 1


def test_an_operator_is_a_function_of_seed_step_and_group():
    draw = DrawnOperator(INPAINTING, {"keep": [0.2, 0.8], "seed": "anew"})
    masks = {
        key: draw.in_training(*key, sides=(8, 8)).mask.numpy().tobytes()
        for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    }
    assert len({*masks.values()}) == 4
    again = DrawnOperator(INPAINTING, {"keep": [0.2, 0.8], "seed": "anew"})
    assert all(again.in_training(*key, sides=(8, 8)).mask.numpy().tobytes() == mask for key, mask in masks.items())


def test_nested_arguments_are_drawn_and_sizes_follow_the_images():
    draw = DrawnOperator(
        MultiCoilFourier(Coils(2), CartesianMask(acceleration=4), 8, 8),
        {"mask.acceleration": [1.5, 4], "mask.seed": "anew", "maps.coils": [2, 5]},
    )
    operator = draw.in_training(0, 0, 0, (12, 40))
    assert operator.image_shape == (0, 12, 40)
    coils = {each.maps.shape[-3] for each in several(draw, 60, (12, 40))}
    assert coils == {2, 3, 4, 5}
    ratios = [float(each.sampling_ratio) for each in several(draw, 60, (12, 40))]
    assert min(ratios) < 0.3
    assert max(ratios) > 0.55
    assert 0.24 <= min(ratios) <= max(ratios) <= 0.7
    assert draw.typical.image_shape == (0, 8, 8)
    blur = DrawnOperator(Blur(MotionKernel(9)), {"kernel.length": [1, 3], "kernel.angle": [0, 180]})
    assert {max(each.kernel.shape) for each in several(blur, 20)} <= {1, 3, 5}
    assert all(isinstance(each.arguments["kernel"].length, float) for each in several(blur, 5))


def test_validation_has_an_operator_for_every_image_spread_evenly():
    draw = DrawnOperator(INPAINTING, {"keep": [0.0001, 1.0], "seed": "anew"})
    ratios = sorted(float(draw.in_validation(index, (64, 64)).sampling_ratio) for index in range(16))
    assert max(np.diff([0, *ratios, 1])) < 3 / 16
    first, again = draw.in_validation(3, (64, 64)), draw.in_validation(3, (64, 64))
    assert torch.equal(first.mask, again.mask)


def test_kinds_are_drawn_by_their_weights():
    down = DrawnOperator(Downsampling(2), {"factor": {"choices": [2, 3]}})
    draw = OneOfOperators([INPAINTING, down, Blur(GaussianKernel(1.0))], weights=[1, 2, 5])
    kinds = [type(operator) for operator in several(draw, 800, (12, 12))]
    for kind, expected in ((Inpainting, 1 / 8), (Downsampling, 2 / 8), (Blur, 5 / 8)):
        assert kinds.count(kind) / len(kinds) == pytest.approx(expected, abs=0.05)
    assert draw.multiple == 6
    assert draw.sides is None
    assert draw.typical is INPAINTING


def test_what_is_found_of_images_is_given_to_all_that_are_drawn():
    draw = OneOfOperators(
        [INPAINTING, DrawnOperator(BlockCompressedSensing(ratio=0.5, block=4), {"ratio": [0.2, 0.8]})]
    )
    draw.fit_images([torch.rand(1, 40, 40)])
    fitted = draw.draws[1].operator.autocorrelation
    drawn = [each for each in several(draw, 20) if isinstance(each, BlockCompressedSensing)]
    assert drawn
    assert all(each.fitted and torch.equal(each.autocorrelation, fitted) for each in drawn)


def test_a_few_operators_are_made_once_and_are_fitted_when_they_are_made():
    draw = DrawnOperator(BlockCompressedSensing(ratio=0.5, block=4), {"ratio": {"choices": [0.25, 0.5, 0.75]}})
    before = several(draw, 1)[0]
    draw.fit_images([torch.rand(1, 40, 40)])
    assert not before.fitted
    drawn = several(draw, 30)
    assert all(each.fitted for each in drawn)
    assert sorted(each.measurements for each in {id(each): each for each in drawn}.values()) == [4, 8, 12]
    sized = DrawnOperator(INPAINTING)
    first, other = (sized.in_training(0, 0, 0, sides) for sides in ((8, 8), (8, 16)))
    assert first is sized.in_training(0, 7, 0, (8, 8))
    assert other.image_shape == (0, 8, 16)


def test_normalized_operators_have_the_norm_1():
    draw = DrawnOperator(Radon(angles=10, height=8, width=8), {"angles": [5, 60]}, normalized=True)
    for operator in several(draw, 3, (12, 12)):
        assert isinstance(operator, Scaled)
        x = torch.eye(144).view(144, 1, 12, 12)
        assert float(torch.linalg.matrix_norm(operator(x).flatten(1), 2)) == pytest.approx(1, rel=1e-3)
        assert norm_for_networks(operator) == 1
    plain = DrawnOperator(INPAINTING, {"seed": "anew"}, normalized=True)
    assert all(isinstance(each, Inpainting) for each in several(plain, 3))


def test_operators_that_differ_in_masks_alone_are_one():
    draw = DrawnOperator(MaskedFourier(RadialMask(0.2), 8, 8), {"mask.ratio": [0.1, 0.9]})
    operators, counts = several(draw, 3), [2, 1, 3]
    x = torch.rand(6, 1, 8, 8)
    whole = merged(operators, counts)
    parts = [operator(part) for operator, part in zip(operators, x.split(counts), strict=True)]
    assert torch.equal(whole(x), torch.cat(parts))
    ratios = torch.cat([each.sampling_ratio.expand(count) for each, count in zip(operators, counts, strict=True)])
    torch.testing.assert_close(whole.sampling_ratio, ratios)
    coils = [MultiCoilFourier(Coils(2, radius), CartesianMask(), 8, 8) for radius in (1.5, 2.0)]
    assert merged(coils, [1, 1]) is None
    assert merged([INPAINTING, operators[0]], [1, 1]) is None
    assert merged([Blur(GaussianKernel(1.0))] * 2, [1, 1]) is None


def test_recipes_make_draws_again():
    draw = OneOfOperators([INPAINTING, DrawnOperator(Radon(angles=9, height=8, width=8), {"angles": [5, 9]})], [1, 3])
    again = build(describe(draw), OperatorDraw, OperatorDraw, LinearOperator, SamplingMask)
    assert describe(again) == describe(draw)
    assert [type(each) for each in several(again, 9)] == [type(each) for each in several(draw, 9)]


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"ratio": [0.1, 0.5]}, r"ranges has 'ratio', and Inpainting has mask, keep, height, width, seed"),
        ({"keep.ratio": [0.1, 0.5]}, r"ranges has 'keep.ratio', and float has no arguments"),
        ({"keep": [0.1, 1.5]}, r"keep must be in \(0, 1\], got 1.5"),
        ({"keep": [0.5, 0.1]}, r"ranges: keep: low must be less than high, got 0.5 and 0.1"),
        ({"keep": [0.1]}, r"ranges: keep: must be \[low, high\], .* got \[0.1\]"),
        ({"keep": "any"}, r"must be \[low, high\], .* got 'any'"),
        ({"keep": [0.1, math.inf]}, r"must be \[low, high\]"),
        ({"keep": {"low": 0, "high": 1, "spread": "logarithmic"}}, r"low must be > 0 for a logarithmic spread"),
        ({"keep": {"low": 0.1, "high": 1, "spread": "normal"}}, r"spread must be 'uniform' or 'logarithmic'"),
        ({"keep": {"choices": []}}, r"choices must be a list of at least one value"),
        ({"seed": [0.5, 3]}, r"ranges: seed: must be a range of whole numbers, got 0.5 and 3"),
        ([0.1, 0.5], r"ranges must be a dictionary of arguments"),
    ],
)
def test_ranges_that_are_none_are_refused_before_anything_is_drawn(ranges, message):
    with pytest.raises(ValueError, match=message):
        DrawnOperator(INPAINTING, ranges)


def test_operators_that_do_not_fit_are_refused():
    learned = BlockCompressedSensing(ratio=0.5, block=4, learned=True)
    with pytest.raises(ValueError, match="operator must not learn, and BlockCompressedSensing does"):
        DrawnOperator(learned)
    with pytest.raises(ValueError, match="operator must be a LinearOperator, got a int"):
        DrawnOperator(3)
    coils = MultiCoilFourier(Coils(2), CartesianMask(), 8, 8)
    with pytest.raises(ValueError, match="all be for real images or all for complex ones, got Inpainting, MultiCoil"):
        OneOfOperators([INPAINTING, coils])
    with pytest.raises(ValueError, match="weights must be one number > 0 for each of 1 kinds"):
        OneOfOperators([INPAINTING], [1, 2])
    with pytest.raises(ValueError, match="draws must be a list of operators"):
        OneOfOperators([])
    dense = DrawnOperator(Dense(np.eye(4, 16, dtype=np.float32), 4, 4))
    assert dense.sides == (4, 4)
    with pytest.raises(ValueError, match="Dense measures images of 4 × 4 pixels, got 8 × 8"):
        dense.in_training(0, 0, 0, (8, 8))
    with pytest.raises(ValueError, match="images of one size"):
        OneOfOperators([dense, Dense(np.eye(4, 25, dtype=np.float32), 5, 5)])
    both = {"complex_images": {"choices": [True, False]}}
    with pytest.raises(ValueError, match="must not hold operators on real images and on complex ones"):
        DrawnOperator(MaskedFourier(RadialMask(0.2), 8, 8), both)
