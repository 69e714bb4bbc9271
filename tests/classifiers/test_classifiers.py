"""Classifiers against the counts and the structure of their papers."""

import copy
import pickle

import pytest
import torch

from tests.helpers import concrete_subclasses
from unrolled.classifiers.classifier import Classifier, ImageClassifier
from unrolled.classifiers.lenet import LeNet5, LeNet300100
from unrolled.classifiers.residual import CifarResNet, WideResNet
from unrolled.sparsify import compact, select_weights
from unrolled.system.recipes import build, describe


def numbers(network: ImageClassifier) -> tuple[int, int]:
    """Weights, and parameters in all."""
    return sum(weight.parameter.numel() for weight in select_weights(network)), network.parameter_count


@pytest.mark.parametrize(
    ("make", "weights", "parameters"),
    [
        (LeNet300100, 784 * 300 + 300 * 100 + 100 * 10, 266_610),
        (LeNet5, 20 * 25 + 50 * 20 * 25 + 800 * 500 + 500 * 10, 431_080),
        (CifarResNet, None, 269_722),
        (lambda: CifarResNet(depth=110), None, 1_727_962),
        (lambda: CifarResNet(shortcut="convolution"), None, 272_474),
        (WideResNet, None, 36_479_194),
        (lambda: WideResNet(depth=16, width=4), None, 2_748_890),
    ],
)
def test_they_are_as_large_as_published(make, weights, parameters):
    with torch.device("meta"):
        found = numbers(make())
    assert found[1] == parameters
    assert weights is None or found[0] == weights


SMALL = {
    "LeNet300100": {"size": 12, "activation": "binary_clipped_relu", "batch_norm": True},
    "LeNet5": {"size": 18, "channels": 3, "batch_norm": True},
    "CifarResNet": {"depth": 8, "shortcut": "convolution"},
    "WideResNet": {"depth": 10, "width": 1, "dropout": 0.1},
}


@pytest.mark.parametrize("cls", concrete_subclasses(ImageClassifier), ids=lambda cls: cls.__name__)
def test_each_gives_an_output_per_class_learns_and_is_made_again_from_its_recipe(cls):
    torch.manual_seed(0)
    network = cls(num_classes=7, **SMALL[cls.__name__])
    arguments = network.arguments
    x = torch.rand(40, arguments["channels"], arguments.get("size", 9), arguments.get("size", 9))
    y = network(x)
    assert y.shape == (40, 7)
    y.logsumexp(1).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
    again = build(describe(network), ImageClassifier)
    again.load_state_dict(network.state_dict())
    copies = [again, copy.deepcopy(network), pickle.loads(pickle.dumps(network))]
    network.eval()
    for each in copies:
        assert torch.equal(each.eval()(x), network(x))


def test_a_compacted_lenet5_is_made_again_from_its_recipe():
    torch.manual_seed(0)
    network = LeNet5(filters=(4, 6), hidden=9)
    assert (network.conv2.weight.shape, network.fc1.weight.shape) == ((6, 4, 5, 5), (9, 96))
    with torch.no_grad():
        network.conv1.weight[1], network.conv1.bias[1] = 0, 0
        network.conv2.weight[:2], network.conv2.bias[:2] = 0, 0
        network.fc1.weight[5:], network.fc1.bias[5:] = 0, 0
    x = torch.randn(3, 1, 28, 28)
    small = compact(network, x)
    assert small.description() == {**network.description(), "filters": [3, 4], "hidden": 5}
    again = build(describe(small), ImageClassifier)
    again.load_state_dict(small.state_dict())
    torch.testing.assert_close(again(x), network(x))


def test_a_padded_shortcut_without_its_block_is_the_image_in_more_channels():
    network = CifarResNet(depth=8)
    block = network.blocks[1]
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 16, 7, 7)
    y = block(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_lenets_of_before_are_the_same():
    torch.manual_seed(0)
    network, x = LeNet5(), torch.rand(3, 1, 28, 28)
    z = x
    for convolution in (network.conv1, network.conv2):
        z = torch.max_pool2d(torch.relu(convolution(z)), 2)
    z = network.fc2(torch.relu(network.fc1(z.flatten(1))))
    assert torch.equal(network(x), z)
    ours, before = (torch.autograd.grad(y.square().sum(), list(network.parameters())) for y in (network(x), z))
    assert all(torch.equal(a, b) for a, b in zip(ours, before, strict=True))
    assert list(network.state_dict()) == [
        f"{name}.{k}" for name in ("conv1", "conv2", "fc1", "fc2") for k in ("weight", "bias")
    ]
    recipe = {"class_path": "LeNet5", "init_args": {"num_classes": 10, "channels": 1, "size": 28}}
    build(recipe, ImageClassifier).load_state_dict(network.state_dict())


@pytest.mark.parametrize("make", [LeNet300100, LeNet5])
def test_hidden_layers_of_lenets_can_be_binary(make):
    torch.manual_seed(0)
    network = make(activation="binary_relu", batch_norm=True)
    seen = []
    network.activation.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(torch.rand(4, 1, 28, 28))
    assert len(seen) == (2 if make is LeNet300100 else 3)
    for output in seen:
        assert set(output.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeNet5(activation="tanh"), "activation must be one of .*'relu'.*, got 'tanh'"),
        (lambda: LeNet300100(0), "LeNet300100: num_classes must be a whole number >= 1, got 0"),
        (lambda: LeNet300100(size=True), "size must be"),
        (lambda: LeNet5(size=15), "LeNet5: size must be >= 16, got 15"),
        (lambda: LeNet5(filters=(3,)), r"LeNet5: filters must be two numbers, got \(3,\)"),
        (lambda: LeNet5(filters=(3, 0)), "LeNet5: filters must be a whole number >= 1, got 0"),
        (lambda: LeNet5(hidden=0), "LeNet5: hidden must be a whole number >= 1, got 0"),
        (lambda: CifarResNet(depth=21), r"depth must be 6n \+ 2 \(20, 32, 44, 56, 110\), got 21"),
        (lambda: CifarResNet(shortcut="zeros"), "shortcut must be 'padding' or 'convolution', got 'zeros'"),
        (lambda: WideResNet(depth=20), r"depth must be 6n \+ 4 .*, got 20"),
        (lambda: WideResNet(dropout=1.0), r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_sizes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_classifier_standardises_and_names():
    network = LeNet300100(2, size=2)
    classifier = Classifier(network, ["dark", "light"], [0.25], [0.5], (2, 2))
    x = torch.rand(5, 1, 2, 2)
    assert torch.equal(classifier(x), network((x - 0.25) / 0.5))
    answers = classifier(x).argmax(1)
    assert classifier.name(x) == [["dark", "light"][answer] for answer in answers]
    with pytest.raises(ValueError, match=r"images must be \(batch, 1, 2, 2\), got \(1, 2, 2\)"):
        classifier.name(x[0])
