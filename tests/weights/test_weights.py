import json
import resource

import pytest
import torch
from safetensors.torch import load_file, save_file

import unrolled
from tests.helpers import picture
from unrolled import weights
from unrolled.classifiers.classifier import Classifier
from unrolled.classifiers.lenet import LeNet300100
from unrolled.networks import EPGN, ISTANetPlus
from unrolled.operators import (
    BlockCompressedSensing,
    Coils,
    Dense,
    Identity,
    LinearOperator,
    MaskedFourier,
    MultiCoilFourier,
    RadialMask,
    Stack,
    UniformMask,
    as_operator,
)
from unrolled.penalties import MCP
from unrolled.system.vision import import_torchvision

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


def numbers(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


OPERATORS = {
    "own mask": lambda: MaskedFourier((numbers(10, 10) > 0).float(), centered=True),
    "drawn mask": lambda: MaskedFourier(UniformMask(0.4, seed=3), 10, 10),
    "own maps, own mask": lambda: MultiCoilFourier(
        numbers(3, 10, 10, dtype=torch.complex64), numbers(10, 10).sign() > 0
    ),
    "own maps, drawn mask": lambda: MultiCoilFourier(numbers(3, 10, 10, dtype=torch.complex64), UniformMask(0.4)),
    "coils, own mask": lambda: MultiCoilFourier(Coils(3), (numbers(10, 10) > 0).float(), complex_images=False),
    "coils, drawn mask": lambda: MultiCoilFourier(Coils(3, 2.0), UniformMask(0.4), 10, 10),
    "scaled": lambda: Dense(numbers(9, 100), 10, 10).normalized(),
    "scaled twice": lambda: 2 * (3 * Dense(numbers(9, 100), 10, 10)),
    "composition": lambda: (
        Dense(numbers(9, 100), 10, 10) @ (0.5 * OPERATORS["own blocks"]()).H @ OPERATORS["own blocks"]()
    ),
    "own blocks": lambda: BlockCompressedSensing(matrix=numbers(4, 25), block=5),
    "learned blocks, scaled": lambda: 2 * BlockCompressedSensing(ratio=0.2, block=5, learned=True),
    "drawn blocks, scaled": lambda: 2 * BlockCompressedSensing(ratio=0.2, block=5, seed=4),
    "sum": lambda: Dense(numbers(9, 100), 10, 10) + 2 * Dense(numbers(9, 100, seed=1), 10, 10),
    "stack": lambda: Stack(
        [Identity(), 2 * Dense(numbers(9, 100), 10, 10), OPERATORS["own mask"](), OPERATORS["drawn mask"]()],
        (1, 10, 10),
    ),
}


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
        "class": "unknown UnrolledNetwork 'system'",
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Tensors and card of good weights."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    unrolled.save(path, *PAIRS["drawn matrix"]())
    return load_file(path), weights.read_card(path)


def test_tensors_that_do_not_fit_are_refused_though_the_hash_is_right(tmp_path, whole):
    tensors, card = whole
    key = "network.phases.0.raw_alpha"
    for change, message in [
        ({key: torch.tensor(float("nan"))}, f"{key} holds NaN"),
        ({key: torch.tensor(1e300, dtype=torch.float64)}, f"{key} holds NaN or inf"),
        ({key: torch.tensor(1j)}, f"{key} must be torch.float32, got torch.complex64"),
        ({key: torch.ones(3)}, "size mismatch"),
        ({key: None}, "Missing key"),
        ({"network.extra": torch.ones(1)}, "Unexpected key"),
        ({"elsewhere": torch.ones(1)}, "Unexpected key"),
    ]:
        kept = {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}
        facts = {**card, "sha256": weights.hash_of(kept)}
        save_file(kept, tmp_path / "w.safetensors", metadata={"card": json.dumps(facts)})
        with pytest.raises(ValueError, match=f"(?s)does not fit its own card.*{message}"):
            unrolled.load(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("part", "recipe", "message"),
    [
        ("network", {"phases": 10**9}, "more parameters than"),
        ("network", {"features": 10**6}, "more parameters than"),
        ("network", {"features": 10**12, "shrink_channels": True}, "more parameters than"),
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
    if isinstance(operator, BlockCompressedSensing):
        assert operator.hash() == card["matrix_hash"]
    else:
        assert 0 < operator.ratio < 1


def classifier(network) -> Classifier:
    return Classifier(network, ("a", "b", "c"), (0.25,), (0.5,), (12, 12))


def test_classifiers_come_back_with_their_classes_and_moments(tmp_path):
    path = tmp_path / "c.safetensors"
    made = classifier(LeNet300100(3, size=12))
    weights.save_classifier(path, made, {"data": "letters"})
    again = weights.load_classifier(path)
    x = torch.rand(2, 1, 12, 12)
    assert torch.equal(again(x), made(x))
    assert again.name(x) == made.name(x)
    assert not again.training
    assert weights.read_card(path)["data"] == "letters"
    with pytest.raises(ValueError, match=r"holds a classifier: unrolled\.weights.load_classifier loads it"):
        unrolled.load(path)
    unrolled.save(tmp_path / "w.safetensors", *PAIRS["drawn matrix"]())
    with pytest.raises(ValueError, match=r"does not hold a classifier: unrolled\.load loads it"):
        weights.load_classifier(tmp_path / "w.safetensors")


def test_classifiers_of_torchvision_and_of_programs_come_back_too(tmp_path):
    path = tmp_path / "c.safetensors"
    squeezenet = import_torchvision("torchvision.models").squeezenet1_1(num_classes=3)
    recipe = {"class_path": "torchvision.models.squeezenet1_1", "init_args": {"num_classes": 3, "weights": "DEFAULT"}}
    weights.save_classifier(path, classifier(squeezenet), recipe=recipe)
    again = weights.load_classifier(path).network
    assert type(again) is type(squeezenet)
    assert torch.equal(again.classifier[1].weight, squeezenet.classifier[1].weight)
    own = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 3))
    weights.save_classifier(path, classifier(own))
    with pytest.raises(ValueError, match=r"only your program can make: load_classifier\(…, network=…\)"):
        weights.load_classifier(path)
    empty = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 3))
    assert torch.equal(weights.load_classifier(path, empty).network[1].weight, own[1].weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": {"class_path": "torchvision.models.nonesuch"}}, "no classifier 'nonesuch'"),
        ({"network": {"class_path": "torchvision.models.get_model", "init_args": {}}}, "no classifier 'get_model'"),
        ({"network": {"class_path": "os.system", "init_args": {"command": "ls"}}}, "unknown ImageClassifier 'system'"),
        ({"network": {"class_path": "LeNet300100", "init_args": {"size": 10**9}}}, "many more parameters"),
        ({"network": {"class_path": "LeNet300100", "init_args": {"size": 13}}}, "does not fit its own card"),
        ({"size": [3]}, "does not fit its own card"),
        ({"classes": None}, "does not fit its own card"),
        ({"mean": "grey"}, "does not fit its own card"),
        ({"network": 7}, "not of a network of this project|only your program"),
    ],
)
def test_bad_cards_of_classifiers_are_refused(tmp_path, changes, message):
    path = tmp_path / "c.safetensors"
    weights.save_classifier(path, classifier(LeNet300100(3, size=12)))
    card = {**weights.read_card(path), **changes}
    save_file(load_file(path), path, metadata={"card": json.dumps(card)})
    with pytest.raises(ValueError, match=message):
        weights.load_classifier(path)


def test_training_goes_on_for_another_mask(tmp_path):
    # What is measured stays that of the new operator; what was learned is taken.
    before, after = (MaskedFourier(RadialMask(ratio).draw(16, 16)) for ratio in (0.2, 0.5))
    network, other = EPGN(1, 2), EPGN(1, 2)
    unrolled.save(tmp_path / "w.safetensors", network, before)
    mask = after.mask.clone()
    weights.take(tmp_path / "w.safetensors", network=other, operator=after)
    assert torch.equal(after.mask, mask)
    for own, given in zip(other.parameters(), network.parameters(), strict=True):
        assert torch.equal(own, given)
    # A drawn mask is no tensor of the file at all.
    weights.take(tmp_path / "w.safetensors", network=other, operator=MaskedFourier(RadialMask(0.3), 16, 16))
    learned = BlockCompressedSensing(ratio=0.5, block=4, learned=True)
    unrolled.save(tmp_path / "l.safetensors", network, learned)
    fresh = BlockCompressedSensing(ratio=0.5, block=4, seed=1, learned=True)
    weights.take(tmp_path / "l.safetensors", network=other, operator=fresh)
    assert torch.equal(fresh.matrix, learned.matrix)
