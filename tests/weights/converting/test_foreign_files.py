"""State dictionaries of other programs: found whatever is around them, and refused if they need code or lie."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import pytest
import safetensors.torch
import torch

from unrolled.weights.converting.foreign_files import read_foreign

STATE = OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.tensor([1, 2]))


def saved(thing, path, legacy=False):
    torch.save(thing, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize(
    "around",
    [
        lambda state: state,
        lambda state: {f"module.{key}": tensor for key, tensor in state.items()},
        lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"state": {0: {"step": 5}}, "lr": 1e-4}},
        lambda state: {"model": {f"module.{key}": tensor for key, tensor in state.items()}, "args": None},
        lambda state: OrderedDict(
            (key, torch.nn.Parameter(t) if t.is_floating_point() else t) for key, t in state.items()
        ),
    ],
)
def test_it_is_found_whatever_is_around_it(around, legacy, tmp_path):
    found = read_foreign(saved(around(STATE), tmp_path / "w.pkl", legacy))
    assert found.name == "w.pkl"
    assert found.tensors.keys() == STATE.keys()
    for key, tensor in STATE.items():
        assert torch.equal(found.tensors[key], tensor)
        assert not found.tensors[key].requires_grad


@pytest.mark.parametrize("count", [ord("Q"), ord("P"), ord("("), 0])
def test_numbers_are_not_taken_for_what_pickles_do(count, tmp_path):
    # In older files they follow the pickles, headed by their count: "Q" would ask for a storage.
    state = {"a": torch.full((count,), 1.0), "b": torch.frombuffer(bytearray(b"QQQQ(t.Q"), dtype=torch.float32)}
    found = read_foreign(saved(state, tmp_path / "w.pkl", legacy=True)).tensors
    assert all(torch.equal(found[key], tensor) for key, tensor in state.items())


def test_safetensors_are_taken_too(tmp_path):
    safetensors.torch.save_file(dict(STATE), tmp_path / "w.bin")
    assert torch.equal(read_foreign(tmp_path / "w.bin").tensors["a"], STATE["a"])


class Code:
    def __reduce__(self):
        return os.mkdir, ("canary",)


def lying(path, count):
    """An older file whose one storage claims so many numbers, of which it has 1000."""
    saved({"a": torch.zeros(1000)}, path, legacy=True)
    data = path.read_bytes()
    place = data.index(b"M" + struct.pack("<H", 1000), data.index(b"cpu"))
    path.write_bytes(data[:place] + b"J" + struct.pack("<i", count) + data[place + 3 :])
    return path


def packed(path):
    saved(dict(STATE), path)
    out = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    path.write_bytes(out.getvalue())
    return path


def written(data):
    def write(path):
        path.write_bytes(data)
        return path

    return write


CODE = "needs code of another program to be read, {}, which is not run"

REFUSED = {
    "nothing there": (lambda path: path, "cannot be read: No such file"),
    "a folder": (lambda path: path.parent, "cannot be read: Is a directory"),
    "empty": (written(b""), "is no file of torch.save, nor of safetensors"),
    "text": (written(b"hello, world"), "is no file of torch.save, nor of safetensors"),
    "a plain pickle": (written(pickle.dumps({"a": 1})), "is no file of torch.save"),
    "code": (lambda path: saved({"a": Code()}, path), CODE.format(".*mkdir")),
    "code, older": (lambda path: saved({"a": Code()}, path, legacy=True), CODE.format(".*mkdir")),
    "a module": (lambda path: saved(torch.nn.ReLU(), path), CODE.format("torch.nn.modules.activation.ReLU")),
    "a module, older": (lambda path: saved(torch.nn.ReLU(), path, legacy=True), CODE.format("torch.*ReLU")),
    "a tensor": (lambda path: saved(torch.zeros(3), path), "no state dictionary, names and tensors, but a Tensor"),
    "nothing": (lambda path: saved({}, path), "holds no state dictionary"),
    "other things": (lambda path: saved({"a": torch.zeros(2), "b": "text"}, path), "'b' is 'text'"),
    "numbers for names": (lambda path: saved({1: torch.zeros(2)}, path), "1 is a Tensor"),
    "not a number": (lambda path: saved({"a": torch.tensor([0, float("nan")])}, path), "'a' holds NaN or inf"),
    "sparse": (
        lambda path: saved({"a": torch.eye(3).to_sparse()}, path),
        "'a' is no plain tensor|holds no weights that can be read",
    ),
    "a view larger than the file": (
        lambda path: saved({"a": torch.zeros(1).expand(10**6, 10**5)}, path, legacy=True),
        "tensors are larger than the file",
    ),
    "a storage that it has not": (lambda path: lying(path, 2**31 - 1), "it claims 2,147,483,647 numbers"),
    "a storage that ends early": (lambda path: lying(path, 2000), "holds no weights that can be read"),
    "packed": (packed, "it is packed, which files of torch.save are not"),
    "safetensors cut short": (lambda path: written(safetensors.torch.save(dict(STATE))[:-8])(path), "is cut short"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_others_are_refused_and_nothing_is_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write, message = REFUSED[name]
    path = write(tmp_path / "w.pkl")
    with pytest.raises(ValueError, match=message):
        read_foreign(path)
    assert not (tmp_path / "canary").exists()


def test_what_is_no_name_of_a_file_is_refused():
    with pytest.raises(ValueError, match="weights: must be the name of a file, got a dict"):
        read_foreign(dict(STATE))
