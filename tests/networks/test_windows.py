"""Windows that maps are cut into, and how far chains of layers look through them."""

import pytest
import torch

from unrolled.networks.windows import Windows, reach_through


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize("size", [(6, 9), (7, 5), (1, 2)])
def test_every_pixel_is_in_the_window_of_its_place(size, shift):
    (height, width), side = size, 3
    rows = torch.arange(height).view(1, 1, -1, 1).expand(2, 1, -1, width)
    columns = torch.arange(width).view(1, 1, 1, -1).expand(2, 1, height, -1)
    image = torch.arange(2).view(2, 1, 1, 1).expand(2, 1, height, width)
    maps = torch.cat([image, rows, columns], dim=1)
    windows = Windows(height, width, side, shift)
    cut = windows.cut(maps + 1)
    assert cut.shape[1:] == (side**2, 3)
    inside = (cut > 0).all(2)
    assert inside.sum() == 2 * height * width
    assert inside.any(1).all()  # so that no window is empty
    own = windows.inside(maps.float())
    assert bool(inside.all()) if own is None else torch.equal(own.repeat(2, 1), inside)
    for pixels, within in zip(cut, inside, strict=True):
        image, row, column = (pixels[within] - 1).unbind(1)
        for numbers in (image, (row + shift) // side, (column + shift) // side):
            assert len(set(numbers.tolist())) == 1
    assert torch.equal(windows.joined(cut) - 1, maps)


@pytest.mark.parametrize(
    ("layers", "reach"),
    [
        ([], 0),
        ([1, 2], 3),
        ([(4, 0)], 3),
        ([(4, 2)], 3),
        ([(4, 0), (4, 0)], 3),  # the same windows again
        ([(4, 0), (4, 2)], 5),  # by half a window farther
        ([1, (4, 0), 1], 5),
        ([3, (11, 0), 3], 16),
        ([(2, 0), (3, 0)], 3),  # 0 1 2 | 3 4 5 see 0 … 3 and 2 … 5
    ],
)
def test_how_far_a_chain_looks(layers, reach):
    assert reach_through(layers) == reach
