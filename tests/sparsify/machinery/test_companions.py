"""Which biases and norms are found behind filters, and what becomes of them."""

import copy
import pickle
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from unrolled.penalties import L1, Filters, Grouped, InputChannels
from unrolled.sparsify import AttentionHeads, ProximalStep


class Residual(nn.Module):
    """Norms behind convolutions, and one before: the sum is normed, then convolved."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.before = nn.BatchNorm2d(4)
        self.first = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.between = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.unused = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.second(self.between(self.first(self.before(2 * x).relu())).relu())
        return self.head(x.mean((2, 3)))


def run(model, sparsifier, *inputs, steps=1):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(*inputs).square().mean().backward()
        optimizer.step()
        sparsifier.step(optimizer)


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def kill(*tensors, channel=1):
    with torch.no_grad():
        for tensor in tensors:
            tensor[channel] = 0


def test_norms_behind_and_biases_are_found_and_those_before_and_outputs_are_not():
    model = Residual()
    sparsifier = ProximalStep(model, Grouped(L1(), Filters()), strength=1e-9)
    run(model, sparsifier, torch.randn(2, 1, 5, 5))
    assert hooks(model) == 0
    assert sorted(sparsifier.companions.names()) == ["between.bias", "between.weight", "second.bias", "stem.bias"]


@pytest.mark.parametrize(
    ("penalty", "groups"),
    [(L1(), None), (L1(), InputChannels()), (Grouped(L1(), Filters()), None)],
    ids=["numbers", "inputs", "filters"],
)
def test_only_dead_filters_of_groups_are_silenced(penalty, groups):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 1))
    sparsifier = ProximalStep(model, penalty, strength=1e-9, groups=groups, include="0")
    run(model, sparsifier, torch.randn(4, 2, 1, 1))
    nn.init.constant_(model[1].bias, 2.0)
    kill(model[0].weight)
    bias = model[0].bias.detach().clone()
    sparsifier.finalize()
    if penalty == L1() and groups is None:
        torch.testing.assert_close(model[0].bias.detach(), bias)
        assert model[1].weight.all()
    else:
        alive = torch.tensor([True, False, True])
        torch.testing.assert_close(model[0].bias.detach(), bias * alive)
        torch.testing.assert_close(model[1].bias.detach(), 2.0 * alive)
        assert torch.equal(model[1].weight != 0, alive)


def test_while_training_a_dead_filter_has_no_shift_but_keeps_the_scale_by_which_it_may_come_back():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3, 1))
    sparsifier = ProximalStep(model, Grouped(L1(), Filters()), strength=1e-9, include="0")
    kill(model[0].weight)
    nn.init.constant_(model[1].bias, 2.0)
    run(model, sparsifier, torch.randn(4, 1, 1, 1))
    # The gradient of its weights came through the scale, so that it lives.
    assert model[0].weight[1].any()
    kill(model[0].weight)
    sparsifier.companions.silence({"0.weight": model[0].weight})
    assert model[0].bias[1] == model[1].bias[1] == 0
    assert model[1].weight[1] != 0


def test_a_model_validated_as_if_finalized_is_the_finalized_one_and_then_as_before():
    torch.manual_seed(0)
    model = Residual()
    sparsifier = ProximalStep(model, Grouped(L1(), Filters()), strength=1e-9)
    x = torch.randn(2, 1, 5, 5)
    run(model, sparsifier, x, steps=2)
    nn.init.constant_(model.between.bias, 1.0)
    kill(model.first.weight, model.stem.weight)
    before = copy.deepcopy(model.state_dict())
    model.eval()
    with torch.no_grad():
        raw = model(x)
        with sparsifier.as_finalized():
            validated = model(x)
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name]), name
        sparsifier.finalize()
        assert torch.equal(model(x), validated)
    assert not torch.equal(raw, validated)
    assert list(model.state_dict()) == list(before)
    assert hooks(model) == 0


def test_a_filter_that_dies_emits_nothing_from_then_on_and_the_end_changes_no_output():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(54, 1))
    sparsifier = ProximalStep(model, Grouped(L1(), Filters()), strength=0.3, include="0")
    x = torch.randn(8, 1, 5, 5) + 2
    while model[0].weight.flatten(1).any(1).all():
        run(model.train(), sparsifier, x)
    with torch.no_grad():
        before = model.eval()(x)
        sparsifier.finalize()
        torch.testing.assert_close(model(x), before, atol=1e-6, rtol=0)


def test_hooks_do_not_disturb_a_compiled_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 1))
    sparsifier = ProximalStep(model, Grouped(L1(), Filters()), strength=1e-9, include="0")
    x = torch.randn(4, 1, 1, 1)
    wanted = copy.deepcopy(model)(x)
    model.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(model(x), wanted)
    run(model, sparsifier, x)
    sparsifier.finalize()
    assert hooks(model) == 0


COMPILED = {
    "around": lambda model: torch.compile(model, fullgraph=True, backend="eager"),
    "inside": lambda model: (model.compile(fullgraph=True, backend="eager"), model)[1],
    "function": lambda model: torch.compile(lambda x: model(x), fullgraph=True, backend="eager"),
}


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("how", COMPILED)
def test_those_of_a_compiled_model_are_found_in_its_second_run_which_is_not(how):
    torch.manual_seed(0)
    model, graphs = Residual(), []
    compiled = COMPILED[how](model)
    first = ProximalStep(compiled if how == "around" else model, Grouped(L1(), Filters()), 1e-9, include="*first*")
    second = ProximalStep(model, Grouped(L1(), Filters()), 1e-9, include="stem")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    for _ in range(4):
        compiled(torch.randn(2, 1, 5, 5)).square().mean().backward()
        optimizer.step()
        for sparsifier in (first, second):
            sparsifier.step(optimizer)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    own = [name.removeprefix("_orig_mod.") for name in first.companions.names()]
    assert own == ["between.bias", "between.weight"]
    assert second.companions.names() == ["stem.bias"]
    assert graphs[1] == graphs[0] < graphs[2] == graphs[3]
    assert hooks(model) == 0


def test_a_model_that_never_runs_as_a_whole_is_told_of():
    model = Residual()
    sparsifier = ProximalStep(model, Grouped(L1(), Filters()), strength=1e-9, include="stem")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        model.stem(torch.randn(2, 1, 5, 5)).square().mean().backward()
        optimizer.step()
        with pytest.warns(UserWarning, match="Residual was stepped twice") if step == 1 else nullcontext():
            sparsifier.step(optimizer)
    assert hooks(model) == 0


def test_a_dead_head_of_attention_loses_its_biases():
    torch.manual_seed(0)
    model = nn.MultiheadAttention(4, 2, batch_first=True)
    nn.init.normal_(model.in_proj_bias)
    nn.init.normal_(model.out_proj.bias)
    sparsifier = ProximalStep(
        model, Grouped(L1(), AttentionHeads(2, stacked=3)), strength=1e-9, include="in_proj_weight"
    )
    x = torch.randn(2, 3, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(x, x, x)[0].square().sum().backward()
    optimizer.step()
    sparsifier.step(optimizer)
    head = torch.tensor([False, False, True, True] * 3)
    with torch.no_grad():
        model.in_proj_weight[head] = 0
    sparsifier.finalize()
    assert torch.equal(model.in_proj_bias == 0, head)
    assert model.out_proj.bias.all()


def test_copies_are_plain_models():
    model = Residual()
    sparsifier = ProximalStep(model, Grouped(L1(), Filters()), strength=1e-9)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        twin(torch.randn(2, 1, 5, 5))
        assert sparsifier.companions.names() == []
        assert list(twin.state_dict()) == list(Residual().state_dict())
    sparsifier.release()
    assert hooks(model) == 0


def test_frozen_and_shared_norms_and_tokens_stay_as_they_are():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.frozen = (nn.Conv2d(2, 2, 1, bias=False) for _ in range(3))
            self.shared, self.cold = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
            self.tokens, self.norm = nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2)
            self.cold.requires_grad_(False)

        def forward(self, x):
            x = self.cold(self.frozen(self.shared(self.b(self.shared(self.a(x))))))
            return self.norm(self.tokens(x.flatten(2).transpose(1, 2))) * 2

    model = Model()
    sparsifier = ProximalStep(model, Grouped(L1(), Filters()), strength=1e-9)
    run(model, sparsifier, torch.randn(3, 2, 1, 2))
    assert sparsifier.companions.names() == []


def test_a_resumed_run_knows_them_without_a_forward_pass():
    torch.manual_seed(0)
    states = {}
    for fine_tune in (0.0, 0.5):
        model = Residual()
        options = {"fine_tune": fine_tune, "steps": 4}
        sparsifier = ProximalStep(model, Grouped(L1(), Filters()), 1e-9, **options)
        run(model, sparsifier, torch.randn(2, 1, 5, 5), steps=1)
        kill(model.first.weight)
        run(model, sparsifier, torch.randn(2, 1, 5, 5), steps=1)
        states[fine_tune] = sparsifier.state_dict(), copy.deepcopy(model.state_dict())
        sparsifier.release()
        twin = Residual()
        again = ProximalStep(twin, Grouped(L1(), Filters()), 1e-9, **options)
        again.load_state_dict(states[fine_tune][0])
        twin.load_state_dict(states[fine_tune][1])
        assert again.companions.names() == sparsifier.companions.names()
        assert hooks(twin) == 0
        kill(twin.first.weight)
        again.finalize()
        assert twin.between.weight[1] == twin.between.bias[1] == 0
