"""Mistakes are named before work is lost, and what is merely unusual works."""

import copy
import gc
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD, Adam

from tests.pairs import first_of
from tests.sparsify.cases import CASES, STRATEGIES, batch, make, model
from unrolled.penalties import ARD, L0, L1, MCP, Each, Filters, Grouped, InputChannels
from unrolled.sparsify import (
    AdaProx,
    AttentionHeads,
    Constant,
    MagnitudePruning,
    NetworkSlimming,
    ProximalStep,
    ReweightedTikhonov,
    VariableSplitting,
    compact,
    compaction,
    sparsity_report,
)
from unrolled.system.devices import seed_generators

# Many of these are as strong as can be, and one batch is enough to leave a single number of a layer, which is said; and
# many end long before a target could be met.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*would become all zero:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*the target of .* is missed, .* steps:UserWarning"),
]
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)
KINDS = ["ProximalStep", "PenaltyLoss", "VariableSplitting", "NetworkSlimming", "VariationalNoise"]
"""One for each way to work: after the step, in the loss, beside the weights, on other parameters, by hooks."""
every_kind = pytest.mark.parametrize("strategy", KINDS)
PENALTIES = {"HardConcreteGates": "HardConcrete", "VariationalNoise": "VariationalDropoutFit"}


def strategy_on(strategy: str, found: nn.Module, **changes):
    return make(strategy, PENALTIES.get(strategy, "L1"), "elements", found, **changes)


def train(found: nn.Module, sparsifier, optimizer, steps: int = 1) -> None:
    for step in range(steps):
        images, labels = batch(step)
        (F.cross_entropy(found(images), labels) + sparsifier.loss()).backward()
        optimizer.step()
        optimizer.zero_grad()
        sparsifier.step(optimizer)


def copied(found: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in found.state_dict().items()}


def same(found: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in found.state_dict().items())


# ---- which weights


@pytest.mark.parametrize(
    ("make_model", "reason"),
    [
        (nn.ReLU, "ReLU has no weights to sparsify, for it has no parameter with two axes or more"),
        (lambda: nn.BatchNorm2d(3), "BatchNorm2d has no weights"),
        (lambda: nn.Embedding(5, 3), "Embedding has no weights"),
        (lambda: nn.Linear(3, 2).requires_grad_(False), "all of its weights are frozen"),
        (lambda: [nn.Linear(3, 2)], "model must be a torch.nn.Module, got list"),
    ],
)
def test_a_model_without_weights_is_refused(make_model, reason):
    with pytest.raises(ValueError, match=reason):
        ProximalStep(make_model(), L1(), 0.1)


@pytest.mark.parametrize("argument", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_is_named_with_near_ones(argument):
    with pytest.raises(ValueError, match=rf"{argument}: 'lineer' matches no .*near matches: linear"):
        ProximalStep(model(), L1(), 0.1, **{argument: "lineer"})
    with pytest.raises(ValueError, match=rf"{argument}: 'zzz\*' matches no parameter or module; there is "):
        ProximalStep(model(), L1(), 0.1, **{argument: ["conv", "zzz*"]})
    with pytest.raises(ValueError, match=rf"{argument}: a pattern must be text, got 3"):
        ProximalStep(model(), L1(), 0.1, **{argument: [3]})


def test_leaving_out_everything_is_refused():
    with pytest.raises(ValueError, match="exclude: '\\*' leaves no weights"):
        ProximalStep(model(), L1(), 0.1, exclude="*")


def test_frozen_weights_are_left_alone_unless_they_are_named():
    small = model()
    small.conv.requires_grad_(False)
    assert "conv.weight" not in [weight.name for weight in ProximalStep(small, L1(), 0.1).weights]
    with pytest.raises(ValueError, match=r"include: conv\.weight is frozen"):
        ProximalStep(small, L1(), 0.1, include="conv")


def test_lazy_modules_are_refused_until_they_have_run():
    lazy = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"0\.(weight|bias) has no shape yet; run the model once"):
        ProximalStep(lazy, L1(), 0.1)
    lazy(torch.ones(1, 3))
    assert len(ProximalStep(lazy, L1(), 0.1).weights) == 2


@pytest.mark.parametrize(
    "act",
    [
        lambda found: ProximalStep(found, L1(), 0.1).finalize(),
        lambda found: compact(found, torch.ones(1, 3)),
        sparsity_report,
    ],
    ids=["finalize", "compact", "report"],
)
def test_models_without_numbers_are_refused(act):
    layers = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, device="meta"))
    with pytest.raises(ValueError, match=r": 1\.weight lies on the device meta, where"):
        act(layers)


