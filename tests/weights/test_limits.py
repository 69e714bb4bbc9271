"""What recipes of strangers may make."""

import json
import resource
import threading

import pytest
import torch
from safetensors.torch import load_file, save_file

import unrolled
from unrolled import weights
from unrolled.networks import EPGN
from unrolled.operators import Identity
from unrolled.weights.limits import at_most


@pytest.mark.parametrize(
    ("part", "recipe", "message"),
    [
        ("network", {"phases": 10**9}, "phases must be a whole number in 1 … 10,000, got 1000000000"),
        ("network", {"phases": 10**9, "shared": True}, "phases must be a whole number in 1 … 10,000"),
        ("network", {"phases": 10**4}, "more (modules|parameters) than"),
        ("network", {"features": 10**4}, "more memory or work than is allowed"),
        ("network", {"features": 10**6}, "features must be a whole number in 1 … 10,000"),
        ("network", {"features": 10**12, "shrink_channels": True}, "features must be a whole number in 1 … 10,000"),
        ("network", {"nonlocal_window": 10**9}, "nonlocal_window must be in 1 … 10,000"),
        ("network", {"phases": 1000, "features": 1000}, "more parameters than"),
        ("network", {"phases": "three"}, "phases must be int, got 'three'"),
        ("network", {"phases": 2.0}, "phases must be int, got 2.0"),
        ("network", {"phases": True}, "phases must be int, got True"),
        ("network", {"penalty": "L1"}, "penalty must be .*Penalty"),
        ("network", {"penalty": {"class_path": "os.system"}}, "unknown class 'os.system'"),
        ("network", {"penalty": {"class_path": "EPGN"}}, "unknown class 'EPGN'"),
        ("network", {"penalty": {"class_path": ["L1"]}}, "unknown class"),
        ("network", {"threshold": float("nan")}, "threshold must be"),
        ("network", {"variant": ["plain"]}, "variant must be"),
        ("network", {"colour": "red"}, "cannot be built"),
        ("network", [1, 2], "a recipe must be"),
        ("operator", {"block": 10**5}, "can be drawn"),
        ("operator", {"block": 10**400}, "cannot be built"),
        ("operator", {"block": -5}, "block must be"),
        ("operator", {"block": "5"}, "block must be int"),
        ("operator", {"seed": 1.5}, "seed must be int"),
        ("operator", {"ratio": [0.2]}, "ratio must be"),
        ("operator", "BlockCompressedSensing", "a recipe must be"),
    ],
)
def test_recipes_of_strangers_are_refused_before_memory_is_filled(tmp_path, whole, part, recipe, message):
    tensors, card = whole
    if isinstance(recipe, dict):
        recipe = {**card[part]["init_args"], **recipe}
    facts = {**card, part: {**card[part], "init_args": recipe}}
    save_file(tensors, tmp_path / "w.safetensors", metadata={"card": json.dumps(facts)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=rf"w\.safetensors does not fit.*{message}"):
        unrolled.load(tmp_path / "w.safetensors")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


DISC = {"angles": 9, "width": 10**5, "circle": True}
LARGE = {"mask": {"class_path": "UniformMask"}, "height": 10**5, "width": 10**5}


def test_only_what_a_recipe_can_make_is_made(tmp_path, whole):
    tensors, card = whole
    nested = {"class_path": "MCP"}
    for _ in range(300):
        nested = {"class_path": "MCP", "init_args": {"gamma": nested}}
    for part, recipe in [
        ("operator", {"class_path": "Adjoint", "init_args": {"operator": 5}}),
        (
            "operator",
            {"class_path": "FromFunctions", "init_args": {"apply": 1, "apply_adjoint": 2, "shape": [1, 5, 5]}},
        ),
        ("operator", {"class_path": "FromFunctions", "init_args": {"shape": [1, 5, 5]}}),
        ("operator", {"class_path": "LinearOperator"}),
        ("operator", {"class_path": "EPGN"}),
        ("operator", {"class_path": "MaskedFourier", "init_args": LARGE}),
        ("operator", {"class_path": "Inpainting", "init_args": {**LARGE, "mask": None, "keep": 0.5}}),
        ("operator", {"class_path": "Radon", "init_args": {"angles": 10**9, "height": 9, "width": 9}}),
        (
            "operator",
            {"class_path": "Radon", "init_args": {**DISC, "height": 10**5}},
        ),
        ("network", {"class_path": "UnrolledNetwork", "init_args": {"phases": []}}),
        ("network", {"class_path": "EPGN", "init_args": {"penalty": nested}}),
    ]:
        save_file(tensors, tmp_path / "w.safetensors", metadata={"card": json.dumps({**card, part: recipe})})
        with pytest.raises(ValueError, match=r"w\.safetensors does not fit"):
            unrolled.load(tmp_path / "w.safetensors")


class Numbered(EPGN):
    """A user's network, whose arguments are numbers of any meaning."""

    def __init__(self, seed: int = 20240131, pixels: int = 10**6, modules: int = 0, spare: int = 0, drawn: int = 0):
        super().__init__(1, 2, nonlocal_window=None)
        for _ in range(modules):
            self.last = torch.nn.Identity()
        if drawn:
            torch.ones(drawn, 1) + torch.ones(1, drawn)
        self.register_buffer("spare", torch.zeros(spare), persistent=False)


@pytest.mark.parametrize("arguments", [{}, {"seed": 2**40}, {"pixels": 640 * 368}, {"modules": 500, "spare": 10**6}])
def test_a_whole_number_may_be_large_where_it_is_no_size(tmp_path, arguments):
    unrolled.save(tmp_path / "w.safetensors", Numbered(**arguments), Identity())
    network, _ = unrolled.load(tmp_path / "w.safetensors")
    assert {name: network.arguments[name] for name in arguments} == arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modules": 10**9}, "many more modules than the"),
        ({"spare": 10**9}, "more memory or work than is allowed"),
        ({"drawn": 10**5}, "more memory or work than is allowed"),
        ({"spare": 10**18}, "more memory or work than is allowed"),
    ],
)
def test_what_a_recipe_makes_is_counted(tmp_path, arguments, message):
    unrolled.save(tmp_path / "w.safetensors", Numbered(), Identity())
    card = weights.read_card(tmp_path / "w.safetensors")
    card["network"]["init_args"].update(arguments)
    save_file(load_file(tmp_path / "w.safetensors"), tmp_path / "w.safetensors", metadata={"card": json.dumps(card)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=message):
        unrolled.load(tmp_path / "w.safetensors")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(10**5),
        lambda: torch.arange(10**10),
        lambda: torch.arange(0.0, 1.0, 1e-10),
        lambda: torch.arange(0, 1, 1e-10),
        lambda: torch.linspace(0, 1, 10**10),
        lambda: torch.full((10**5, 10**5), 3.0),
        lambda: torch.ones(10).new_zeros(10**10),
        lambda: torch.ones(10).repeat(10**9),
        lambda: torch.ones(10, 10).repeat_interleave(10**9),
        lambda: torch.ones(10**5).outer(torch.ones(10**5)),
        lambda: torch.ones(10**5, 1) @ torch.ones(1, 10**5),
        lambda: torch.ones(10**5, 1).maximum(torch.ones(10**5)),
        lambda: torch.cartesian_prod(torch.ones(10**5), torch.ones(10**5)),
        lambda: torch.nn.functional.pad(torch.ones(1, 1, 2), (10**10, 10**10)),
        lambda: torch.nn.functional.interpolate(torch.ones(1, 1, 9, 9), scale_factor=1e4),
        lambda: torch.cat([torch.ones(1, 1).expand(10**5, 10**4)] * 10),
        lambda: torch.tril_indices(10**5, 10**5),
        lambda: torch.randperm(10**10),
    ],
)
def test_no_way_to_make_a_large_tensor_is_open(make):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with at_most({"a": torch.ones(3)}, 100), pytest.raises(ValueError, match="more memory or work than is allowed"):
        make()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_buffers_are_counted_together():
    def fill_memory():
        for _ in range(1000):
            torch.nn.Module().register_buffer("mask", torch.empty(2**24))

    with at_most({"a": torch.ones(3)}, 100), pytest.raises(ValueError, match="more memory or work than is allowed"):
        fill_memory()


def test_what_is_made_elsewhere_or_later_is_not_counted():
    with at_most({}, 0):
        other = threading.Thread(target=lambda: torch.nn.Linear(2000, 2000))
        other.start()
        other.join()
    torch.nn.Linear(2000, 2000)
    with pytest.raises(ValueError, match="many more parameters than the 0 numbers"), at_most({}, 0):
        torch.nn.Linear(2000, 2000)


def test_what_is_drawn_is_the_same_as_without_limits():
    def draw():
        torch.manual_seed(0)
        return EPGN(1, 2).state_dict(), torch.rand(3, generator=torch.Generator().manual_seed(1))

    free = draw()
    with at_most({}, 0):
        limited = draw()
    torch.testing.assert_close(limited, free, atol=0, rtol=0)
