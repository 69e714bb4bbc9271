"""Small files that ask for much are refused before it is made."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import unrolled
from tests import bombs
from tests.fuzz import peak, resident
from tests.pairs import FULL
from unrolled.data import open_images, read_image
from unrolled.data.labelled_sources import read_labelled
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing
from unrolled.system.arrays import read_array
from unrolled.system.claims import FREE, PER_BYTE, Allowance, affordable, announce, check_claim, within

READERS = {"IMAGES": read_image, "SETS": open_images, "ARRAYS": read_array}

BOMBS = [(table, name) for table in READERS for name in getattr(bombs, table)]

REASONS = {
    "wide.png": "more than it can hold",
    "short.png": "lacks rows",
    "interlaced.png": "lacks rows",
    "scans.jpg": "scans",
    "blank.tif": "bytes of memory",
    "rows.h5": "bytes of memory",
    "chunk.h5": "a chunk of .* bytes of memory",
    "twice.h5": "packed more than once",
    "prepared.h5": "are links, which are not followed",
    "external.h5": "are links, which are not followed",
    "storage.h5": "lies in other files",
    "virtual.h5": "lies in other files",
    "stream.mat": "unpack to more numbers than its shape",
    "shape.mat": "bytes of memory",
    "never.h5": "more than it can hold",
}


@pytest.mark.parametrize(("table", "name"), BOMBS, ids=[f"{table.lower()}-{name}" for table, name in BOMBS])
def test_bombs_are_refused_by_name_and_before_memory_is_filled(tmp_path, table, name):
    path = tmp_path / name
    path.write_bytes(getattr(bombs, table)[name]())
    assert os.path.getsize(path) < 10**6
    before, began = resident(), time.process_time()
    with pytest.raises(ValueError, match=rf"(?s){name}.*{REASONS.get(name, '')}"):
        READERS[table](path)
    assert time.process_time() - began < 10
    assert peak() - before < 2**27


@pytest.mark.parametrize(("claimed", "held"), [(3 * 2**30, 0), *([(2**30, 2**30)] if FULL else [])])
def test_archives_unpack_no_more_than_they_may(tmp_path, claimed, held):
    path = bombs.archive_of_labels(tmp_path, claimed, held)
    before = resident()
    with pytest.raises(ValueError, match=r"cifar10_jpeg\.tar\.gz .*bytes of memory"):
        read_labelled("CIFAR-10-JPEG", path)
    assert peak() - before < 2**30


def test_a_file_pays_with_its_bytes():
    check_claim("it", FREE, 0)
    check_claim("it", FREE + 1000 * PER_BYTE, 1000)
    with pytest.raises(ValueError, match=r"it would take .* without compression"):
        check_claim("it", affordable(1000) + 1, 1000)


def test_what_is_kept_counts_until_it_is_gone():
    allowance = Allowance(100, "give more")
    things = [np.zeros(1) for _ in range(3)]
    for thing in things[:2]:
        allowance.hold(thing, 40)
    with pytest.raises(ValueError, match="more memory or work than is allowed, 100 bytes; give more"):
        allowance.hold(things[2], 40)
    del things[0], thing
    allowance.hold(things[-1], 40)
    allowance.spend(100)
    with pytest.raises(ValueError, match="more memory or work"):
        allowance.spend(1)


def test_what_numpy_makes_is_announced_where_an_allowance_is_in_force():
    announce(2**60)
    with within(Allowance(100, "")), pytest.raises(ValueError, match="more memory or work"):
        announce(101)


def test_an_argument_of_load_allows_more(tmp_path, monkeypatch):
    path = Path(tmp_path / "w.safetensors")
    unrolled.save(path, EPGN(1, 2), BlockCompressedSensing(ratio=0.6, block=16))
    with pytest.raises(ValueError, match="memory_mib must be >= 1"):
        unrolled.load(path, memory_mib=0)
    with pytest.raises(
        ValueError, match="more memory or work than is allowed, 1,048,576 bytes; memory_mib allows more"
    ):
        unrolled.load(path, memory_mib=1)
    operator = unrolled.load(path, memory_mib=100)[1]
    torch.testing.assert_close(operator.matrix, unrolled.load(path)[1].matrix, atol=0, rtol=0)