def test_what_holds_no_parameters_or_shares_them_is_compacted_to_itself():
    shared, fixed = nn.Linear(3, 3), nn.ReLU()
    fixed.register_buffer("scale", torch.ones(3))
    with torch.no_grad():
        shared.weight[1] = shared.bias[1] = 0
    for found in (fixed, nn.Sequential(), nn.Sequential(shared, nn.ReLU(), shared)):
        assert compaction(found, torch.ones(1, 3)).removed == {}
    frozen = nn.Sequential(shared, nn.ReLU(), nn.Linear(3, 2)).requires_grad_(False)
    assert compaction(frozen, torch.ones(1, 3)).removed == {"0": [1]}


def test_parameters_of_no_numbers_are_no_weights():
    empty = nn.Module()
    empty.weight = nn.Parameter(torch.ones(3, 0))
    with pytest.raises(ValueError, match="Module has no weights to sparsify"):
        ProximalStep(empty, L1(), 0.1)


def test_a_group_that_a_weight_cannot_have_is_named():
    with pytest.raises(ValueError, match=r"groups: linear\.weight of shape \(4, 8\)"):
        ProximalStep(model(), L1(), 0.1, groups=Each((0, 3)), include="linear")
    with pytest.raises(ValueError, match="groups must be a Grouping or a function"):
        ProximalStep(model(), L1(), 0.1, groups="filters")
    with pytest.raises(ValueError, match=r"groups: for conv\.weight the function must return a Grouping or None"):
        ProximalStep(model(), L1(), 0.1, groups=lambda name, parameter, module: "filters")
    with pytest.raises(ValueError, match="has groups of its own"):
        ProximalStep(model(), Grouped(L1(), Filters()), 0.1, groups=InputChannels())


# ---- how much


@pytest.mark.parametrize("target", [-0.1, 1.0, 95, float("nan"), "half", True])
def test_a_target_outside_of_0_to_1_is_refused(target):
    with pytest.raises(ValueError, match=r"ProximalStep: target must be in \[0, 1\)"):
        ProximalStep(model(), L1(), target=target, steps=10)


@every_strategy
def test_every_strategy_hands_its_target_on_to_be_checked(strategy):
    with pytest.raises(ValueError, match=rf"{strategy}: target must be in \[0, 1\), the share of zeros, got 95"):
        strategy_on(strategy, model(), target=95, steps=10)


@pytest.mark.parametrize("strength", [0, -1.0, float("nan"), float("inf"), "much", True])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(ValueError, match="ProximalStep: strength must be a finite number > 0"):
        ProximalStep(model(), L1(), strength)


def test_either_strength_or_target():
    with pytest.raises(ValueError, match="give either strength or target, got strength=None and target=None"):
        ProximalStep(model(), L1())
    with pytest.raises(ValueError, match=r"give either strength or target, got strength=0\.1 and target=0\.5"):
        ProximalStep(model(), L1(), 0.1, target=0.5)


@pytest.mark.parametrize(
    "arguments", [{"fine_tune": 1.0}, {"fine_tune": -0.1}, {"schedule": 0.5}, {"steps": 0}, {"steps": 2.5}]
)
def test_bad_arguments_of_a_run_are_named(arguments):
    with pytest.raises(ValueError, match=f"ProximalStep: {next(iter(arguments))} must be"):
        ProximalStep(model(), L1(), 0.1, **arguments)


def test_a_target_needs_the_length_of_the_run():
    small = model()
    sparsifier, optimizer = ProximalStep(small, L1(), target=0.5), SGD(small.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"ProximalStep: say how many steps the run takes: steps=…"):
        train(small, sparsifier, optimizer)


@every_kind
def test_a_target_that_would_empty_a_layer_keeps_one_and_says_so(strategy):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        layers[0].weight.mul_(0.01)  # the first to become zero
    changes = {} if strategy == "NetworkSlimming" else {"include": "0"}
    sparsifier = strategy_on(strategy, layers, target=0.999, steps=60, **changes)
    learned = sparsifier.parameters()
    optimizer = Adam([{"params": layers.parameters()}, *([{"params": learned, "lr": 0.3}] if learned else [])], lr=0.01)
    for step in range(60):
        seed_generators(step)
        loss = F.cross_entropy(layers(torch.randn(8, 1, 3, 3)), torch.arange(8) % 3) + sparsifier.loss()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        sparsifier.step(optimizer)
    reached = "0.75" if strategy == "NetworkSlimming" else "0.9722"  # all but one number of 4, and of 36
    with pytest.warns(
        UserWarning, match=rf"{strategy}: the target of 0.999 is missed, {reached} of the weights are zero$"
    ):
        sparsifier.finalize()
    assert layers[1 if strategy == "NetworkSlimming" else 0].weight.any()


