"""Weights that are replaced while a model runs: when, how often, for whom, and that nothing is left."""

import copy
import io
import pickle

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from tests.training.small_runs import run_together
from unrolled.sparsify import select_weights
from unrolled.sparsify.machinery.hooks import WeightHooks
from unrolled.sparsify.machinery.learned_parameters import learned


class Noisy:
    """Replaces weights by noisy ones in training, by doubled ones in evaluation, and counts."""

    def __init__(self, model, **more):
        self.count = 0
        self.hooks = WeightHooks(model, select_weights(model), self.replaced, **more)

    def replaced(self, weight, values, generator):
        self.count += 1
        return 2 * values if generator is None else values * (1 + torch.randn(values.shape, generator=generator))


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def assert_nothing_left(model):
    for module in model.modules():
        assert not {"weight", "in_proj_weight", "weight_ih_l0"} & set(vars(module))


def test_in_evaluation_a_weight_is_what_it_is_replaced_by_and_the_model_stays():
    model, x = mlp().eval(), torch.ones(5, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    doubled = copy.deepcopy(model)
    with torch.no_grad():
        doubled[0].weight *= 2
        doubled[2].weight *= 2
    noisy = Noisy(model)
    state = torch.get_rng_state()
    torch.testing.assert_close(model(x), doubled(x))
    assert torch.equal(torch.get_rng_state(), state)
    assert_nothing_left(model)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    noisy.hooks.remove()
    noisy.hooks.remove()
    assert not torch.equal(model(x), doubled(x))


def test_gradients_reach_the_parameter_through_the_replacement():
    layer = nn.Linear(2, 1, bias=False).eval()
    noisy = Noisy(layer)
    layer(torch.tensor([[3.0, 5.0]])).sum().backward()
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[6.0, 10.0]]))
    assert noisy.count == 1


def test_noise_is_a_function_of_the_global_generator_and_new_in_each_call():
    model, x = mlp(), torch.ones(1, 3)
    noisy = Noisy(model)
    torch.manual_seed(5)
    first, second = model(x), model(x)
    torch.manual_seed(5)
    assert torch.equal(model(x), first)
    assert torch.equal(model(x), second)
    assert not torch.equal(first, second)
    assert noisy.count == 8


def test_it_ends_with_an_exception_of_the_model():
    class Fails(nn.Module):
        def forward(self, x):
            raise RuntimeError("on purpose")

    model = nn.Sequential(nn.Linear(3, 3), Fails())
    noisy = Noisy(model)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="on purpose"):
            model(torch.ones(1, 3))
        assert_nothing_left(model)
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            model(torch.ones(1, 4))
        assert_nothing_left(model)
    assert noisy.count == 4


def test_what_the_keyboard_interrupts_is_cleared():
    class Interrupted(nn.Module):
        def forward(self, x):
            raise KeyboardInterrupt

    model = nn.Sequential(nn.Linear(3, 3), Interrupted())
    noisy = Noisy(model)
    with pytest.raises(KeyboardInterrupt):
        model(torch.ones(1, 3))
    noisy.hooks.clear()
    assert_nothing_left(model)


