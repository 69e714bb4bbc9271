"""unrolled train --config configs/cs/epgn_25.yaml"""

import os
import re
import signal
import sys
from importlib.resources import files
from pathlib import Path
from typing import TextIO

import torch
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from unrolled.cli.config_file import check_config, guard_yaml
from unrolled.data import ImageData
from unrolled.devices import torch_device
from unrolled.files import replacing
from unrolled.networks import Differentiation, UnrolledNetwork
from unrolled.operators import LinearOperator
from unrolled.penalties import Penalty
from unrolled.training import TrainingOptions, distributed, fit
from unrolled.training.checkpoint import Checkpoints
from unrolled.training.lock import locked


def parser() -> ArgumentParser:
    """All that a config can say; the signatures and docstrings of the classes are its documentation."""
    set_parsing_settings(subclasses_enabled=[Penalty, Differentiation])
    guard_yaml()
    parser = ArgumentParser(prog="unrolled train", description="Train a network.", allow_abbrev=False)
    parser.add_argument(
        "--config",
        action="config",
        help="a YAML file; the command line overrides its values. The modules of classes that it names are imported",
    )
    parser.add_subclass_arguments(UnrolledNetwork, "network", required=True)
    parser.add_subclass_arguments(LinearOperator, "operator", required=True)
    parser.add_class_arguments(ImageData, "data")
    parser.add_class_arguments(TrainingOptions, "training")
    parser.add_argument("--folder", type=str, default="runs/train", help="of the run: config, metrics, weights, curve")
    parser.add_argument("--seed", type=int, default=0, help="of initial weights, crops and held-out images")
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, …; auto takes the GPU if there is one")
    parser.add_argument("--threads", type=int | None, default=None, help="of the CPU; by default all cores")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's last checkpoint, if any")
    return parser


def run(argv: list[str]) -> int:
    """Train, and say where the results are."""
    train_parser = parser()
    config = train_parser.parse_args(_with_shipped_config(argv))
    folder = Path(config.folder)
    if not config.seed >= 0:
        raise ValueError(f"seed must be >= 0, got {config.seed}")
    if config.threads is not None:
        if config.threads < 1:
            raise ValueError(f"threads must be >= 1, got {config.threads}")
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    made = train_parser.instantiate(config)
    with distributed.joined(torch_device(distributed.own_device(config.device))), locked(folder):
        say = _say if distributed.rank() == 0 else _say_nothing
        distributed.on_first(lambda: _save_config(train_parser, config, folder))
        say(f"training {type(made.network).__name__}: {made.network.parameter_count:,} parameters; folder {folder}")
        try:
            figures = fit(
                made.network,
                made.operator,
                made.data,
                made.training,
                folder=folder,
                seed=config.seed,
                device=config.device,
                resume=config.resume,
                card={"config": _public(train_parser, config)},
            )
        except KeyboardInterrupt as stop:
            say(f"\nstopped; go on with: {_resume_command(folder)}", file=sys.stderr)
            return 128 + (stop.args[0] if stop.args else signal.SIGINT)
        say(f"validation PSNR {figures['psnr']:.2f} dB (linear start {figures['start_psnr']:.2f} dB)")
        say(f"weights: {folder / 'best.safetensors'}; curve: {folder / 'curve.png'}")
    return 0


def _say(text: str, file: TextIO | None = None) -> None:
    print(text, file=file, flush=True)


def _say_nothing(text: str, file: TextIO | None = None) -> None:
    pass


def _resume_command(folder: Path) -> str:
    options = f"--config {folder / 'config.yaml'} --resume"
    if distributed.size() == 1:
        return f"unrolled train {options}"
    return f"torchrun --nproc-per-node {os.environ.get('LOCAL_WORLD_SIZE', distributed.size())} train.py {options}"


def _with_shipped_config(argv: list[str]) -> list[str]:
    """A config that is not a file here is looked for among those that travel with the installation."""
    found = list(argv)
    for index, argument in enumerate(argv):
        if argument == "--config" and index + 1 < len(argv):
            found[index + 1] = _find_config(argv[index + 1])
        elif argument.startswith("--config="):
            found[index] = f"--config={_find_config(argument.removeprefix('--config='))}"
    return found


def _find_config(name: str) -> str:
    package = Path(str(files("unrolled")))
    if not Path(name).exists():
        for shipped in (package / name, package.parent / name):  # of an installation, of a checkout
            if name.startswith("configs/") and shipped.is_file():
                return str(shipped)
    return check_config(name)


def _save_config(train_parser: ArgumentParser, config: Namespace, folder: Path) -> None:
    """Write the config of a run that starts; one that goes on keeps the config it was started with."""
    if not Checkpoints(folder).exist():
        with replacing(folder / "config.yaml") as temporary:
            temporary.write_text(_dump(train_parser, config))


def _public(train_parser: ArgumentParser, config: Namespace) -> str:
    """The config as it is saved with weights: of every path only the last part, for the rest is nobody's business."""
    return re.sub(r"(?<=[\s'\"])(?:[\w.~-]*/)+(?=[\w.~-])", "", _dump(train_parser, config))


def _dump(train_parser: ArgumentParser, config: Namespace) -> str:
    """The config as YAML; null is written too, for it may stand where the default is not null."""
    kept = config.clone()
    kept.resume = False
    kept.pop("config", None)
    return str(train_parser.dump(kept, skip_unset=False))
