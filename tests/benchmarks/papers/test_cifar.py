"""The study of ResNet-20, small: striped images of sixteen pixels, a network of eight layers; and what was measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmarks.papers import __main__ as papers
from benchmarks.papers import cifar, study
from benchmarks.papers.templates import render
from tests.pairs import first_of
from unrolled.classifiers.residual import CifarResNet, WideResNet
from unrolled.cli.classify import parser
from unrolled.weights.classifiers import load_classifier

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs" / "papers"
SPARSE = [f"{name}-90" for name in cifar.TITLES]
SMALL = (
    *(
        "--classifier.depth=8",
        "--training.epochs=null",
        "--training.steps=70",
        "--training.warmup=5",
    ),
    *("--training.batch=20", "--training.learning_rate=0.05", "--training.bfloat16=false", "--training.validations=1"),
)


def write_stripes(folder, count, seed):
    """Stripes of either direction and either color, in noise: a class for each of the four."""
    random = np.random.default_rng(seed)
    for label in range(4):
        (folder / str(label)).mkdir(parents=True)
        for index in range(count):
            wave = np.sin(np.arange(16) * 1.5 + random.uniform(0, 6))
            pixels = np.zeros((16, 16, 3)) + 110
            pixels[..., label // 2] += 60 * (wave[:, None] if label % 2 else wave[None])
            pixels += random.normal(0, 25, pixels.shape)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / str(label) / f"{index:03}.png")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The folder of runs to 90 %, and the figures that the study makes of them."""
    folder = tmp_path_factory.mktemp("cifar")
    write_stripes(folder / "images" / "train", 80, 0)
    write_stripes(folder / "images" / "test", 50, 1)
    wanted = ["control", *SPARSE]
    argv = [f"--config={CONFIGS / 'cifar.yaml'}", f"--folder={folder / 'runs'}", f"--json={folder / 'cifar.json'}"]
    assert study.main([*argv, f"--data.source={folder / 'images'}", *SMALL, "--only", *wanted]) == 0
    return folder / "runs", json.loads((folder / "cifar.json").read_text())


@pytest.mark.full
def test_zeros_appear_and_accuracy_holds(small):
    folder, figures = small
    runs = cifar.by_name(figures)
    assert runs["control"]["test"]["accuracy"] > 95
    for name in SPARSE:
        network = load_classifier(folder / f"{name}-0" / "sparse.safetensors").network
        weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
        zeros = sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)
        assert zeros == pytest.approx(0.9, abs=1e-3), name
        assert runs[name]["sparsity"] == pytest.approx(zeros), name
        assert all(weight.any() for weight in weights), name  # no layer is cut off
        assert runs[name]["test"]["accuracy"] > 90, name  # of four classes


@pytest.mark.full
def test_sparse_runs_start_from_the_dense_weights_and_not_from_those_of_chance(small):
    _, figures = small
    runs = cifar.by_name(figures)
    assert runs["dense"]["settings"].get("weights") is None
    assert {run["settings"]["weights"] for name, run in runs.items() if name != "dense"} == {"best.safetensors"}


@pytest.mark.parametrize("name", first_of(sorted(path.stem for path in CONFIGS.glob("cifar*.yaml"))))
def test_every_run_can_be_made(name, tmp_path):
    read = study.read(str(CONFIGS / f"{name}.yaml"))
    made, train_parser = {}, parser()
    for run, change in read["runs"].items():
        settings = study.merged(read["base"], change or {})
        settings.pop("start", None)
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
        config = train_parser.instantiate(train_parser.parse_args([f"--config={tmp_path / 'run.yaml'}"]))
        if config.sparsifier is not None:
            network = WideResNet(depth=10, width=1) if name == "cifar_wrn" else CifarResNet(depth=8)
            made[run] = config.sparsifier(network)
    assert set(made) == set(read["runs"]) - {"dense", "control"}
    for run, sparsifier in made.items():
        strategy, _, target = run.rpartition("-")
        if strategy in cifar.TITLES and target.isdecimal():
            assert sparsifier.target == int(target) / 100


def test_the_page_says_what_was_measured():
    (figures,) = papers.figures("cifar")
    sparse, text = cifar.sparse_runs(figures), papers.text("cifar", figures)
    assert not figures["failed"]
    assert {run["settings"]["data"]["source"] for run in figures["runs"]} == {"CIFAR-10-JPEG"}
    for strategy in cifar.TITLES:
        for target in cifar.TARGETS:
            run = sparse.get(strategy, {}).get(target)
            if run is None:
                assert f"`{strategy}-{target}`" in text.partition("Not run, for lack of time: ")[2].partition(";")[0]
            else:
                assert 100 * run["sparsity"] == pytest.approx(target, abs=0.5)
                assert f" {run['test']['accuracy']:.2f} |" in text
    assert "CIFAR-10-JPEG" in text.partition("\n")[0]


def run(name, accuracy, sparsity=0.0):
    return {"name": name, "test": {"accuracy": accuracy}, "sparsity": sparsity, "compression": 1 / (1 - sparsity)}


@pytest.fixture
def said():
    """The page, of measured runs with other results in the place of some facts."""
    found = cifar.facts(*papers.figures("cifar"))
    return lambda **changes: " ".join(render("cifar", {**found, **changes}).split())


def test_what_test_images_cannot_tell_apart_is_not_told_apart(said):
    found = {"runs": [run("magnitude-90", 85.0, 0.9), run("l1-90", 83.0, 0.9), run("l0-90", 85.5, 0.9)]}
    sparse = cifar.sparse_runs(found)
    text = said(verdicts=[cifar.verdict(90, sparse, run("control", 86.0))], baseline=cifar.baseline(sparse))
    assert "RVSM, l0 is best with 85.50 %, 0.50 points below the control network" in text
    assert "Not distinguishable from it within two standard errors (1.0 points): magnitude pruning." in text
    assert "Behind: RVSM, l1." in text
    assert "No strategy is better than the baseline" in text
    assert "Worse by more than that: RVSM, l1 at 90 % (-2.00 points)." in text
    assert "The short schedule is a likely reason" in text
    found["runs"][1:] = [run("l0-90", 87.0, 0.9)]
    sparse = cifar.sparse_runs(found)
    text = said(verdicts=[cifar.verdict(90, sparse, run("control", 86.0))], baseline=cifar.baseline(sparse))
    assert "RVSM, l0 is best with 87.00 %, 1.00 points above the control network" in text
    assert "Not distinguishable" not in text
    assert "by more than two standard errors: RVSM, l0 at 90 % (+2.00 points)." in text
    assert "None is worse by more than that." in text
    assert "The short schedule" not in text


@pytest.mark.full
def test_the_figure_is_drawn(small, tmp_path):
    cifar.draw(small[1], folder=tmp_path)
    assert (tmp_path / "cifar-accuracy.png").exists()