@pytest.mark.parametrize("strategy", [AdaProx, ProximalStep, VariableSplitting, ReweightedTikhonov])
@pytest.mark.filterwarnings("default")
def test_a_layer_that_would_be_emptied_is_named_once(strategy):
    layer = nn.Linear(3, 2)
    sparsifier, optimizer = strategy(layer, L1(), 1e4), SGD(layer.parameters(), lr=1e-3)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(3):
            layer(torch.ones(1, 3)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            sparsifier.step(optimizer)
        sparsifier.finalize()
    assert [str(one.message) for one in said] == ["weight would become all zero; its largest group is kept"]
    assert layer.weight.count_nonzero() == 1


# ---- two strategies


@every_strategy
def test_a_weight_belongs_to_one_strategy_at_a_time(strategy):
    small = model()
    first = strategy_on(strategy, small)
    everything = [weight.name for weight in first.weights]
    with pytest.raises(ValueError, match=f"ProximalStep: {strategy} already acts on"):
        ProximalStep(small, L1(), 0.1, include=everything)
    first.finalize()
    second = ProximalStep(small, L1(), 0.1, include=everything)
    second.release()
    third = ProximalStep(small, L1(), 0.1, include=everything)
    del third
    ProximalStep(small, L1(), 0.1, include=everything)


def test_different_weights_may_have_different_strategies():
    small = model()
    one = ProximalStep(small, L1(), 0.1, include="conv")
    other = VariableSplitting(small, L0(), 1e-3, include="linear")
    optimizer = SGD(small.parameters(), lr=0.1)
    for step in range(3):
        images, labels = batch(step)
        (F.cross_entropy(small(images), labels) + one.loss() + other.loss()).backward()
        optimizer.step()
        optimizer.zero_grad()
        one.step(optimizer)
        other.step(optimizer)
    other.finalize()
    one.finalize()


@every_strategy
def test_nothing_of_a_refused_strategy_stays(strategy):
    small = model()
    small.attention.in_proj_weight.requires_grad_(False)
    with pytest.raises(ValueError, match="include"):
        strategy_on(strategy, small, include="nothing")
    ProximalStep(small, L1(), 0.1)


# ---- the order of calls


@every_kind
def test_after_finalize_every_call_is_refused(strategy):
    small = model()
    sparsifier = strategy_on(strategy, small)
    optimizer = SGD([*small.parameters(), *sparsifier.parameters()], lr=0.01)
    state = copy.deepcopy(sparsifier.state_dict())
    train(small, sparsifier, optimizer)
    sparsifier.finalize()
    before = copied(small)
    calls = {
        "finalize": sparsifier.finalize,
        "loss": sparsifier.loss,
        "step": lambda: sparsifier.step(optimizer),
        "load_state_dict": lambda: sparsifier.load_state_dict(state),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"{name}: this {strategy} is finalized; make another one to go on"):
            call()
    sparsifier.release()  # once more does nothing
    assert same(small, before)


@every_kind
def test_weights_that_the_optimiser_lacks_are_named(strategy):
    small = model()
    sparsifier = strategy_on(strategy, small)
    last = sparsifier.weights[-1]
    some = [parameter for parameter in small.parameters() if parameter is not last.parameter]
    before = copied(small)
    with pytest.raises(ValueError, match=f"optimizer: it does not hold {last.name}, which {strategy} acts on"):
        sparsifier.step(SGD([*some, *sparsifier.parameters()], lr=0.1))
    assert same(small, before)


@every_kind
def test_learned_parameters_that_the_optimiser_lacks_are_named(strategy):
    small = model()
    sparsifier = strategy_on(strategy, small)
    if not sparsifier.parameters():
        sparsifier.step(SGD(small.parameters(), lr=0.1))  # nothing is missing
        return
    with pytest.raises(ValueError, match=r"does not hold sparsifier\.parameters\(\); make it of \[\*model"):
        sparsifier.step(SGD(small.parameters(), lr=0.1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.linear.weight.requires_grad_(False), r"linear\.weight was frozen after"),
        (lambda m: setattr(m, "more", nn.Linear(2, 2)), r"were added or removed after ProximalStep .*more\.bias, more"),
        (lambda m: delattr(m, "head"), r"removed after ProximalStep was made: head\.bias, head"),
        (lambda m: setattr(m, "linear", nn.Linear(8, 4)), r"linear\.weight was replaced after"),
        (lambda m: setattr(m.linear, "weight", nn.Parameter(torch.zeros(4, 8))), r"linear\.weight was replaced after"),
        (lambda m: nn.utils.parametrizations.weight_norm(m.linear), r"added or removed .*parametrizations"),
    ],
    ids=["frozen", "added", "removed", "a new layer", "a new parameter", "parametrised"],
)  # fmt: skip
def test_a_model_that_changed_is_refused_and_left_as_it_is(change, message):
    small = model()
    optimizer = SGD(small.parameters(), lr=0.1)
    sparsifier = ProximalStep(small, L1(), 0.1)
    train(small, sparsifier, optimizer)
    change(small)
    before = copied(small)
    for call in (lambda: sparsifier.step(optimizer), sparsifier.finalize):
        with pytest.raises(ValueError, match=message):
            call()
    assert same(small, before)
    sparsifier.release()


