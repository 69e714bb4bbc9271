"""Binary activations, dense and sparse, in small; and the figures of the page."""

from pathlib import Path

import pytest
import torch

from benchmarks.papers import __main__ as papers
from benchmarks.papers import binary, study
from unrolled.classifiers.lenet import LeNet5
from unrolled.data import LabelledData
from unrolled.penalties import TransformedL1
from unrolled.sparsify import VariableSplitting
from unrolled.training import ClassificationTask, TrainingOptions, train

STEPS = 50
CONFIG = Path(__file__).parents[3] / "configs" / "papers" / "binary.yaml"


@pytest.fixture(scope="module")
def data():
    return LabelledData(source="drawn-digits", hold_out=0.2, shift=1).load(0)


@pytest.mark.full
@pytest.mark.parametrize("estimator", ["identity", "relu", "clipped_relu"])
def test_binary_networks_learn_and_keep_it_with_a_fifth_of_their_weights(estimator, data, tmp_path):
    torch.manual_seed(0)
    network = LeNet5(activation=f"binary_{estimator}", batch_norm=True)
    task = ClassificationTask(network, data, seed=0)
    options = {"batch": 20, "learning_rate": 3e-3, "warmup": 0, "clip": None, "average": 0.0, "validations": 1}
    dense = train(task, TrainingOptions(steps=STEPS, **options), folder=tmp_path / "dense")
    assert dense["error"] < 30

    def sparsifier(model):
        return VariableSplitting(model, TransformedL1(0.1), target=0.8)

    sparse = train(task, TrainingOptions(steps=STEPS, **options), folder=tmp_path / "sparse", sparsifier=sparsifier)
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    assert zeros == pytest.approx(0.8 * sum(weight.numel() for weight in weights), rel=0.01)
    assert 100 - sparse["sparse_accuracy"] < 30


def test_the_study_names_what_the_section_reads():
    runs = study.read(str(CONFIG))["runs"]
    assert {"relu", *binary.ESTIMATORS} <= set(runs)
    for name, run in runs.items():
        activation = run.get("classifier", {}).get("init_args", {}).get("activation", "relu")
        estimator = binary.described(name)[0].removeprefix("step, ").replace(" ", "_").lower()
        assert activation == (f"binary_{estimator}" if name != "relu" else "relu")
        assert ("sparsifier" in run) == (binary.described(name)[1] not in ("dense", "bare"))


def test_the_page_has_its_figures():
    (figures,) = papers.figures("binary")
    groups = binary.grouped(figures)
    assert set(groups) == set(study.read(str(CONFIG))["runs"])
    text = papers.text("binary", figures)
    assert text.startswith("## ")
    for name in binary.ESTIMATORS:
        assert binary.test_error(groups[name]) < 5
        assert f"{binary.test_error(groups[f'{name}-TL1']):.2f} %" in text
    for rows in groups.values():
        assert "sparsity" not in rows[0] or rows[0]["sparsity"] == pytest.approx(0.9, abs=0.001)