def test_copies_are_plain_models():
    model, x = mlp(), torch.ones(1, 3)
    plain = model(x)
    noisy = Noisy(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copies = [
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(file, weights_only=False),
        AveragedModel(model),
    ]
    for other in copies:
        torch.testing.assert_close(other(x), plain)
    assert noisy.count == 0
    assert not torch.equal(model(x), plain)
    assert copies[0].state_dict().keys() == model.state_dict().keys()


def test_a_tied_weight_is_replaced_once_under_all_its_names():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.a(x) - self.b(x), self.a(x) - self.a(x)

    model = Tied()
    noisy = Noisy(model)
    differences = model(torch.ones(2, 3))
    assert noisy.count == 1
    assert all(difference.abs().max() == 0 for difference in differences)


def test_a_part_can_be_called_and_recursion_ends_well():
    class Recursive(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x, depth):
            return self.linear(x) if depth == 0 else self(x, depth - 1)

    model = Recursive().eval()
    noisy = Noisy(model)
    x = torch.ones(1, 3)
    doubled = x @ (2 * model.linear.weight.T) + model.linear.bias
    torch.testing.assert_close(model(x, 2), doubled)
    assert noisy.count == 1
    torch.testing.assert_close(model.linear(x), doubled)
    assert noisy.count == 2
    assert_nothing_left(model)


@pytest.mark.parametrize(
    "module", [nn.MultiheadAttention(4, 2), nn.LSTM(4, 4, 1), nn.TransformerEncoderLayer(4, 2, 8, 0.0)]
)
@pytest.mark.parametrize("training", [True, False])
def test_modules_that_use_weights_of_others_or_lists_of_them(module, training):
    module = copy.deepcopy(module).train(training)
    other = copy.deepcopy(module)
    with torch.no_grad():
        for weight in select_weights(other):
            weight.parameter *= 2
    hooks = WeightHooks(module, select_weights(module), lambda weight, values, generator: 2 * values)
    x = torch.randn(5, 3, 4)

    def outcome(module):
        return module(x, x, x)[0] if isinstance(module, nn.MultiheadAttention) else module(x)

    torch.testing.assert_close(outcome(module), outcome(other))
    assert_nothing_left(module)
    hooks.remove()
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(outcome(module), outcome(other))


class Deep(nn.Module):
    """Two parts that may be computed again; they share a weight that is used outside of them, too."""

    def __init__(self):
        super().__init__()
        self.first, self.inner, self.last = (nn.Linear(4, 4) for _ in range(3))
        self.drop = nn.Dropout(0.5)
        self.again = None

    def part(self, x):
        return self.drop(torch.tanh(self.inner(torch.tanh(self.first(x)))))

    def forward(self, x):
        x = self.first(x)
        for _ in range(2):
            x = self.part(x) if self.again is None else checkpoint(self.part, x, use_reentrant=self.again)
        return self.last(x)


@pytest.mark.parametrize("reentrant", [True, False])
def test_with_gradient_checkpointing_gradients_are_the_same(reentrant):
    x = torch.randn(3, 4, requires_grad=True)
    model = Deep()
    noisy = Noisy(model)
    gradients = []
    for again in (None, reentrant):
        model.again = again
        model.zero_grad()
        torch.manual_seed(3)
        model(x).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert noisy.count > 2 * 3
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_part_that_is_called_and_computed_again_by_itself():
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), torch.randn(3, 4)
    noisy = Noisy(model)
    gradients = []
    for again in (False, True):
        model.zero_grad()
        torch.manual_seed(3)
        passes = [checkpoint(model, x, use_reentrant=False) if again else model(x) for _ in range(2)]
        sum(y.square().sum() for y in passes).backward()
        gradients.append(model[0].weight.grad.clone())
    assert noisy.count > 4
    torch.testing.assert_close(*gradients)


def test_functional_calls_are_replaced_with_their_own_values():
    layer = nn.Linear(2, 2, bias=False).eval()
    noisy = Noisy(layer)
    other = {"weight": torch.eye(2)}
    torch.testing.assert_close(torch.func.functional_call(layer, other, (torch.ones(1, 2),)), torch.full((1, 2), 2.0))
    assert noisy.count == 1


def test_under_autocast_gradients_arrive_in_full_precision():
    model = mlp()
    noisy = Noisy(model)
    with torch.autocast("cpu", torch.bfloat16):
        y = model(torch.ones(2, 3))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert model[0].weight.grad.dtype == torch.float32
    assert model[0].weight.grad.abs().sum() > 0
    assert noisy.count == 2


def test_outputs_are_disturbed_in_training_only_also_with_a_named_input():
    layer = nn.Linear(2, 2, bias=False)
    (weight,) = select_weights(layer)
    hooks = WeightHooks(layer, [], lambda *_: None, lambda weight, module, x, y: y + 100 * x, {layer: weight})
    x = torch.ones(1, 2)
    plain = x @ layer.weight.T
    torch.testing.assert_close(layer(x), plain + 100)
    torch.testing.assert_close(layer(input=x), plain + 100)
    torch.testing.assert_close(layer.eval()(x), plain)
    hooks.enabled = False
    torch.testing.assert_close(layer.train()(x), plain)


def test_they_end_with_who_made_them_at_once(no_collector):
    model, x = mlp(), torch.ones(1, 3)
    plain = model(x)
    noisy = Noisy(model)
    assert not torch.equal(model(x), plain)
    del noisy
    torch.testing.assert_close(model(x), plain)
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def gradients_of_two_passes(rank=0, size=1):
    model = mlp()
    scale = learned(torch.ones(4, 3))
    hooks = WeightHooks(
        model,
        select_weights(model, "0"),
        lambda weight, values, generator: values + scale * torch.randn(values.shape, generator=generator),
    )
    wrapped = DistributedDataParallel(model) if size > 1 else model
    x = torch.arange(12.0).reshape(4, 3)
    for _ in range(2):
        torch.manual_seed(7)
        wrapped(x[rank::size]).square().mean().backward()
    hooks.remove()
    return [*(parameter.grad for parameter in model.parameters()), scale.grad]


def save_gradients(path):
    dist.init_process_group("gloo")
    try:
        rank = dist.get_rank()
        torch.save(gradients_of_two_passes(rank, dist.get_world_size()), f"{path}-{rank}")
    finally:
        dist.destroy_process_group()


@pytest.mark.full  # runs of two processes are also tested in tests/training
def test_two_processes_have_the_gradients_of_one(tmp_path):
    run_together(save_gradients, tmp_path / "gradients")
    expected = gradients_of_two_passes()
    for rank in range(2):
        for found, gradient in zip(torch.load(tmp_path / f"gradients-{rank}"), expected, strict=True):
            torch.testing.assert_close(found, gradient)
