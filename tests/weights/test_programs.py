"""What only the user's program can make: functions and modules, and classes of its own."""

import contextlib
import gc
import importlib
import json
import runpy
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import unrolled
from tests.weights.cases import OPERATORS, PAIRS, numbers
from unrolled import weights
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing, Dense, LinearOperator, Stack, as_operator


class Gain(torch.nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))

    def forward(self, x):
        return self.gain * x


class Turned(LinearOperator):
    """A user's class, whose argument is a function."""

    def __init__(self, turn):
        super().__init__()
        self.turn, self.image_shape = turn, (0, 10, 10)

    def forward(self, x):
        return self.turn(x)

    def adjoint(self, y):
        return self.turn(y)


MADE_BY_PROGRAMS = {
    "pair": lambda gain: as_operator((lambda x: x.flip(-1), lambda y: y.flip(-1)), (1, 10, 10)),
    "module": lambda gain: as_operator(Gain(gain), (1, 10, 10)),
    "scaled": lambda gain: 2 * as_operator(Gain(gain), (1, 10, 10)),
    "composition": lambda gain: Dense(numbers(9, 100), 10, 10) @ as_operator(Gain(gain), (1, 10, 10)),
    "stack": lambda gain: Stack([OPERATORS["own mask"](), as_operator(Gain(gain), (1, 10, 10))], (1, 10, 10)),
    "methods of an operator": lambda gain: as_operator(
        (OPERATORS["own mask"](), OPERATORS["own mask"]().adjoint), (1, 10, 10)
    ),
    "own class": lambda gain: 3 * Turned(lambda x: x.flip(-1)),
}


@pytest.mark.parametrize("name", MADE_BY_PROGRAMS)
def test_operators_that_only_a_program_can_make_are_taken_from_it(tmp_path, name):
    path, make = tmp_path / "w.safetensors", MADE_BY_PROGRAMS[name]
    network, operator = EPGN(1, 2), make(3.0)
    unrolled.save(path, network, operator)
    with pytest.raises(ValueError, match=r"an operator that only your program can make: load\(…, operator=…\)"):
        unrolled.load(path)
    mine, x = make(5.0), numbers(1, 1, 10, 10)
    network2, operator2 = unrolled.load(path, operator=mine)
    assert operator2 is mine
    assert torch.equal(operator2(x), operator(x))  # with what it had learned
    torch.testing.assert_close(network2(operator2(x), operator2), network(operator(x), operator))
    with pytest.raises(ValueError, match=r"(?s)does not fit its own card.*operator"):
        unrolled.load(path, operator=BlockCompressedSensing(ratio=0.2, block=5, learned=True))


class Refined(EPGN):
    """A user's network: what another one gives goes through modules of the program."""

    def __init__(self, refine, first=None, seed: int = 20240131):
        super().__init__(1, 2)
        self.refine, self.first = refine, first
        if isinstance(refine, list):
            self.parts = torch.nn.ModuleList(part for part in refine if isinstance(part, torch.nn.Module))

    def forward(self, y, operator):
        x = super().forward(y, operator)
        for part in self.refine if isinstance(self.refine, list) else [self.refine]:
            x = part(x)
        return x


MODULES = {
    "a module": (lambda gain: Refined(Gain(gain)), "refine, a Gain"),
    "a function": (lambda gain: Refined(lambda x: 2 * x), "refine, a function"),
    "a list": (lambda gain: Refined([torch.abs, Gain(gain)]), r"refine\.[01], a "),
    "a large tensor": (lambda gain: Refined([], torch.ones(20_000)), "first, a Tensor"),
    "a table by number": (lambda gain: Refined(torch.abs, {1: 2.0}), "first, a dict"),
}


@pytest.mark.parametrize("name", MODULES)
def test_networks_that_only_a_program_can_make_are_taken_from_it(tmp_path, name):
    path, (make, argument) = tmp_path / "w.safetensors", MODULES[name]
    network, operator = make(3.0), Dense(numbers(9, 100), 10, 10)
    unrolled.save(path, network, operator)
    message = rf"has a network that only your program can make: load\(…, network=…\); no file holds network\.{argument}"
    with pytest.raises(ValueError, match=message):
        unrolled.load(path)
    mine, y = make(5.0), numbers(1, 1, 9)
    again, operator2 = unrolled.load(path, network=mine)
    assert again is mine
    assert not again.training
    torch.testing.assert_close(again(y, operator2), network(y, operator))  # with what it had learned
    with pytest.raises(ValueError, match=r"(?s)does not fit its own card.*network"):
        unrolled.load(path, network=EPGN(2, 2))


def test_all_that_is_missing_is_named_at_once(tmp_path):
    path = tmp_path / "w.safetensors"
    network, operator = Refined(Gain(2.0)), as_operator(Gain(3.0), (1, 10, 10))
    unrolled.save(path, network, operator)
    with pytest.raises(
        ValueError, match=r"has a network and an operator that only .* load\(…, network=…, operator=…\)"
    ):
        unrolled.load(path)
    with pytest.raises(ValueError, match=r"has an operator that only your program can make: load\(…, operator=…\)"):
        unrolled.load(path, network=network)
    assert unrolled.load(path, network=network, operator=operator) == (network, operator)