@every_kind
def test_a_state_of_another_strategy_or_model_is_refused(strategy):
    small, other = model(), model()
    sparsifier = strategy_on(strategy, small)
    state = sparsifier.state_dict()
    stranger = MagnitudePruning(other, 0.5, steps=10, include="conv")
    with pytest.raises(ValueError, match="sparsifier: the state is that of"):
        stranger.load_state_dict(state)
    with pytest.raises(ValueError, match="sparsifier: the state is that of"):
        sparsifier.load_state_dict(stranger.state_dict())
    stranger.release()
    smaller = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    another = strategy_on(strategy, smaller)
    with pytest.raises(ValueError, match="sparsifier: the state is of the weights"):
        another.load_state_dict(state)


# ---- numbers that are not


@every_strategy
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_finalized(strategy, bad):
    small = model()
    sparsifier = strategy_on(strategy, small)
    with torch.no_grad():
        sparsifier.weights[0].parameter.view(-1)[1] = bad
        for weight in sparsifier.weights[1:]:
            weight.parameter.mul_(0.5)
    before = copied(small)
    with pytest.raises(ValueError, match=f"{sparsifier.weights[0].name} would get numbers that are not finite"):
        sparsifier.finalize()
    assert all(torch.equal(value.nan_to_num(), before[name].nan_to_num()) for name, value in small.state_dict().items())
    with torch.no_grad():
        sparsifier.weights[0].parameter.view(-1)[1] = 0.3
    sparsifier.finalize()  # it is still there


