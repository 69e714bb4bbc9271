"""What networks of several sizes share: their widths and how far they look."""

import pytest
import torch
import torch.nn.functional as F

from unrolled.networks.priors.pyramid import continued, farthest, next_multiple, widths


def seen(inward, outward, place, side):
    """The farthest pixel that one place depends on: all convolutions are sums, done on an image of one dimension."""
    z = torch.zeros(1, 1, side, dtype=torch.float64, requires_grad=True)

    def look(z, count):
        for _ in range(count):
            z = F.conv1d(z, torch.ones(1, 1, 3, dtype=z.dtype), padding=1)
        return z

    maps = z
    for count in inward[:-1]:
        maps = F.avg_pool1d(look(maps, count), 2)
    maps = look(maps, inward[-1])
    for count in reversed(outward):
        maps = look(maps.repeat_interleave(2, -1), count)
    (found,) = torch.autograd.grad(maps[0, 0, place], z)
    return int((found[0, 0].nonzero() - place).abs().max())


@pytest.mark.parametrize(
    ("inward", "outward"), [([2, 2], [2]), ([2, 2, 2], [2, 2]), ([3, 2, 1], [4, 0]), ([1, 0, 2, 1], [0, 1, 3])]
)
def test_the_reach_is_that_of_sums_written_out(inward, outward):
    unit, reach = 2 ** len(outward), farthest(inward, outward)
    middle = next_multiple(reach, unit)
    found = [seen(inward, outward, middle + place, next_multiple(2 * middle + 2 * unit, unit)) for place in range(unit)]
    assert max(found) == reach


def test_the_reach_of_two_convolutions_at_every_size_in_closed_form():
    for scales in range(1, 6):
        assert farthest([2] * (scales + 1), [2] * scales) == 6 * 2**scales - 4 + 2**scales - 1


def test_widths_double_or_are_given():
    assert widths("P", 3, 2) == [3, 6, 12]
    assert widths("P", [3, 4, 5], 2) == [3, 4, 5]


@pytest.mark.parametrize(
    ("features", "scales", "message"),
    [
        (0, 2, "P: features must be a whole number in 1"),
        (True, 2, "P: features must be a whole number in 1"),
        (8, 0, "P: scales must be a whole number in 1"),
        (8, 9999, "P: features at the smallest size must be a whole number in 1"),
        ([8, 16], 2, r"P: features must be a whole number, or one for each of 3 sizes, got \[8, 16\]"),
        ([8, 16, 0], 2, "P: features must be a whole number in 1"),
        ("8,8,8", 2, "P: features must be a whole number, or one"),
        (8.5, 2, "P: features must be a whole number, or one"),
    ],
)
def test_other_widths_are_refused(features, scales, message):
    with pytest.raises(ValueError, match=message):
        widths("P", features, scales)


def test_images_are_continued_by_their_last_pixels():
    z = torch.rand(1, 2, 3, 4)
    found = continued(z, 5, 4)
    assert torch.equal(found[..., :3, :], z)
    assert torch.equal(found[..., 3:, :], z[..., -1:, :].expand(-1, -1, 2, -1))
    assert continued(z, 2, 4) is z
