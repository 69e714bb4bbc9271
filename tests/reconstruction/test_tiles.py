"""Tiles change memory, not images."""

import functools
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers import picture
from tests.pairs import first_of
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing, Dense
from unrolled.reconstruction.pipeline import from_measurements
from unrolled.reconstruction.tiles import in_tiles

ROOT = Path(__file__).parents[2]


def case(**options):
    torch.manual_seed(0)
    network = EPGN(features=4, **{"phases": 3, **options})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    operator = BlockCompressedSensing(ratio=0.25, block=11)
    return network, operator, operator(torch.stack([picture(88, 143, seed) for seed in range(2)]))


@pytest.mark.parametrize("options", [{"phases": 2, "shared": True}, {"phases": 2, "nonlocal_window": 7}], ids=str)
@pytest.mark.parametrize("tile", first_of([34, 1, 77]))
def test_tiles_give_the_image_of_the_whole(options, tile):
    # The laws of networks say so too, of every network.
    network, operator, y = case(**options)
    with torch.no_grad():
        expected = network(y, operator)
    assert 0.1 < expected.std() < 2
    torch.testing.assert_close(in_tiles(y, network, operator, tile), expected, atol=1e-5, rtol=0)


def test_tiles_need_an_operator_that_has_parts():
    dense = Dense(torch.randn(30, 100), 10, 10)
    y = dense(torch.rand(1, 1, 10, 10))
    with pytest.raises(ValueError, match="tile: Dense measures the image as a whole"):
        in_tiles(y, EPGN(1, 2), dense)
    with pytest.raises(ValueError, match="every measurement sees the whole image"):
        dense.crop(y, 0, 0, 5, 5)
    network, operator, y = case()
    with pytest.raises(ValueError, match="tile: must be a whole number >= 1, got 0"):
        in_tiles(y, network, operator, 0)
    with pytest.raises(ValueError, match="multiples of 11"):
        operator.crop(y, 0, 5, 11, 11)


@pytest.mark.usefixtures("fresh_compiler")
def test_tiles_of_the_interior_may_be_compiled(monkeypatch):
    graphs = []

    def backend(graph, inputs):
        graphs.append(inputs)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    network, operator, _ = case(phases=2)
    y = operator(picture(99, 99, 0).unsqueeze(0))
    expected = network(y, operator)
    torch.testing.assert_close(in_tiles(y, network, operator, 33, compiled=True), expected, atol=1e-5, rtol=0)
    assert len(graphs) == 1  # for all phases, for they differ in their weights alone


def test_large_images_are_tiled_without_being_asked(monkeypatch):
    network, operator, y = case()
    whole = from_measurements(y[:1], network, operator)
    monkeypatch.setitem(from_measurements.__globals__, "WHOLE", 1000)
    monkeypatch.setitem(from_measurements.__globals__, "TILE", 33)
    torch.testing.assert_close(from_measurements(y[:1], network, operator), whole, atol=1e-5, rtol=0)
    monkeypatch.setattr(EPGN, "forward", None)  # the whole is not tried
    from_measurements(y[:1], network, operator)


LARGE = """
import sys, torch, unrolled
from benchmarks.machine import peak_resident
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing
torch.set_num_threads(1)
network, operator = EPGN(1, int(sys.argv[1])), BlockCompressedSensing(ratio=0.04)
for side in map(int, sys.argv[2:]):
    image = torch.linspace(0, 1, side).expand(1, side, side).contiguous()
    found = unrolled.reconstruct(image, network, operator)
    assert found.shape == image.shape
    assert (found[:, 300:-300:89, 300:-300:97] - image[:, 300:-300:89, 300:-300:97]).abs().max() < 0.05
    print(peak_resident())
"""


@pytest.mark.full
def test_a_hundred_megapixels_fit_into_two_gibibytes():
    sides = (1650, 9999)
    command = [sys.executable, "-c", LARGE, "8", *map(str, sides)]
    child = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert child.returncode == 0, child.stderr
    small, large = map(int, child.stdout.split())
    per_pixel = (large - small) / (sides[1] ** 2 - sides[0] ** 2)
    assert per_pixel > 8  # the image and its reconstruction, at the least
    assert small + per_pixel * (10**8 - sides[0] ** 2) < 2 * 2**30
