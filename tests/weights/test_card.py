"""Cards: read without trust, added to, and written whole or not at all."""

import json
from pathlib import Path

import pytest
import torch

import unrolled
from tests.weights.cases import PAIRS
from unrolled import weights


def test_facts_can_be_added_to_a_card(tmp_path):
    path = tmp_path / "w.safetensors"
    unrolled.save(path, *PAIRS["drawn matrix"]())
    weights.record(path, {"evaluation": {"a": {"psnr": 1.0}}})
    weights.record(path, {"evaluation": {"b": {"psnr": 2.0}}, "licence": "X"})
    card = weights.read_card(path)
    assert card["evaluation"] == {"a": {"psnr": 1.0}, "b": {"psnr": 2.0}}
    unrolled.load(path)


def write(path, header: dict | bytes, data: bytes = b"") -> None:
    """A safetensors file of exactly this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_headers_that_lie_are_refused(tmp_path):
    half, deep = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "[" * 200_000 + "]" * 200_000
    recipes = '{"format": 1, "network": {"class_path": "EPGN"}, "operator": {"class_path": "Dense"}, "n": '
    for name, header, message in [
        ("huge", {"a": {**half, "shape": [2**60], "data_offsets": [0, 2**62]}}, "cut short"),
        ("overlap", {"a": half, "b": half}, "cut short"),
        ("deep card", {"__metadata__": {"card": deep}}, "card that cannot be read"),
        ("digits", {"__metadata__": {"card": recipes + "9" * 10_000 + "}"}}, "card that cannot be read"),
        ("deep header", deep.encode(), "cut short"),
        ("list", {"__metadata__": {"card": "[]"}}, "not of a network of this project"),
        ("text", {"__metadata__": {"card": '"hello"'}}, "not of a network of this project"),
        ("name", {"__metadata__": {"card": '{"format": 1, "network": "EPGN", "operator": {}}'}}, "not of a network"),
    ]:
        write(tmp_path / name, header, bytes(8) if name in ("huge", "overlap") else b"")
        with pytest.raises(ValueError, match=rf"{name}.*{message}"):
            unrolled.load(tmp_path / name)
    (tmp_path / "long").write_bytes((2**63 - 1).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="cut short"):
        unrolled.load(tmp_path / "long")


def test_an_output_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot write"):
        unrolled.save(tmp_path / "file" / "w.safetensors", *PAIRS["drawn matrix"]())
    with pytest.raises(ValueError, match="cannot write"):
        unrolled.save(tmp_path, *PAIRS["drawn matrix"]())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("fact", [torch.ones(2), Path("a"), {"psnr": {1, 2}}, [object()]])
def test_facts_that_are_not_plain_values_are_refused_by_name(tmp_path, fact):
    path = tmp_path / "w.safetensors"
    with pytest.raises(ValueError, match="card: measured must be of plain values"):
        unrolled.save(path, *PAIRS["drawn matrix"](), {"measured": fact})
    assert not path.exists()
    unrolled.save(path, *PAIRS["drawn matrix"](), {"measured": 1})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="card: measured must be of plain values"):
        weights.record(path, {"measured": fact})
    assert path.read_bytes() == before
