"""What recipes of strangers may make."""

import json
import resource

import pytest
from safetensors.torch import save_file

import unrolled


@pytest.mark.parametrize(
    ("part", "recipe", "message"),
    [
        ("network", {"phases": 10**9}, "phases must be a whole number in 1 … 10,000, got 1000000000"),
        ("network", {"phases": 10**9, "shared": True}, "phases must be a whole number in 1 … 10,000"),
        ("network", {"phases": 10**4}, "more (modules|parameters) than"),
        ("network", {"features": 10**4}, "more parameters than"),
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
        ("network", {"class_path": "UnrolledNetwork", "init_args": {"phases": []}}),
        ("network", {"class_path": "EPGN", "init_args": {"penalty": nested}}),
    ]:
        save_file(tensors, tmp_path / "w.safetensors", metadata={"card": json.dumps({**card, part: recipe})})
        with pytest.raises(ValueError, match=r"w\.safetensors does not fit"):
            unrolled.load(tmp_path / "w.safetensors")
