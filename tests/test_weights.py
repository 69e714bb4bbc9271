import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import unrolled
from tests.helpers import picture
from unrolled import weights
from unrolled.networks import EPGN, ISTANetPlus
from unrolled.operators import BlockCompressedSensing, Dense
from unrolled.penalties import MCP

PAIRS = {
    "drawn matrix": lambda: (EPGN(1, 2, penalty=MCP(1.5, 2.0)), BlockCompressedSensing(ratio=0.2, block=5, seed=4)),
    "learned matrix": lambda: (ISTANetPlus(1, 2), BlockCompressedSensing(ratio=0.2, block=5, learned=True)),
    "own matrix": lambda: (EPGN(1, 2), BlockCompressedSensing(matrix=torch.rand(4, 25), block=5)),
    "dense": lambda: (EPGN(1, 2, nonlocal_window=5), Dense(torch.rand(9, 100), 10, 10)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_saved_comes_back(tmp_path, name):
    torch.manual_seed(0)
    network, operator = PAIRS[name]()
    with torch.no_grad():
        for parameter in [*network.parameters(), *operator.parameters()]:
            parameter.add_(0.05 * torch.randn_like(parameter))
    network.start.fit([picture(40, 40)])
    path = tmp_path / "weights.safetensors"
    unrolled.save(path, network, operator, {"data": "pictures"})
    network2, operator2 = unrolled.load(path)
    x = picture(10, 10).unsqueeze(0)
    assert torch.equal(operator2(x), operator(x))
    torch.testing.assert_close(network2(operator2(x), operator2), network(operator(x), operator))
    assert weights.read_card(path)["data"] == "pictures"
    assert not network2.training


def test_a_drawn_matrix_does_not_travel(tmp_path):
    unrolled.save(tmp_path / "w.safetensors", *PAIRS["drawn matrix"]())
    assert not [key for key in load_file(tmp_path / "w.safetensors") if key.startswith("operator.")]


def test_facts_can_be_added_to_a_card(tmp_path):
    path = tmp_path / "w.safetensors"
    unrolled.save(path, *PAIRS["drawn matrix"]())
    weights.record(path, {"evaluation": {"a": {"psnr": 1.0}}})
    weights.record(path, {"evaluation": {"b": {"psnr": 2.0}}, "licence": "X"})
    card = weights.read_card(path)
    assert card["evaluation"] == {"a": {"psnr": 1.0}, "b": {"psnr": 2.0}}
    unrolled.load(path)


def test_bad_weights_are_refused_and_told_apart(tmp_path):
    good = tmp_path / "good.safetensors"
    network, operator = PAIRS["drawn matrix"]()
    unrolled.save(good, network, operator)
    tensors, card = load_file(good), weights.read_card(good)

    def altered(name, tensors, card):
        save_file(tensors, tmp_path / name, metadata={"card": json.dumps(card)} if card is not None else None)

    (tmp_path / "short.safetensors").write_bytes(good.read_bytes()[:-100])
    (tmp_path / "header.safetensors").write_bytes(good.read_bytes()[:50])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    torch.save({"a": torch.ones(1)}, tmp_path / "pickle.safetensors")
    altered("foreign.safetensors", {"a": torch.ones(2)}, None)
    altered("bits.safetensors", {**tensors, "network.phases.0.raw_alpha": torch.tensor(3.0)}, card)
    altered("class.safetensors", tensors, {**card, "network": {"class_path": "os.system", "init_args": {}}})
    wider = {"class_path": "EPGN", "init_args": {**card["network"]["init_args"], "features": 3}}
    altered("shape.safetensors", tensors, {**card, "network": wider})
    altered("argument.safetensors", tensors, {**card, "operator": {**card["operator"], "init_args": {"ratio": -1}}})
    altered("unknown.safetensors", tensors, {**card, "operator": {**card["operator"], "init_args": {"size": 1}}})
    altered("matrix.safetensors", tensors, {**card, "matrix_hash": "0"})
    altered("path.safetensors", tensors, {**card, "operator": {**card["operator"], "init_args": {"matrix": "a.npy"}}})
    altered("format.safetensors", tensors, {**card, "format": 99})
    (tmp_path / "text.safetensors").write_text("hello " * 100)
    for name, message in {
        "short": "cut short|cannot be read",
        "header": "cut short",
        "empty": "cut short",
        "pickle": "cut short or not a safetensors file",
        "text": "cut short or not a safetensors file",
        "foreign": "not of a network of this project",
        "bits": "altered",
        "class": "unknown UnrolledNetwork 'system'",
        "shape": "does not fit its own card",
        "argument": "ratio must be in",
        "unknown": "cannot be built",
        "matrix": "another measurement matrix",
        "path": "not followed",
        "format": "format 99",
    }.items():
        with pytest.raises(ValueError, match=message):
            unrolled.load(tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match="neither a file nor among the shipped weights"):
        unrolled.load("no-such-weights")


def test_an_output_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot write"):
        unrolled.save(tmp_path / "file" / "w.safetensors", *PAIRS["drawn matrix"]())
    with pytest.raises(ValueError, match="cannot write"):
        unrolled.save(tmp_path, *PAIRS["drawn matrix"]())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", weights.names())
def test_shipped_weights_load_and_state_what_users_need(name):
    network, operator = unrolled.load(name)
    card = weights.read_card(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == card["parameters"] <= 400_000
    assert card["licence"]
    assert card["data"]
    assert "/" not in card["config"].replace("unrolled.", "").replace("://", "")
    assert operator.hash() == card["matrix_hash"]
