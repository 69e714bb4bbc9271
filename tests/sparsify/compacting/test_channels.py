"""A compacted model gives the same outputs, with as many parameters as a count by hand says."""

import copy
import sys
import warnings

import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.nn import functional as F

from unrolled.networks import EPGN
from unrolled.operators import as_operator
from unrolled.penalties import L1, Filters, Grouped
from unrolled.sparsify import ProximalStep, compact, compaction
from unrolled.sparsify.compacting import channels
from unrolled.system.vision import import_torchvision

IMAGE = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm0 = nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.first, self.norm1 = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second, self.norm2 = nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = F.relu(self.norm0(self.stem(x)))
        x = F.relu(x + self.norm2(self.second(F.relu(self.norm1(self.first(x))))))
        return self.head(x.mean((2, 3)))


class Concatenating(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(2, 5, 1)
        self.last = nn.Conv2d(9, 2, 3)

    def forward(self, x):
        return self.last(F.leaky_relu(torch.cat([self.left(x), self.right(x)], 1)))


class Encoder(nn.Module):
    """Attention, whose heads and sums stay as they are."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(2, 8, 3, 3)
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layer(self.embed(x).flatten(2).transpose(1, 2)).mean(1))


def sequential():
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 4, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(36, 7), nn.Tanh(), nn.Linear(7, 3),
    )  # fmt: skip


def depthwise():
    return nn.Sequential(
        nn.Conv2d(2, 6, 1), nn.BatchNorm2d(6), nn.ReLU6(), nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.PReLU(6),
        nn.Conv2d(6, 3, 1),
    )  # fmt: skip


def transposed():
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.ConvTranspose2d(5, 4, 2, 2), nn.ReLU(), nn.Conv2d(4, 1, 3))


def one_dimension():
    return nn.Sequential(
        nn.Flatten(2), nn.Conv1d(2, 5, 3, padding=1), nn.InstanceNorm1d(5, affine=True), nn.ELU(),
        nn.Conv1d(5, 4, 3), nn.Flatten(), nn.Linear(4 * 34, 3),
    )  # fmt: skip


def three_dimensions():
    return nn.Sequential(nn.Unflatten(0, (1, 2)), nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, 1))


def tied():
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 5), nn.Linear(5, 2))
    model[2].weight = model[0].weight
    return model


def numbers(*shapes):
    return sum(torch.Size(shape).numel() for shape in shapes)


# The model, which filters are dead, and how many numbers are left, counted by hand.
ARCHITECTURES = {
    "sequential": (
        sequential,
        {"0": [0, 3], "4": [1], "7": [2, 3, 6]},
        numbers((4, 2, 9), (2, 4)) + numbers((3, 4, 9), (3,)) + numbers((4, 27), (4,)) + numbers((3, 4), (3,)),
    ),
    "residual": (
        Residual,
        {"stem": [0, 1, 4], "first": [2, 5], "second": [1, 3, 4]},
        numbers((4, 2, 9), (2, 4), (6, 4, 9), (2, 6), (4, 6, 9), (2, 4), (3, 4), (3,)),
    ),
    "a branch that is dead": (
        Residual,
        {"first": range(8), "second": range(6)},
        numbers((6, 2, 9), (2, 6), (1, 6, 9), (2, 1), (6, 1, 9), (2, 6), (3, 6), (3,)),
    ),
    "concatenating": (
        Concatenating,
        {"left": [0, 3], "right": [2]},
        numbers((2, 2, 9), (2,), (4, 2), (4,), (2, 6, 9), (2,)),
    ),
    "depthwise, its input dead": (
        depthwise,
        {"0": [1, 2]},
        numbers((4, 2), (4,), (2, 4), (4, 9), (4,), (4,), (3, 4), (3,)),
    ),
    "depthwise, dead itself": (
        depthwise,
        {"3": [0, 5, 2]},
        numbers((3, 2), (3,), (2, 3), (3, 9), (3,), (3,), (3, 3), (3,)),
    ),
    "transposed": (transposed, {"0": [4], "2": [0, 2]}, numbers((4, 2, 9), (4,), (4, 2, 4), (2,), (1, 2, 9), (1,))),
    "1d": (one_dimension, {"1": [0], "4": [2, 3]}, numbers((4, 2, 3), (4,), (2, 4), (2, 4, 3), (2,), (3, 68), (3,))),
    "3d": (three_dimensions, {"1": [0, 3]}, numbers((2, 2, 27), (2,), (2, 2), (2,))),
}


def randomized(model, seed=0):
    """Numbers as of a trained model: norms that have seen data, biases that are not 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                spread = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(0.5 + spread if "var" in name or tensor.ndim == 1 else spread - 0.4)
    return model


def kill(model, name, filters, companions=True):
    """Zero filters of a layer, by default with the bias and the norm that follows in the order of modules."""
    filters = list(filters)
    modules = list(model.named_modules())
    index = [other for other, _ in modules].index(name)
    layer = modules[index][1]
    with torch.no_grad():
        weight = layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
        weight[filters] = 0
        if companions and layer.bias is not None:
            layer.bias[filters] = 0
        norm = modules[index + 1][1] if index + 1 < len(modules) else None
        if companions and isinstance(norm, (nn.BatchNorm2d, nn.InstanceNorm1d)):
            norm.weight[filters] = 0
            norm.bias[filters] = 0


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def assert_same(model, small, *inputs):
    """On these inputs and others, in evaluation mode; both are left in it."""
    for scale in (1.0, 3.0, -0.1):
        scaled = [scale * x for x in inputs]
        with torch.no_grad():
            torch.testing.assert_close(small.eval()(*scaled), model.eval()(*scaled), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("make", "dead", "left"), ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_what_is_dead_is_gone(make, dead, left):
    model = randomized(make())
    for name, filters in dead.items():
        kill(model, name, filters)
    before = copy.deepcopy(model.state_dict())
    result = compaction(model, IMAGE)
    assert count(result.model) == left
    assert result.parameters == (count(model), left)
    assert result.model.training
    assert_same(model, result.model, IMAGE)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    for parameter in result.model.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.requires_grad


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("make", [sequential, Residual, Concatenating, depthwise, transposed, one_dimension, Encoder])
def test_whatever_is_dead_outputs_stay(make, seed):
    """Dead filters and dead inputs at random, with and without what is behind them."""
    generator = torch.Generator().manual_seed(seed)
    model = randomized(make(), seed)
    for name, module in list(model.named_modules()):
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)) and not name.endswith("out_proj"):
            share = torch.rand(2, generator=generator)
            dead = torch.rand(len(module.weight), generator=generator) < share[0]
            kill(model, name, dead.nonzero().flatten().tolist(), companions=seed % 2 == 0)
            with torch.no_grad():
                module.weight[:, torch.rand(module.weight.shape[1], generator=generator) < share[1]] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = compact(model, IMAGE)
    assert_same(model, small, IMAGE)
    assert count(small) <= count(model)


