"""Every network has a config of its own, which makes it and can be trained as it stands."""

from pathlib import Path

import pytest

from unrolled.cli import main
from unrolled.cli.network_list import preset_classes
from unrolled.cli.train import parser
from unrolled.data.sources import EMBEDDED

CONFIGS = Path(__file__).parents[2] / "configs" / "networks"
PRESETS = preset_classes()


@pytest.fixture(scope="module")
def options():
    """The parser of training, which takes a while to make."""
    return parser()


def test_every_network_has_a_config_and_every_config_a_network():
    assert sorted(path.stem for path in CONFIGS.iterdir()) == sorted(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_makes_its_network_and_an_operator_that_it_takes(name, options):
    made = options.instantiate(options.parse_args(["--config", str(CONFIGS / f"{name}.yaml")]))
    assert type(made.network) is PRESETS[name]
    made.network.check(made.operator)
    assert made.data.train == [EMBEDDED]
    assert made.training.minutes <= 15
    assert made.folder == f"runs/networks/{name}"
    assert (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").startswith("# ")


@pytest.mark.full
@pytest.mark.parametrize("name", PRESETS)
def test_a_config_trains(name, tmp_path, capsys):
    few = ["--training.minutes=null", "--training.steps=2", "--training.validations=1", "--training.batch=1"]
    argv = ["train", "--config", str(CONFIGS / f"{name}.yaml"), "--folder", str(tmp_path / "run"), *few]
    assert main(argv) == 0, capsys.readouterr().err
    assert "validation PSNR" in capsys.readouterr().out
