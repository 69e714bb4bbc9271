"""What the commands that train share: the options of a run, its folder, and how it ends."""

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, TextIO

import torch
import yaml
from jsonargparse import (  # type: ignore[attr-defined]
    ActionConfigFile,
    Namespace,
    set_parsing_settings,
)
from torch import nn

from unrolled import weights
from unrolled.cli.command_line import Flag, Parser, add_options, import_modules, leaves
from unrolled.cli.config_file import check_config, guard_yaml, is_text, read_settings
from unrolled.data.measurement_files import MeasurementData
from unrolled.data.sources import ImageData, TrainingData
from unrolled.networks import Differentiation
from unrolled.operators import CoilMaps, Coils, Kernel, Noise, SamplingMask
from unrolled.penalties import Grouping, Penalty
from unrolled.sparsify import Schedule, Sparsifier, sparsity_report
from unrolled.system.devices import torch_device
from unrolled.system.files import replacing
from unrolled.training import TrainingOptions, distributed
from unrolled.training.kspace_data import KSpaceData
from unrolled.training.losses import Loss
from unrolled.training.runs.checkpoint import Checkpoints
from unrolled.training.runs.lock import locked
from unrolled.training.runs.run_folder import MARKS, check_folder


@dataclass
class RunOptions:
    """Where and how a network is trained.

    Parameters
    ----------
    sparsifier :
        what makes the weights sparse: a strategy of unrolled.sparsify with its penalty and either strength or target.
    weights :
        weights to start from: a .safetensors file of the same network, or the name of shipped weights.
    folder :
        where the run keeps its config, metrics, checkpoints, weights and curve.
    seed :
        decides the initial weights, the batches and which images are held out.
    device :
        cpu, cuda, …; auto takes the GPU if there is one.
    threads :
        how many cores of the CPU to use; by default all.
    resume :
        go on from the folder's last checkpoint, if any.
    """

    sparsifier: Callable[[nn.Module], Sparsifier] | None = None
    weights: str | None = None
    folder: str = "runs/train"
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    resume: Flag = False

    def __post_init__(self) -> None:
        if not self.seed >= 0:
            raise ValueError(f"seed must be >= 0, got {self.seed}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be >= 1, got {self.threads}")


