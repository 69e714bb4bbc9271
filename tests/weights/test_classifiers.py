"""Classifiers come back from files, or are refused with the reason."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import unrolled
from tests.weights.cases import PAIRS
from unrolled import weights
from unrolled.classifiers.classifier import Classifier
from unrolled.classifiers.lenet import LeNet300100
from unrolled.system.vision import import_torchvision


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
        (
            {"network": {"class_path": "os.system", "init_args": {"command": "ls"}}},
            "unknown ImageClassifier 'os.system'",
        ),
        (
            {"network": {"class_path": "LeNet300100", "init_args": {"size": 10**9}}},
            "more memory or work than is allowed",
        ),
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
