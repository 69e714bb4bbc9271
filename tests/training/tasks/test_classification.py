"""The task of classification: what it measures, saves, refuses; and whole runs."""

import math

import pytest
import torch
from torch import nn

from tests.helpers import NeverWaits
from tests.training.small_runs import options
from unrolled.classifiers.lenet import LeNet300100
from unrolled.data import LabelledImages, LabelledSplits, drawn_digits
from unrolled.penalties import L0
from unrolled.sparsify import ProximalStep, WarmUp
from unrolled.training import ClassificationTask, train
from unrolled.weights.card import read_card
from unrolled.weights.classifiers import load_classifier


def splits(count=400) -> LabelledSplits:
    digits = drawn_digits("train", count)
    order = torch.arange(count)
    return LabelledSplits("digits", digits[order[60:]], digits[order[:60]], drawn_digits("test", 50))


class Constant(nn.Module):
    """The same outputs for every image, and one parameter so that there is something to train."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = nn.Parameter(torch.tensor(outputs))

    def forward(self, x):
        return self.outputs.expand(len(x), -1)


def test_accuracy_and_error_are_shares_in_percent():
    data = splits()
    task = ClassificationTask(Constant([1.0, *[0.0] * 9]), data)
    figures = task.validate(task.model)
    zeros = float((data.validation.labels == 0).double().mean())
    assert figures["accuracy"] == pytest.approx(100 * zeros)
    assert figures["error"] == pytest.approx(100 * (1 - zeros))
    assert figures["cross_entropy"] == pytest.approx(math.log(math.e + 9) - zeros, rel=1e-5)
    assert task.test_figures(task.model)["accuracy"] == pytest.approx(10)


def test_a_validation_in_chunks_is_that_of_the_whole(monkeypatch):
    torch.manual_seed(0)
    task = ClassificationTask(LeNet300100(), splits())
    whole = task.validate(task.model)
    monkeypatch.setattr("unrolled.training.tasks.classification.CHUNK", 7)
    assert task.validate(task.model) == pytest.approx(whole)


def test_a_network_sees_images_of_mean_0_and_deviation_1():
    task = ClassificationTask(LeNet300100(), splits())
    images, labels = task.batch(0, task.epoch)
    assert float(images.mean()) == pytest.approx(0, abs=1e-5)
    assert float(images.std()) == pytest.approx(1, abs=1e-4)
    expected = nn.functional.nll_loss(task.model(images).log_softmax(1), labels)
    torch.testing.assert_close(task.loss(task.model, (images, labels), 0), expected)


@pytest.mark.device
def test_batches_are_made_without_waiting_for_the_device():
    task = ClassificationTask(LeNet300100(), splits(90), shift=1, flip=True)
    task.model.to("meta")
    task.moments = task.moments.to("meta")
    for name in ("images", "labels"):
        object.__setattr__(task.train, name, getattr(task.train, name).to("meta"))
    with NeverWaits():
        images, labels = task.batch(3, 8)
        assert task.loss(task.model, (images, labels), 3).is_meta
    assert images.is_meta
    assert labels.is_meta


def test_what_was_trained_is_loaded_with_all_that_it_knew(tmp_path):
    data = splits()
    task = ClassificationTask(LeNet300100(), data, shift=1)
    how = options(steps=60, batch=30, learning_rate=3e-3, validations=2)
    assert train(task, how, folder=tmp_path, progress=False)["error"] < 25
    classifier = load_classifier(tmp_path / "best.safetensors")
    named = classifier.name(data.test.images / 255)
    right = sum(name == data.test.classes[label] for name, label in zip(named, data.test.labels, strict=True))
    assert 100 * right / len(data.test) == pytest.approx(task.test_figures(classifier.network)["accuracy"])
    card = read_card(tmp_path / "best.safetensors")
    assert card["data"] == "digits"
    assert card["validation"]["error"] == pytest.approx(task.validate(classifier.network)["error"])


def test_a_resumed_run_ends_with_the_same_weights_zeros_and_all(tmp_path, monkeypatch):
    def run(folder, resume=False):
        torch.manual_seed(0)
        task = ClassificationTask(LeNet300100(), splits(), seed=1, shift=1, flip=True)
        how = options(steps=20, batch=20, validations=4, average=0.0)
        figures = train(
            task, how, folder=folder, seed=1, resume=resume, progress=False,
            sparsifier=lambda model: ProximalStep(model, L0(), strength=1e-3, fine_tune=0.2, schedule=WarmUp(0.5)),
        )  # fmt: skip
        return figures, task.model.state_dict()

    figures, weights = run(tmp_path / "whole")
    loss = ClassificationTask.loss

    def stopped(self, model, batch, step):
        if step == 12:
            raise KeyboardInterrupt
        return loss(self, model, batch, step)

    monkeypatch.setattr(ClassificationTask, "loss", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped")
    monkeypatch.setattr(ClassificationTask, "loss", loss)
    again, resumed = run(tmp_path / "stopped", resume=True)
    assert again == figures
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    zeros = sum(int((weights[f"fc{n}.weight"] == 0).sum()) for n in (1, 2, 3))
    assert zeros / 266_200 == pytest.approx(figures["sparsity"])
    assert zeros > 20_000


def test_another_network_or_seed_is_not_resumed_and_other_data_are_said(tmp_path):
    def run(network, resume=False, data=None):
        task = ClassificationTask(network, splits() if data is None else data)
        train(task, options(steps=2, validations=1), folder=tmp_path, resume=resume, progress=False)

    class Other(LeNet300100):
        pass

    run(LeNet300100())
    with pytest.raises(ValueError, match=r"resume: classifier must be that of the run .*LeNet300100.*, got .*Other"):
        run(Other(), resume=True)
    with pytest.warns(UserWarning, match=r"the data were digits, 340 images to train on.* and are digits, 240"):
        run(LeNet300100(), resume=True, data=splits(300))


def colored(data: LabelledSplits) -> LabelledSplits:
    def three(images):
        return LabelledImages(images.images.expand(-1, 3, -1, -1), images.labels, images.classes)

    return LabelledSplits("color", three(data.train), three(data.validation), None)


@pytest.mark.parametrize(
    ("make", "data", "message"),
    [
        (LeNet300100, colored(splits(80)), r"LeNet300100 cannot take the images of color, \(3, 28, 28\): mat1"),
        (lambda: LeNet300100(size=20), splits(80), r"cannot take the images of digits, \(1, 28, 28\)"),
        (lambda: LeNet300100(num_classes=9), splits(80), r"must give \(batch, 10\) numbers, .* got \(2, 9\) of 2 im"),
        (lambda: nn.LSTM(28, 10), splits(80), "LSTM cannot take the images"),
        (lambda: nn.Sequential(nn.Flatten(0), nn.Linear(1568, 10)), splits(80), r"got \(10,\) of 2 images"),
    ],
)
def test_networks_that_do_not_fit_the_images_are_refused(make, data, message):
    with pytest.raises(ValueError, match=message):
        ClassificationTask(make(), data)


def test_without_test_images_there_is_no_figure_of_them():
    task = ClassificationTask(LeNet300100(channels=3), colored(splits(80)))
    assert task.test_figures(task.model) is None