def test_inputs_that_nobody_reads_take_their_producers_with_them():
    model = randomized(sequential())
    with torch.no_grad():
        model[4].weight[:, [1, 2]] = 0  # of its 6 inputs
        model[7].weight[:, 9:18] = 0  # the second of 4 maps of 3×3
        model[9].weight[:, 0] = 0
    result = compaction(model, IMAGE)
    assert result.removed == {"0": [1, 2], "4": [1], "7": [0]}
    assert_same(model, result.model, IMAGE)


def test_what_only_reads_dead_channels_is_dead_too():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
    kill(model, "0", [0, 1])
    with torch.no_grad():
        model[2].weight[3, 2:] = 0
        model[2].bias[3] = 0
    result = compaction(model, torch.randn(2, 3))
    assert result.removed == {"0": [0, 1], "2": [3]}
    assert_same(model, result.model, torch.randn(2, 3))


def test_a_constant_moves_into_biases_where_nothing_is_padded():
    model = randomized(
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Softplus(), nn.Conv2d(4, 3, 3, bias=False))
    )
    kill(model, "0", [0, 3], companions=False)
    result = compaction(model, IMAGE)
    assert result.removed == {"0": [0, 3]}
    assert result.kept == {}
    assert result.model[3].bias is not None
    assert_same(model, result.model, IMAGE)


def test_a_constant_that_is_padded_stays_and_is_named():
    model = randomized(nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1)))
    kill(model, "0", [1, 3], companions=False)
    with torch.no_grad():
        model[0].bias[3] = -1.0  # the activation makes 0 of it
    result = compaction(model, IMAGE)
    assert result.removed == {"0": [3]}
    assert result.kept == {"0": {1: "it emits a constant that a padded layer reads"}}
    assert "0: 1 dead kept, it emits a constant" in str(result)
    assert_same(model, result.model, IMAGE)


