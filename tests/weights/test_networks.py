"""Networks and their operators come back from files, or are refused with the reason."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import unrolled
from tests.helpers import picture
from tests.weights.cases import OPERATORS, PAIRS, numbers
from unrolled import weights
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_saved_comes_back(tmp_path, name):
    torch.manual_seed(0)
    network, operator = PAIRS[name]()
    with torch.no_grad():
        for parameter in [*network.parameters(), *operator.parameters()]:
            parameter.add_(0.05 * torch.randn_like(parameter))
    operator.fit_images([picture(40, 40)])
    path = tmp_path / "weights.safetensors"
    unrolled.save(path, network, operator, {"data": "pictures"})
    network2, operator2 = unrolled.load(path)
    x = picture(10, 10).unsqueeze(0)
    assert torch.equal(operator2(x), operator(x))
    torch.testing.assert_close(network2(operator2(x), operator2), network(operator(x), operator))
    assert weights.read_card(path)["data"] == "pictures"
    assert not network2.training


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_come_back_with_what_is_nested_in_them(tmp_path, name):
    operator, path = OPERATORS[name](), tmp_path / "w.safetensors"
    with torch.no_grad():  # what was learned is not what is made anew
        for parameter in operator.parameters():
            parameter.add_(0.05 * numbers(*parameter.shape))
    unrolled.save(path, EPGN(1, 2), operator)
    again = unrolled.load(path)[1]
    x = numbers(2, 1, 10, 10, dtype=torch.complex64 if operator.complex_images else torch.float32)
    assert type(again) is type(operator)
    assert torch.equal(again(x), operator(x))
    assert torch.equal(again.adjoint(operator(x)), operator.adjoint(operator(x)))
    assert set(again.state_dict()) == set(operator.state_dict())
    json.dumps(weights.read_card(path))


@pytest.mark.parametrize("place", [(), ("operator",), ("operators", 1), ("outer", "operator")])
@pytest.mark.parametrize(
    ("recipe", "argument"),
    [
        ({"class_path": "Dense", "init_args": {"height": 10, "width": 10}}, "matrix"),
        ({"class_path": "unrolled.operators.MaskedFourier", "init_args": {}}, "mask"),
        ({"class_path": "MultiCoilFourier", "init_args": {"mask": {"class_path": "UniformMask"}}}, "maps"),
    ],
)
def test_a_recipe_that_names_a_file_is_refused_wherever_it_is(tmp_path, whole, place, recipe, argument):
    tensors, card = whole
    recipe = {**recipe, "init_args": {**recipe["init_args"], argument: "a.npy"}}
    for name in reversed(place):
        if isinstance(name, int):
            recipe = [{"class_path": "Identity", "init_args": {}}, recipe]
        elif name == "operator":
            recipe = {"class_path": "Scaled", "init_args": {"operator": recipe, "factor": 2.0}}
        else:
            recipe = {"class_path": "Stack" if name == "operators" else "Composition", "init_args": {name: recipe}}
    save_file(tensors, tmp_path / "w.safetensors", metadata={"card": json.dumps({**card, "operator": recipe})})
    with pytest.raises(ValueError, match=f"names a file of its own as the {argument}, which is not followed"):
        unrolled.load(tmp_path / "w.safetensors")


def test_a_drawn_matrix_inside_others_must_be_the_same_too(tmp_path):
    path = tmp_path / "w.safetensors"
    unrolled.save(path, EPGN(1, 2), OPERATORS["drawn blocks, scaled"]())
    card = weights.read_card(path)
    save_file(load_file(path), path, metadata={"card": json.dumps({**card, "matrix_hash": "0"})})
    with pytest.raises(ValueError, match="another measurement matrix"):
        unrolled.load(path)


def test_a_drawn_matrix_does_not_travel(tmp_path):
    unrolled.save(tmp_path / "w.safetensors", *PAIRS["drawn matrix"]())
    travels = [key for key in load_file(tmp_path / "w.safetensors") if key.startswith("operator.")]
    assert travels == ["operator.autocorrelation"]


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
    blur = {"class_path": "Blur", "init_args": {"kernel": "a.npy"}}
    altered("kernel.safetensors", tensors, {**card, "operator": blur})
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
        "class": "unknown UnrolledNetwork 'os.system'",
        "shape": "does not fit its own card",
        "argument": "ratio must be in",
        "unknown": "cannot be built",
        "matrix": "another measurement matrix",
        "path": "not followed",
        "kernel": "a file of its own as the kernel, which is not followed",
        "format": "format 99",
    }.items():
        with pytest.raises(ValueError, match=message):
            unrolled.load(tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match="neither a file nor among the shipped weights"):
        unrolled.load("no-such-weights")


@pytest.mark.parametrize("name", weights.names())
def test_shipped_weights_load_and_state_what_users_need(name):
    network, operator = unrolled.load(name)
    card = weights.read_card(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == card["parameters"] <= 400_000
    assert card["licence"]
    assert card["data"]
    assert "/" not in card["config"].replace("unrolled.", "").replace("://", "")
    if isinstance(operator, BlockCompressedSensing):
        assert operator.hash() == card["matrix_hash"]
    else:
        assert 0 < operator.ratio < 1