@every_kind
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_a_step_that_loss_scaling_skips_changes_nothing(strategy, fused):
    small = model()
    sparsifier = strategy_on(strategy, small)
    optimizer = Adam([*small.parameters(), *sparsifier.parameters()], lr=1e-3, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    counts = []
    for step, factor in enumerate([float("inf"), 1.0, 1.0, float("inf"), float("inf"), 1.0]):
        images, labels = batch(step)
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(small(images), labels) + sparsifier.loss()
        before = copied(small)
        scaler.scale(loss * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        sparsifier.step(optimizer)
        counts.append(sparsifier.step_count)
        if factor != 1.0:
            own = dict(small.named_parameters())
            assert all(torch.equal(own[name], before[name]) for name in own)
    assert counts == [0, 1, 2, 2, 2, 3]


def test_a_skipped_step_after_a_resume_is_noticed():
    states = []
    for skip in (False, True):
        small = model()
        sparsifier, optimizer = ProximalStep(small, L1(), 0.1), Adam(small.parameters(), fused=True)
        if skip:
            for part, state in zip((small, sparsifier, optimizer), states, strict=True):
                part.load_state_dict(state)
            sparsifier.step(optimizer)
            assert sparsifier.step_count == 2
        else:
            train(small, sparsifier, optimizer, steps=2)
            states = [copy.deepcopy(part.state_dict()) for part in (small, sparsifier, optimizer)]


def test_another_optimiser_may_take_over():
    small = model()
    sparsifier = ProximalStep(small, L1(), 0.1)
    for count, optimizer in enumerate([Adam(small.parameters(), fused=True), SGD(small.parameters(), lr=0.1),
                                       Adam(small.parameters(), fused=True)]):  # fmt: skip
        train(small, sparsifier, optimizer)
        assert sparsifier.step_count == count + 1


# ---- unusual models


class Tied(nn.Module):
    """A small language model: the output layer is the embedding; and a linear layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.first = nn.Linear(4, 4)
        self.second = self.first
        self.third = nn.Linear(4, 4)
        self.third.weight = self.first.weight
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, tokens):
        return self.out(self.third(self.second(self.first(self.embedding(tokens)))))


@every_strategy
def test_tied_weights_are_handled_once(strategy):
    if strategy == "NetworkSlimming":
        shared = nn.BatchNorm2d(3)
        norms = nn.Sequential(nn.Conv2d(1, 3, 3), shared, nn.ReLU(), shared)
        assert [weight.name for weight in strategy_on(strategy, norms).weights] == ["1.weight"]
        return
    torch.manual_seed(0)
    tied = Tied()
    sparsifier = strategy_on(strategy, tied)
    # The embedding is no weight, also not by the name of the layer that it is tied to.
    assert [weight.name for weight in sparsifier.weights] == ["first.weight"]
    optimizer = Adam([*tied.parameters(), *sparsifier.parameters()], lr=0.01)
    for step in range(3):
        seed_generators(step)
        (tied(torch.arange(7)).square().mean() + sparsifier.loss()).backward()
        optimizer.step()
        optimizer.zero_grad()
        sparsifier.step(optimizer)
    promised = sparsifier.sparse_weights()["first.weight"]
    sparsifier.finalize()
    assert tied.third.weight is tied.first.weight
    assert tied.out.weight is tied.embedding.weight
    assert torch.equal(tied.third.weight, promised)


def test_a_tied_embedding_can_be_asked_for():
    assert [weight.name for weight in ProximalStep(Tied(), L1(), 0.1, include="embedding.weight").weights] == [
        "embedding.weight"
    ]


@every_kind
def test_half_precision_keeps_its_type(strategy):
    small = model().bfloat16()
    sparsifier = strategy_on(strategy, small)
    optimizer = Adam([*small.parameters(), *sparsifier.parameters()], lr=0.02, eps=1e-4)
    for step in range(10):
        seed_generators(step)
        images, labels = batch(step)
        (F.cross_entropy(small(images.bfloat16()), labels) + sparsifier.loss()).backward()
        optimizer.step()
        optimizer.zero_grad()
        sparsifier.step(optimizer)
    sparsifier.finalize()
    assert all(parameter.dtype == torch.bfloat16 and parameter.isfinite().all() for parameter in small.parameters())
    assert sum(int((weight.parameter == 0).sum()) for weight in sparsifier.weights) > 0


class Spectral(nn.Module):
    """A layer with complex weights."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(6, 8, dtype=torch.complex64, generator=generator))
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x):
        return self.norm((x @ self.weight.T).abs())


@every_strategy
def test_complex_weights_keep_their_phase(strategy):
    spectral = Spectral()
    sparsifier = strategy_on(strategy, spectral)
    optimizer = SGD([*spectral.parameters(), *sparsifier.parameters()], lr=0.0)
    x = torch.randn(4, 8, dtype=torch.complex64)
    before = spectral.weight.detach().clone()
    for _ in range(3):
        (spectral(x).sum() + sparsifier.loss()).backward()
        optimizer.step()
        sparsifier.step(optimizer)
    sparsifier.finalize()
    after = spectral.weight.detach()
    alive = after != 0
    assert torch.allclose(torch.angle(after[alive]), torch.angle(before[alive]), atol=1e-5)


def test_transposed_convolutions_have_their_filters_on_the_second_axis():
    transposed = nn.ConvTranspose2d(3, 5, 2)
    for groups, axis, count in ((Filters(), 1, 5), (InputChannels(), 0, 3)):
        sparsifier = MagnitudePruning(transposed, 0.5, steps=1, groups=groups, schedule=Constant())
        optimizer = SGD(transposed.parameters(), lr=1e-3)
        transposed(torch.ones(1, 3, 4, 4)).sum().backward()
        optimizer.step()
        sparsifier.step(optimizer)
        (weight,) = sparsifier.sparse_weights().values()
        sparsifier.release()
        dead = (weight.movedim(axis, 0).flatten(1) == 0).all(1)
        assert len(dead) == count
        assert 0 < dead.sum() < count
        assert (weight == 0).sum() == dead.sum() * weight.numel() // count
    with pytest.raises(ValueError, match="mixes axes; give a function that says what its groups are"):
        ProximalStep(nn.ConvTranspose2d(4, 4, 2, groups=2), L1(), 0.1, groups=Filters())


@pytest.fixture
def process_group(tmp_path):
    """A group of one process. What wraps a model must be gone before it: see `training.distributed.shared_loss`."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    gc.collect()
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("strategy", first_of(KINDS, 2))
def test_a_model_inside_of_ddp_is_sparsified_by_the_names_of_ddp(strategy, process_group):
    small = model()
    wrapped = nn.parallel.DistributedDataParallel(small)
    sparsifier = strategy_on(strategy, wrapped)
    assert all(weight.name.startswith("module.") for weight in sparsifier.weights)
    with pytest.raises(ValueError, match="already acts on"):
        ProximalStep(small, L1(), 0.1, include=[w.name.removeprefix("module.") for w in sparsifier.weights])
    learned = [{"params": sparsifier.parameters(), "lr": 0.5}] if sparsifier.parameters() else []
    optimizer = SGD([{"params": wrapped.parameters()}, *learned], lr=0.02)
    train(wrapped, sparsifier, optimizer, steps=10)
    promised = sparsifier.sparse_weights()
    sparsifier.finalize()
    own = dict(small.named_parameters())
    for name, values in promised.items():
        assert torch.equal(own[name.removeprefix("module.")], values)
    assert sum(int((values == 0).sum()) for values in promised.values()) > 0


@pytest.mark.parametrize("strategy", [name for name in KINDS if not STRATEGIES[name].acts_in_forward])
def test_a_compiled_model_is_sparsified_as_the_one_inside(strategy, fresh_compiler):
    small, plain = model(), model()
    compiled = torch.compile(small, backend="eager")
    found = []
    for outer, inner in ((compiled, small), (plain, plain)):
        torch.manual_seed(0)
        sparsifier = strategy_on(strategy, outer)
        optimizer = SGD([*outer.parameters(), *sparsifier.parameters()], lr=0.02)
        train(outer, sparsifier, optimizer, steps=3)
        sparsifier.finalize()
        found.append(list(inner.parameters()))
    assert any((parameter == 0).any() for parameter in found[0])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_the_largest_group_is_the_largest_even_where_squares_vanish():
    layer = nn.Linear(3, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(12.0).reshape(4, 3) * 1e-30)
    sparsifier = ProximalStep(layer, MCP(1.0, 3.0), 0.1, groups=Filters())
    with pytest.warns(UserWarning, match="weight would become all zero; its largest group is kept"):
        kept = sparsifier.survivors.at_least_one(sparsifier.weights[0], torch.zeros(4, 3))
    assert kept.any(1).tolist() == [False, False, False, True]


def test_every_case_is_of_a_strategy():
    assert {cls.__name__ for cls in CASES} == set(STRATEGIES)


def test_what_is_no_penalty_or_no_model_is_refused():
    with pytest.raises(ValueError, match="ProximalStep: penalty must be a Penalty, got 'L1'"):
        ProximalStep(nn.Linear(3, 3), "L1", 0.1)
    with pytest.raises(ValueError, match="ARD belongs to a matrix of data"):
        ProximalStep(nn.Linear(3, 3), ARD(torch.eye(3), 1.0), 0.1)
    with pytest.raises(ValueError, match=r"model must be a torch\.nn\.Module, got int"):
        NetworkSlimming(3, L1(), 0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 0}, "heads must be a whole number >= 1, got 0"),
        ({"heads": 2.0}, "heads must be a whole number >= 1, got 2.0"),
        ({"heads": 2, "stacked": True}, "stacked must be a whole number >= 1, got True"),
        ({"heads": 2, "stacked": 3, "output": True}, "stacked must be 1 where heads are columns"),
    ],
)
def test_heads_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=f"AttentionHeads: {message}"):
        AttentionHeads(**options)


def test_a_matrix_that_is_not_cut_into_heads_is_named():
    for heads, side in ((AttentionHeads(2, stacked=3), "rows"), (AttentionHeads(3, output=True), "columns")):
        with pytest.raises(ValueError, match=f"the tensor must be a matrix whose {side} are a multiple of"):
            heads.norm(torch.ones(4, 4))