def test_a_channel_that_happens_to_be_zero_on_the_example_stays():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = 0.1, -9.0
    assert compaction(model, torch.randn(4, 2)).removed == {}


def test_outputs_and_the_last_channel_stay():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5))
    kill(model, "0", range(4))
    kill(model, "2", [1, 2])
    result = compaction(model, torch.randn(2, 3))
    assert [tuple(parameter.shape) for parameter in result.model.parameters()] == [(1, 3), (1,), (5, 1), (5,)]
    assert result.kept["2"] == dict.fromkeys((1, 2), "it is an output of the model")
    assert list(result.kept["0"].values()) == ["it is the last one"]
    assert_same(model, result.model, torch.randn(2, 3))


def test_features_that_are_returned_on_the_way_are_outputs_too():
    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third = nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            middle = self.first(x)
            return {"middle": middle, "end": [self.third(self.second(middle))]}

    model = Features()
    for name in ("first", "second"):
        kill(model, name, [1])
    assert compaction(model, torch.randn(2, 2)).removed == {"second": [1]}


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 4), nn.LayerNorm([4, 4, 4]), nn.LocalResponseNorm(2)])
def test_what_other_channels_are_normed_with_stays(norm):
    model = randomized(nn.Sequential(nn.Conv2d(2, 4, 3), norm, nn.Conv2d(4, 2, 1)))
    kill(model, "0", [1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = compaction(model, IMAGE)
    assert_same(model, result.model, IMAGE)


def test_weights_that_are_shared_stay():
    model = randomized(tied())
    kill(model, "0", [1])
    kill(model, "4", [2])
    result = compaction(model, torch.randn(2, 6))
    assert result.removed == {"4": [2]}
    assert "shares its weights" in result.kept["0"][1]
    assert result.model[0].weight is result.model[2].weight


class Counting(nn.Module):
    """Its own code counts the channels of its first layer."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(2, 4), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.third(self.second(self.first(x).reshape(-1, 4)))


def test_a_model_whose_own_code_counts_channels_stays_and_it_is_said():
    model = Counting()
    kill(model, "first", [1])
    with pytest.warns(UserWarning, match="first keeps 1 channels .* would not run"):
        result = compaction(model, torch.randn(2, 2))
    assert result.removed == {}
    assert "would not run" in result.kept["first"][1]


def test_of_several_layers_those_that_can_go_do():
    model = Counting()
    kill(model, "first", [1])
    kill(model, "second", [2, 3])
    with pytest.warns(UserWarning, match="first keeps 1 channels .* would not run"):
        result = compaction(model, torch.randn(2, 2))
    assert result.removed == {"second": [2, 3]}
    assert_same(model, result.model, torch.randn(2, 2))


def test_a_model_whose_own_code_wants_32_bits_is_made_smaller_in_those():
    class Casting(nn.Sequential):
        def forward(self, x):
            return super().forward(x.float())

    model = Casting(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3))
    kill(model, "0", [1])
    result = compaction(model, IMAGE)
    assert result.removed == {"0": [1]}
    assert_same(model, result.model, IMAGE)


def test_what_the_graph_cannot_follow_is_said(monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("no idea")

    model = sequential()
    kill(model, "0", [1])
    with monkeypatch.context() as patch:
        patch.setattr(channels, "ChannelGroup", fails)
        result = compaction(model, IMAGE)
    assert result.removed == {}
    assert result.kept["0"][1] == "the dependency graph fails at it: no idea"
    monkeypatch.setattr("torch_pruning.DependencyGraph.build_dependency", fails)
    with pytest.raises(ValueError, match="Sequential cannot be traced: no idea"):
        compact(model, IMAGE)


def test_grouped_convolutions_stay_and_functional_ones_are_not_broken():
    model = randomized(nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 2, 1)))
    kill(model, "0", [1])
    kill(model, "1", [2])
    result = compaction(model, IMAGE)
    assert result.removed == {}
    assert "grouped convolution" in result.kept["0"][1]
    assert "grouped convolution" in result.kept["1"][2]

    network = EPGN(phases=1, features=4)
    operator = as_operator((lambda x: x, lambda y: y), shape=(1, 8, 8))
    kill(network, "phases.0.prox.sparsify.conv", [1])
    y = torch.rand(1, 1, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = compact(network, (y, operator))
    with torch.no_grad():
        torch.testing.assert_close(small.eval()(y, operator), network.eval()(y, operator), atol=1e-5, rtol=0)


def test_several_inputs_by_position_and_by_name():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(2, 3), nn.Linear(4, 3), nn.Linear(3, 1)

        def forward(self, x, y, scale=1.0):
            return self.c(torch.tanh(self.a(x) + scale * self.b(y)))

    model = Two()
    x, y = torch.randn(5, 2), torch.randn(5, 4)
    kill(model, "a", [0])
    kill(model, "b", [0])
    for example in [(x, y), {"x": x, "y": y, "scale": 2.0}]:
        small = compact(model, example)
        assert small.c.in_features == 2
        assert_same(model, small, x, y)


def test_an_example_of_numpy_is_taken_in_the_precision_of_the_model():
    model = randomized(sequential())
    kill(model, "0", [1])
    for example in (IMAGE.double().numpy(), (IMAGE.numpy(),), {"input": IMAGE.half().numpy()[::-1]}):
        assert compaction(model, example).removed == {"0": [1]}


def test_modes_types_and_frozen_parameters_stay():
    model = randomized(sequential()).to(torch.bfloat16)
    kill(model, "0", [1])
    model[0].requires_grad_(False)
    model[1].eval()
    small = compact(model, IMAGE.bfloat16())
    assert {parameter.dtype for parameter in small.parameters()} == {torch.bfloat16}
    assert small[0].weight.shape[0] == 5
    assert not small[0].weight.requires_grad
    assert small[4].weight.requires_grad
    assert [module.training for module in small.modules()] == [module.training for module in model.modules()]


def test_random_numbers_are_left_as_they_were():
    model = sequential()
    torch.manual_seed(1)
    wanted = torch.rand(1)
    torch.manual_seed(1)
    compact(model, IMAGE)
    assert torch.equal(torch.rand(1), wanted)


def test_a_missing_library_and_a_wrong_example_are_said(monkeypatch):
    with pytest.raises(ValueError, match="example: the model cannot be run on it"):
        compact(sequential(), torch.randn(2, 5, 6, 6))
    with pytest.raises(ValueError, match=r"model must be a torch\.nn\.Module, got int"):
        compact(3, IMAGE)
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(ValueError, match=r"pip install 'unrolled\[compact\]'"):
        compact(sequential(), IMAGE)


def finalized():
    """A small model, trained with a penalty on its filters, some of which are dead then."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 8, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 36, 3),
    )  # fmt: skip
    sparsifier = ProximalStep(model, Grouped(L1(), Filters()), strength=0.04, exclude="6")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(40):
        optimizer.zero_grad()
        (model(IMAGE) - 1).square().mean().backward()
        optimizer.step()
        sparsifier.step(optimizer)
    sparsifier.finalize()
    return model.eval()


@pytest.mark.parametrize("onnx", [False, pytest.param(True, marks=pytest.mark.full)])
def test_from_training_to_a_smaller_model_that_can_be_exported(onnx):
    model = finalized()
    small = compact(model, IMAGE)
    dead = [int((~layer.weight.flatten(1).any(1)).sum()) for layer in (model[0], model[3])]
    assert min(dead) > 0
    assert (small[0].out_channels, small[3].out_channels) == (12 - dead[0], 8 - dead[1])
    for candidate in (model, small):
        with torch.no_grad():
            wanted = candidate(IMAGE)
        exported = torch.export.export(candidate, (IMAGE,))
        torch.testing.assert_close(exported.module()(IMAGE), wanted)
        if not onnx:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(exported, dynamo=True, verbose=False)
        (given,) = ReferenceEvaluator(program.model_proto).run(
            None, {program.model_proto.graph.input[0].name: IMAGE.numpy()}
        )
        torch.testing.assert_close(torch.from_numpy(given), wanted, atol=1e-5, rtol=1e-5)


def test_a_residual_network_of_torchvision():
    torch.manual_seed(0)
    models = import_torchvision("torchvision.models.resnet")
    model = randomized(models.ResNet(models.BasicBlock, [1, 1, 1, 1], num_classes=5))
    kill(model, "layer1.0.conv1", range(20))
    result = compaction(model, torch.randn(1, 3, 32, 32))
    assert result.removed == {"layer1.0.conv1": list(range(20))}
