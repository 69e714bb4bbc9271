"""A config says the penalty of a network, or a list of them, and a run with it can be trained, stopped and resumed."""

import json

import pytest
import torch
import yaml

import unrolled
from tests.helpers import write_picture
from tests.training.small_runs import at_step, fit
from unrolled.cli import main
from unrolled.cli.train import parser
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing
from unrolled.penalties import L1, MCP, LogSum, Lp

OPERATOR = ["--operator=BlockCompressedSensing", "--operator.block=11", "--operator.ratio=0.25"]
SMALL = ["--network.phases=1", "--network.features=2", "--training.steps=1", *OPERATOR]


def network(*argv):
    """The network that a command line asks for."""
    made = parser()
    return made.instantiate(made.parse_args([*argv, *SMALL])).network


@pytest.mark.parametrize("name", ["EPGN", "ISTANetPlus"])
@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (["--network.penalty=null"], None),
        (["--network.penalty=MCP", "--network.penalty.b=0.3"], MCP(b=0.3)),
        (['--network.penalty=[{"class_path": "L1"}, {"class_path": "LogSum"}]'], [L1(), LogSum()]),
        (
            ['--network.penalty=[{"class_path": "unrolled.penalties.Lp", "init_args": {"p": 0.7}}]'],
            [Lp(0.7)],
        ),
    ],
)
def test_a_command_line_names_penalties(name, said, meant):
    made = network(f"--network={name}", *said, "--network.learn_penalty=true")
    assert made.arguments["penalty"] == meant
    assert made.arguments["learn_penalty"] is True


def test_what_is_no_penalty_is_refused(capsys):
    for wrong in ("[]", "[3]", '[{"class_path": "EPGN"}]', '[{"class_path": "LogSum", "init_args": {"epsilon": -1}}]'):
        with pytest.raises((SystemExit, ValueError)) as stop:
            network("--network=EPGN", f"--network.penalty={wrong}")
        said = str(stop.value) + capsys.readouterr().err
        assert "penalty" in said or "penalties" in said


def test_a_config_is_trained_and_its_weights_carry_the_mixture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(4):
        write_picture(tmp_path / "images" / f"{seed}.png", 40, 44, seed)
    mixture = [{"class_path": "L1"}, {"class_path": "LogSum", "init_args": {"epsilon": 0.2}}]
    arguments = {"phases": 1, "features": 2, "penalty": mixture, "learn_penalty": True}
    config = {
        "network": {"class_path": "EPGN", "init_args": arguments},
        "operator": {"class_path": "BlockCompressedSensing", "init_args": {"ratio": 0.25, "block": 11}},
        "data": {"train": ["images"], "hold_out": 1, "crop": 22},
        "training": {"steps": 3, "batch": 2, "validations": 1, "warmup": 0, "learning_rate": 0.05, "average": 0},
        "folder": "run",
    }
    (tmp_path / "mixture.yaml").write_text(yaml.safe_dump(config))
    assert main(["train", "--config=mixture.yaml", "--threads=1", "--device=cpu"]) == 0
    trained, operator = unrolled.load("run/best.safetensors")
    shrinkage = trained.phases[0].prox.shrinkage
    assert [type(penalty) for penalty in shrinkage.current_penalties] == [L1, LogSum]
    assert shrinkage.current_penalties[1].epsilon != pytest.approx(0.2, abs=1e-4)  # it was learned
    assert torch.isfinite(trained(operator(torch.rand(1, 1, 22, 22)), operator)).all()
    recipe = json.loads(json.dumps(unrolled.weights.card.read_card("run/best.safetensors")["network"]))
    assert recipe["init_args"]["penalty"] == [{"class_path": "L1", "init_args": {}}, mixture[1]]


def test_an_interrupted_run_with_a_mixture_ends_with_the_same_bits(tmp_path, monkeypatch):
    def pieces():
        torch.manual_seed(0)
        made = EPGN(1, 2, penalty=[L1(), MCP(1.0, 0.3)], learn_penalty=True, shrink_channels=True)
        return {"network": made, "operator": BlockCompressedSensing(ratio=0.25, block=11)}

    def stop():
        raise KeyboardInterrupt

    whole, _, _ = fit(tmp_path / "whole", **pieces())
    with monkeypatch.context() as patch:
        at_step(patch, 7, stop)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "parts", **pieces())
    resumed, _, _ = fit(tmp_path / "parts", **pieces(), resume=True)
    for key, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], tensor), key
    assert not torch.equal(whole.phases[0].prox.shrinkage.raw_weights, torch.zeros(2, 2))