def test_numbers_of_numpy_are_numbers(tmp_path):
    path = tmp_path / "w.safetensors"
    unrolled.save(path, EPGN(1, 2, threshold=np.float32(0.5)), Dense(numbers(9, 100), 10, 10))
    assert weights.read_card(path)["network"]["init_args"]["threshold"] == 0.5
    assert unrolled.load(path)[0].arguments["threshold"] == 0.5


MODULE = """
from dataclasses import dataclass
from unrolled.networks import EPGN as Theirs
from unrolled.penalties import L1

@dataclass(frozen=True)
class Halved(L1):
    pass

class {}(Theirs):
    def __init__(self, penalty: L1 | None = None):
        super().__init__(1, 2, penalty=penalty)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write and import a module of a user, with one network class; it is forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    imported = []

    def make(name, network):
        (tmp_path / f"{name}.py").write_text(MODULE.format(network))
        imported.append(name)
        return importlib.import_module(name)

    yield make
    for name in imported:
        sys.modules.pop(name, None)
    gc.collect()  # or else the classes stay among the known ones


def test_classes_of_a_program_load_once_their_module_is_imported(tmp_path, module, whole):
    tensors, card = whole
    path, operator = tmp_path / "w.safetensors", PAIRS["drawn matrix"]()[1]
    penalty = {"class_path": "first_module.Halved", "init_args": {"weight": 1.0}}
    recipe = {"class_path": "first_module.FirstNet", "init_args": {"penalty": penalty}}
    for foreign in (recipe, {**card["network"], "init_args": {"penalty": penalty}}):
        save_file(tensors, path, metadata={"card": json.dumps({**card, "network": foreign})})
        advice = "if you trust it, import first_module first, on the command line with --import first_module"
        with pytest.raises(ValueError, match=rf"unknown \w+ 'first_module\.\w+'.*{advice}"):
            unrolled.load(path)
        assert "first_module" not in sys.modules  # nothing is imported because a file names it
    mine = module("first_module", "FirstNet")
    unrolled.save(path, mine.FirstNet(penalty=mine.Halved()), operator)
    recipe = weights.read_card(path)["network"]
    assert recipe["class_path"] == "first_module.FirstNet"
    assert recipe["init_args"]["penalty"]["class_path"] == "first_module.Halved"
    assert type(unrolled.load(path)[0]) is mine.FirstNet


def test_a_class_of_a_script_is_the_one_that_is_imported_from_it(tmp_path, module):
    run = """
if __name__ == "__main__":
    import unrolled
    unrolled.save("w.safetensors", ScriptNet(), unrolled.operators.Identity())
    unrolled.load("w.safetensors")
"""
    script = tmp_path / "script.py"
    script.write_text(MODULE.format("ScriptNet") + run)
    with contextlib.chdir(tmp_path):
        runpy.run_path("script.py", run_name="__main__")
        gc.collect()
        assert weights.read_card("w.safetensors")["network"]["class_path"] == "script.ScriptNet"
        imported = module("script", "ScriptNet").ScriptNet
        assert type(unrolled.load("w.safetensors")[0]) is imported


def test_classes_of_one_name_are_told_apart_by_their_module(tmp_path, module):
    operator = Dense(numbers(9, 100), 10, 10)
    left, right, ours = module("left_side", "TwinNet"), module("right_side", "TwinNet"), module("third_side", "EPGN")
    for made in (left.TwinNet(), right.TwinNet(), ours.EPGN(), EPGN(1, 2)):
        unrolled.save(tmp_path / "w.safetensors", made, operator)
        assert type(unrolled.load(tmp_path / "w.safetensors")[0]) is type(made)


def test_a_card_with_the_name_alone_means_the_only_class_of_that_name(tmp_path, module, whole):
    tensors, card = whole

    def load(class_path):
        arguments = card["network"]["init_args"] if class_path == "EPGN" else {}
        facts = {**card, "network": {"class_path": class_path, "init_args": arguments}}
        save_file(tensors, tmp_path / "w.safetensors", metadata={"card": json.dumps(facts)})
        return type(unrolled.load(tmp_path / "w.safetensors", operator=PAIRS["drawn matrix"]()[1])[0])

    lonely = module("old_side", "LonelyNet")
    module("new_side", "EPGN")
    assert load("LonelyNet") is lonely.LonelyNet
    assert load("EPGN") is EPGN  # a name alone is first of all one of this package
    module("other_side", "LonelyNet")
    with pytest.raises(ValueError, match=r"'LonelyNet' may be any of 2 classes: old_side\.LonelyNet, other_side\.Lo"):
        load("LonelyNet")


def test_a_class_that_is_defined_again_is_the_new_one(tmp_path, module):
    first = module("notebook_like", "AgainNet").AgainNet
    sys.modules.pop("notebook_like")
    unrolled.save(tmp_path / "w.safetensors", first(), Dense(numbers(9, 100), 10, 10))
    second = module("notebook_like", "AgainNet").AgainNet
    assert second is not first
    assert type(unrolled.load(tmp_path / "w.safetensors")[0]) is second
