"""Training a classifier, and making it sparse, as a user types it."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from tests.helpers import untrained_configs, write_picture
from unrolled.cli import main
from unrolled.training.runs.checkpoint import load_checkpoint
from unrolled.weights.card import read_card
from unrolled.weights.classifiers import load_classifier

DENSE = ["classify", "--classifier=LeNet300100", "--training.steps=2", "--training.batch=5", "--training.validations=1"]
SPARSE = [*DENSE, "--sparsifier=ProximalStep", "--sparsifier.penalty=L0"]


def fails(capsys, *argv) -> str:
    """What is said last, which is all that is said but how the command is used, and progress."""
    try:
        status = main(list(argv))
    except SystemExit as stop:
        status = stop.code
    assert status in (1, 2), argv
    err = capsys.readouterr().err
    assert "Traceback" not in err
    *before, last = err.splitlines()
    assert all(not line or line.startswith(("usage:", "tip:")) or "step/s" in line for line in before), err
    return last


@pytest.mark.parametrize("config", untrained_configs("sparsify"), ids=lambda path: path.stem)
def test_every_config_trains_resumes_and_reports(config, tmp_path, capsys):
    folder = tmp_path / "run"
    small = ["--data.source=drawn-digits", "--training.epochs=null", "--training.steps=20", "--training.validations=2"]
    argv = ["classify", "--config", str(config), *small, "--training.batch=8", f"--folder={folder}"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    found = re.search(r"compression ([\d.]+) × \(([\d,]+) weights, ([\d,]+) not zero\)", out)
    weights, nonzeros = (int(number.replace(",", "")) for number in found.groups()[1:])
    assert float(found[1]) == pytest.approx(weights / nonzeros, abs=0.06)
    classifier = load_classifier(folder / "sparse.safetensors")
    assert nonzeros == sum(int(p.count_nonzero()) for p in classifier.network.parameters() if p.ndim > 1) < weights
    assert re.search(r"validation error [\d.]+ %, [\d.]+ % with exact zeros\n", out)
    result = json.loads((folder / "result.json").read_text())
    assert f"\ntest error {result['test']['error']:.2f} %\n" in out
    assert {"sparsity.json", "curve.png", "config.yaml", "environment.json"} <= {path.name for path in folder.iterdir()}
    assert yaml.safe_load(read_card(folder / "sparse.safetensors")["config"])["data"]["source"] == "drawn-digits"
    assert main(["classify", "--config", str(folder / "config.yaml"), "--resume"]) == 0
    assert out.splitlines()[1:] == capsys.readouterr().out.splitlines()[1:]


def test_a_classifier_is_trained_without_a_sparsifier_too(tmp_path, capsys):
    assert main([*DENSE, f"--folder={tmp_path / 'run'}", "--data.shift=2"]) == 0
    out = capsys.readouterr().out
    assert "training LeNet300100: 266,610 parameters; drawn-digits: 1,800 images, 200 held out" in out
    assert "compression" not in out
    assert main(["zoo", str(tmp_path / "run" / "best.safetensors")]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == list("0123456789")


def test_seeds_decide(tmp_path):
    weights = []
    for run, seed in enumerate((1, 1, 2)):
        assert main([*DENSE, f"--folder={tmp_path / str(run)}", f"--seed={seed}"]) == 0
        weights.append(load_checkpoint(tmp_path / str(run) / "last.pt")["model"]["fc3.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_training_starts_from_given_weights(tmp_path, capsys):
    first, second = (tmp_path / name for name in ("first", "second"))
    assert main([*DENSE, f"--folder={first}"]) == 0
    given = f"--weights={first / 'best.safetensors'}"
    resting = ["--training.learning_rate=1e-12", "--training.average=0", "--seed=1"]
    assert main([*DENSE, f"--folder={second}", given, *resting]) == 0
    trained = load_classifier(first / "best.safetensors").network.state_dict()
    for name, weight in load_classifier(second / "best.safetensors").network.state_dict().items():
        torch.testing.assert_close(weight, trained[name], rtol=0, atol=1e-9)
    (first / "best.safetensors").unlink()
    assert main([*DENSE, f"--folder={second}", given, *resting, "--resume"]) == 0  # its checkpoint has them
    assert "is neither a file nor among the shipped weights" in fails(capsys, *DENSE, f"--folder={first}2", given)


def pictures(folder: Path) -> Path:
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog", "eel")):
            for index in range(4):
                write_picture(folder / split / name / f"{index}.png", 32, 32, 10 * label + index, "RGB")
    return folder


def test_models_of_torchvision_learn_the_classes_of_a_folder(tmp_path):
    argv = ["classify", "--classifier=torchvision.models.squeezenet1_1", "--classifier.dropout=0.1", *DENSE[2:]]
    folder = tmp_path / "run"
    assert (
        main([*argv, f"--data.source={pictures(tmp_path / 'pets')}", "--data.hold_out=.25", f"--folder={folder}"]) == 0
    )
    classifier = load_classifier(folder / "best.safetensors")
    assert classifier.classes == ("cat", "dog", "eel")
    assert classifier.network.classifier[0].p == 0.1
    assert classifier(torch.rand(2, 3, 32, 32)).shape == (2, 3)


def test_a_sparse_network_is_compacted_and_trained_on(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    small = ["--training.batch=5", "--training.validations=2", "--training.learning_rate=1e-3"]
    sparse = ["--sparsifier=MagnitudePruning", "--sparsifier.target=.5", "--sparsifier.groups=Filters"]
    argv = ["classify", "--classifier=LeNet5", "--training.steps=4", *small]
    assert main([*argv, *sparse, "--sparsifier.scope=layer", "--sparsifier.exclude=fc2", f"--folder={first}"]) == 0
    given = [f"--weights={first / 'sparse.safetensors'}", "--compact=true"]
    assert main([*argv, *given, f"--folder={second}"]) == 0
    count = 25 * 10 + 10 + 250 * 25 + 25 + 400 * 250 + 250 + 250 * 10 + 10
    assert f"training LeNet5: {count:,} parameters" in capsys.readouterr().out
    assert main([*argv, *given, f"--folder={second}", "--resume"]) == 0
    found = load_classifier(second / "best.safetensors").network
    assert (found.conv1.out_channels, found.conv2.out_channels, found.fc1.out_features) == (10, 25, 250)
    assert "compact: give weights, whose dead" in fails(capsys, *argv, given[1], f"--folder={tmp_path / 'third'}")
    other = ["classify", "--classifier=LeNet300100", "--training.steps=4", *small]
    assert main([*other, *sparse, "--sparsifier.exclude=fc3", f"--folder={tmp_path / 'other'}"]) == 0
    given[0] = f"--weights={tmp_path / 'other' / 'sparse.safetensors'}"
    message = "compact: a smaller LeNet300100 could not be loaded again; LeNet5 can"
    assert message in fails(capsys, *other, *given, f"--folder={tmp_path / 'third'}")


def test_the_help_is_that_of_what_is_trained(capsys):
    for argv, named, absent in [
        (["train", "--help"], "--network CLASS", "--data.flip"),
        (["classify", "--help"], "--data.flip", "--operator"),
        (["train", "--config=configs/sparsify/lenet_300_100.yaml", "--help"], "--sparsifier", "--network CLASS"),
    ]:
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 0
        out = capsys.readouterr().out
        assert named in out
        assert absent not in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["classify", "--training.steps=3"], "the following arguments are required: classifier"),
        ([*DENSE, "--network=EPGN"], "unrecognized arguments: --network=EPGN"),
        ([*DENSE, "--classifier=LeNet9"], "no class is called 'LeNet9'"),
        ([*DENSE, "--classifier=torchvision.models.nonesuch"], "has no attribute 'nonesuch'"),
        ([*DENSE, "--classifier=torch.nn.LSTM"], "the following arguments are required: input_size"),
        ([*DENSE, "--classifier.sise=3"], "Option 'sise' is not accepted"),
        ([*DENSE, "--classifier.size=-3"], "LeNet300100: size must be a whole number >= 1, got -3"),
        ([*DENSE, "--classifier.size=20"], "LeNet300100 cannot take the images of drawn-digits, (1, 28, 28)"),
        ([*DENSE, "--data.source=MNISTT"], "got 'MNISTT'; near matches: MNIST"),
        ([*DENSE, "--data.source=MNIST", "--data.folder=nowhere"], "MNIST cannot be read from nowhere"),
        ([*DENSE, "--data.train=[x]"], "data.train"),
        ([*DENSE, "--weights=nowhere"], "weights: nowhere is neither a file nor among the shipped weights: epgn-cs25"),
        ([*DENSE, "--weights=epgn-cs25"], "holds network and operator, not network alone"),
        ([*SPARSE], "ProximalStep: give either strength or target, got strength=None and target=None"),
        ([*SPARSE, "--sparsifier.strength=1", "--sparsifier.target=.5"], "give either strength or target"),
        ([*SPARSE, "--sparsifier.target=1.0"], "ProximalStep: target must be in [0, 1), the share of zeros, got 1.0"),
        ([*SPARSE, "--sparsifier.targt=.5"], "sparsifier\": Option 'targt' is not accepted"),
        ([*SPARSE, "--sparsifier.target=.5", "--sparsifier.include=fc9"], "include: 'fc9' matches no parameter"),
        ([*SPARSE, "--sparsifier.target=high"], "Expected a <class 'float'>. Got value: high"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_a_line_before_any_work(argv, message, tmp_path, capsys):
    assert message in fails(capsys, *argv, f"--folder={tmp_path / 'run'}")
    assert not (tmp_path / "run" / "last.pt").exists()


def test_train_hands_classifiers_over(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text("classifier: {class_path: LeNet300100}\ntraining: {steps: 1, validations: 1, batch: 5}\n")
    for said in (
        [f"--config={config}"],
        ["--config", str(config)],
        DENSE[1:],
        ["--classifier.class_path=LeNet300100", *DENSE[2:]],
    ):
        with pytest.raises(SystemExit) as stop:
            main(["train", *said, "--print_config"])
        assert stop.value.code == 0
        assert "unrolled.classifiers.LeNet300100" in capsys.readouterr().out
    assert "required: network" in fails(capsys, "train", "--training.steps=3")
    assert "unrecognized arguments: --network=EPGN" in fails(capsys, "train", *DENSE[1:], "--network=EPGN")
    config.write_text(config.read_text() + "network: {class_path: EPGN}\n")
    assert "Option 'network.class_path' is not accepted" in fails(capsys, "train", f"--config={config}")


def test_another_strategy_is_not_resumed(tmp_path, capsys):
    argv = [*SPARSE, f"--folder={tmp_path / 'run'}", "--sparsifier.strength=1e-4"]
    assert main(argv) == 0
    before = (tmp_path / "run" / "last.pt").read_bytes()
    for change in (["--sparsifier.strength=1e-3"], ["--sparsifier.penalty=L1"], ["--sparsifier=null"]):
        assert "resume: " in fails(capsys, *argv, *change, "--resume")
    assert (tmp_path / "run" / "last.pt").read_bytes() == before