class _ConfigFile(ActionConfigFile):
    """A config is checked before it is followed, and looked for among those that travel with the installation."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        super().__call__(parser, namespace, check_config(find_config(values)), option_string)


def find_config(name: str) -> str:
    """The path of a config that is a file here, or one of those of this project by its name, configs/…."""
    package = Path(str(files("unrolled")))
    if not Path(name).exists():
        for shipped in (package / name, package.parent / name):  # of an installation, of a checkout
            if name.startswith("configs/") and shipped.is_file():
                return str(shipped)
    return name


def training_parser(command: str, description: str) -> Parser:
    """A parser with the option `--config`, to which a command adds what it trains."""
    set_parsing_settings(
        subclasses_enabled=[
            *(Penalty, Differentiation, Grouping, Schedule, SamplingMask, Coils, Kernel, Noise, Loss, CoilMaps),
            *(TrainingData, ImageData, KSpaceData, MeasurementData),
        ]
    )
    guard_yaml()
    usage = f"unrolled {command} --config CONFIG [--NAME VALUE …]"
    parser = Parser(prog=f"unrolled {command}", usage=usage, description=description, allow_abbrev=False)
    parser.add_argument(
        "--config",
        action=_ConfigFile,
        help="a YAML file; the command line overrides its values",
    )
    return parser


def add_run_options(parser: Parser) -> None:
    """The options of training, and of a run."""
    parser.add_settings(TrainingOptions, "training")
    add_options(parser, RunOptions)


def named_classifiers(command: str, argv: list[str]) -> list[str]:
    """The classifiers, as text, that are named on a command line and in its configs."""
    first = argparse.ArgumentParser(prog=f"unrolled {command}", add_help=False, allow_abbrev=False)
    first.add_argument("--config", action="append", default=[])
    first.add_argument("--classifier", "--classifier.class_path", action="append", default=[])
    given, _ = first.parse_known_args(argv)
    paths = [path for path in map(find_config, given.config) if os.path.lexists(path)]
    settings = [read_settings(path) for path in paths]
    return given.classifier + [str(each["classifier"]) for each in settings if "classifier" in each]


@dataclass
class Run:
    """A run that is being trained: what was asked for, and what was made of it."""

    command: str
    parser: Parser
    config: Namespace
    made: Namespace
    place: torch.device

    @property
    def folder(self) -> Path:
        """Where the run keeps its files."""
        return Path(self.config.folder)

    def say(self, text: str, file: TextIO | None = None) -> None:
        """Print, if this is the first of the processes that train together."""
        if distributed.rank() == 0:
            print(text, file=file, flush=True)

    def say_sparsity(self, model: nn.Module, *example: Any) -> None:
        """Print how sparse each weight is."""
        report = sparsity_report(model, *example)
        total = report.total
        ratio = total.weights / total.nonzeros
        self.say(f"\n{report}\n")
        self.say(f"compression {ratio:.1f} × ({total.weights:,} weights, {total.nonzeros:,} not zero)")

    def take_weights(self, **modules: nn.Module) -> None:
        """Start from given weights, unless the run goes on from a checkpoint, which holds its own."""
        if self.config.weights is not None and not (self.config.resume and Checkpoints(self.folder).exist()):
            weights.take(self.config.weights, **modules)

    def save_config(self) -> None:
        """Write the config of a run that starts; one that goes on keeps the config it was started with."""

        def save() -> None:
            if not Checkpoints(self.folder).exist():
                check_folder(self.folder, goes_on=False)
                with replacing(self.folder / "config.yaml") as temporary:
                    text = f"{MARKS['config.yaml']} {self.command}.\n{self._yaml}"
                    temporary.write_text(text, encoding="utf-8")

        distributed.on_first(save)

    def card(self) -> dict[str, Any]:
        """Facts to save with the weights: the config, and of every path in it the last part alone.

        Where the files lay is nobody's business.
        """
        return {"config": re.sub(r"(?<=[\s'\"])(?:[\w.~-]*/)+(?=[\w.~-])", "", self._yaml)}

    @cached_property
    def _yaml(self) -> str:
        """The config; null is written too, for it may stand where the default is not null."""
        kept = self.config.clone()
        kept.resume = False
        kept.pop("config", None)
        settings = yaml.safe_load(self.parser.dump(kept, skip_unset=False, skip_validation=True))
        data = settings.get("data", {})
        if data.get("class_path") == "unrolled.data.ImageData":  # which need not be named, and once could not be
            settings["data"] = data["init_args"]
        return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)

    def resume_command(self) -> str:
        """How to go on with this run."""
        modules = "".join(f" --import {module}" for module in self.parser.imported)
        options = f"--config {self.folder / 'config.yaml'} --resume{modules}"
        if distributed.size() == 1:
            return f"unrolled {self.command} {options}"
        count = os.environ.get("LOCAL_WORLD_SIZE", distributed.size())
        return f"torchrun --nproc-per-node {count} train.py {options}"


def run_training(command: str, parser: Parser, argv: list[str], train: Callable[[Run], None]) -> int:
    """Make what a command line says, train it in its folder, and say where the results are; returns the exit status."""
    config = parser.parse_args(import_modules(parser, argv))
    for setting, value in leaves(config):
        if isinstance(value, str) and not is_text(value):
            raise ValueError(f"{setting}: is kept in a config, so it must be text in UTF-8, got {value!r:.200}")
    options = RunOptions(**{name: config[name] for name in RunOptions.__dataclass_fields__})
    folder = Path(options.folder)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    place = torch_device(distributed.own_device(options.device))
    with distributed.joined(place), locked(folder):
        torch.manual_seed(options.seed)
        run = Run(command, parser, config, parser.instantiate(config), place)
        try:
            train(run)
        except KeyboardInterrupt as stop:
            run.say(f"\nstopped; go on with: {run.resume_command()}", file=sys.stderr)
            return 128 + (stop.args[0] if stop.args else signal.SIGINT)
        result = folder / ("best.safetensors" if options.sparsifier is None else "sparse.safetensors")
        written = result if result.exists() else "none, for no validation gave a number"
        curve = folder / "curve.png"
        run.say(f"weights: {written}{f'; curve: {curve}' if curve.exists() else ''}")
    return 0
