"""unrolled train --config configs/cs/epgn_25.yaml"""

import importlib
import inspect
import json
import os
import re
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NoReturn, TextIO

import torch
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings
from torch import Tensor, nn

from unrolled import weights
from unrolled.classifiers.classifier import ImageClassifier
from unrolled.cli.config_file import check_config, guard_yaml, read_settings
from unrolled.data import ImageData, LabelledData
from unrolled.networks import Differentiation, UnrolledNetwork
from unrolled.operators import Coils, Kernel, LinearOperator, Noise, SamplingMask
from unrolled.penalties import Grouping, Penalty
from unrolled.sparsify import Schedule, Sparsifier, SparsityReport, compact, sparsity_report
from unrolled.system.devices import torch_device
from unrolled.system.files import replacing
from unrolled.system.recipes import build, describe
from unrolled.system.vision import import_torchvision
from unrolled.training import ClassificationTask, TrainingOptions, distributed, fit, train
from unrolled.training.runs.checkpoint import Checkpoints
from unrolled.training.runs.lock import locked

Kind = Literal["reconstruction", "classification"]
KINDS: dict[str, Kind] = {"network": "reconstruction", "operator": "reconstruction", "classifier": "classification"}
"""Of the settings by which a run says what is trained."""

HELP = """Train a network that reconstructs images (network and operator), or one that tells their classes (classifier).
This is the help for {kind}; with --config or --{other} before --help comes that of the other one."""


class Network(ABC):
    """A module, or a function that makes one, by its dotted name: torchvision.models.resnet18.

    Those of `unrolled.classifiers` are listed and need no dotted name. What is given as num_classes does not matter:
    the data say how many there are.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, height, width) ↦ (batch, class)."""

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        return issubclass(other, nn.Module)

    @classmethod
    def __subclasses__(cls) -> list[type[ImageClassifier]]:
        return ImageClassifier.__subclasses__()


class _Parser(ArgumentParser):
    """A parser whose errors are a line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        super().error(_in_a_line(message), ex)


_TRIED = (
    *("Does not validate", "Subtypes:", "Errors:", "Expected a <class 'NoneType'>", "Expected a path but"),
    *("Given value type:", "Given value: NestedArg", "Given value: Namespace"),
)
"""How lines of the parser's messages begin that say nothing to a user."""


def _in_a_line(message: str) -> str:
    """The reason alone, without the types that were tried."""
    message = re.sub(r"Type \S*Callable\[.* expects a function or a callable class: ", "", message)
    message = re.sub(r"\. Got value: .*", "", message)
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    kept = [line for line in lines if line and not line.startswith(_TRIED)]
    return " ".join(line if line.endswith(":") else f"{line};" for line in kept).rstrip(";")


def parser(kind: Kind = "reconstruction") -> ArgumentParser:
    """All that a config can say; the signatures and docstrings of the classes are its documentation."""
    set_parsing_settings(
        subclasses_enabled=[Penalty, Differentiation, Grouping, Schedule, SamplingMask, Coils, Kernel, Noise]
    )
    guard_yaml()
    description = HELP.format(kind=kind, other="classifier" if kind == "reconstruction" else "network")
    usage = "unrolled train --config CONFIG [--NAME VALUE …]"
    parser = _Parser(prog="unrolled train", usage=usage, description=description, allow_abbrev=False)
    parser.add_argument(
        "--config",
        action="config",
        help="a YAML file; the command line overrides its values. The modules of classes that it names are imported",
    )
    if kind == "reconstruction":
        parser.add_subclass_arguments(UnrolledNetwork, "network", required=True)
        parser.add_subclass_arguments(LinearOperator, "operator", required=True)
        parser.add_class_arguments(ImageData, "data")
        parser.add_argument("--noise", type=Noise | None, default=None, help="added to the measurements in training")
    else:
        # Made later, for the data say how many classes there are.
        parser.add_subclass_arguments(Network, "classifier", required=True, instantiate=False)
        parser.add_class_arguments(LabelledData, "data")
        parser.add_argument(
            "--compact",
            type=bool,
            default=False,
            help="before training make the network smaller, without the dead filters of the weights it starts from",
        )
    parser.add_class_arguments(TrainingOptions, "training")
    parser.add_argument(
        "--sparsifier",
        type=Callable[[nn.Module], Sparsifier] | None,
        default=None,
        help="makes the weights sparse: a strategy of unrolled.sparsify with its penalty and either strength or target",
    )
    parser.add_argument(
        "--weights",
        type=str | None,
        default=None,
        help="to start from: a .safetensors file of the same network, or the name of shipped weights",
    )
    parser.add_argument("--folder", type=str, default="runs/train", help="of the run: config, metrics, weights, curve")
    parser.add_argument("--seed", type=int, default=0, help="of initial weights, batches and held-out images")
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, …; auto takes the GPU if there is one")
    parser.add_argument("--threads", type=int | None, default=None, help="of the CPU; by default all cores")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's last checkpoint, if any")
    return parser


def run(argv: list[str]) -> int:
    """Train, and say where the results are."""
    argv = _with_shipped_config(argv)
    kind = _kind(argv)
    train_parser = parser(kind)
    config = train_parser.parse_args(argv)
    folder = Path(config.folder)
    if not config.seed >= 0:
        raise ValueError(f"seed must be >= 0, got {config.seed}")
    if config.threads is not None:
        if config.threads < 1:
            raise ValueError(f"threads must be >= 1, got {config.threads}")
        torch.set_num_threads(config.threads)
    place = torch_device(distributed.own_device(config.device))
    with distributed.joined(place), locked(folder):
        say = _say if distributed.rank() == 0 else _say_nothing
        run_kind = _reconstruction if kind == "reconstruction" else _classification
        try:
            run_kind(train_parser, config, folder, place, say)
        except KeyboardInterrupt as stop:
            say(f"\nstopped; go on with: {_resume_command(folder)}", file=sys.stderr)
            return 128 + (stop.args[0] if stop.args else signal.SIGINT)
        result = folder / ("best.safetensors" if config.sparsifier is None else "sparse.safetensors")
        say(f"weights: {result}; curve: {folder / 'curve.png'}")
    return 0


Say = Callable[..., None]


def _reconstruction(parser: ArgumentParser, config: Namespace, folder: Path, place: torch.device, say: Say) -> None:
    torch.manual_seed(config.seed)
    made = parser.instantiate(config)
    _take_weights(config, folder, network=made.network, operator=made.operator)
    distributed.on_first(lambda: _save_config(parser, config, folder))
    say(f"training {type(made.network).__name__}: {made.network.parameter_count:,} parameters; folder {folder}")
    figures = fit(
        made.network,
        made.operator,
        made.data,
        made.training,
        folder=folder,
        seed=config.seed,
        device=config.device,
        resume=config.resume,
        card={"config": _public(parser, config)},
        sparsifier=made.sparsifier,
        noise=made.noise,
    )
    say(f"validation PSNR {figures['psnr']:.2f} dB (linear start {figures['start_psnr']:.2f} dB)")
    if made.sparsifier is not None:
        say(f"with exact zeros {figures['sparse_psnr']:.2f} dB")
        _tell_sparsity(sparsity_report(made.network), say)


def _classification(parser: ArgumentParser, config: Namespace, folder: Path, place: torch.device, say: Say) -> None:
    made = parser.instantiate(config)
    data = made.data.load(config.seed)
    torch.manual_seed(config.seed)
    network, recipe = _classifier(made.classifier, config.classifier, len(data.train.classes))
    if config.compact:
        network = _compacted(config, network, data.train.images[:2].float() / 255)
    else:
        _take_weights(config, folder, network=network)
    task = ClassificationTask(network, data, config.seed, made.data.shift, made.data.flip, place, recipe)
    distributed.on_first(lambda: _save_config(parser, config, folder))
    count = sum(parameter.numel() for parameter in network.parameters())
    say(
        f"training {type(network).__name__}: {count:,} parameters; {data.name}: {len(data.train):,} images, "
        f"{len(data.validation):,} held out; folder {folder}"
    )
    figures = train(
        task,
        made.training,
        folder=folder,
        seed=config.seed,
        resume=config.resume,
        card={"config": _public(parser, config)},
        sparsifier=made.sparsifier,
    )
    test = task.test_figures(task.model)
    distributed.on_first(lambda: _write_json(folder / "result.json", {"validation": figures, "test": test}))
    if made.sparsifier is None:
        say(f"validation error {figures['error']:.2f} %")
    else:
        say(f"validation error {figures['error']:.2f} %, {100 - figures['sparse_accuracy']:.2f} % with exact zeros")
        _tell_sparsity(sparsity_report(task.model, task.example()), say)
    say("there are no test images" if test is None else f"test error {test['error']:.2f} %")


def _take_weights(config: Namespace, folder: Path, **modules: nn.Module) -> None:
    """Start from given weights, unless the run goes on from a checkpoint, which holds its own."""
    if config.weights is not None and not (config.resume and Checkpoints(folder).exist()):
        weights.take(config.weights, **modules)


def _compacted(config: Namespace, network: nn.Module, example: Tensor) -> nn.Module:
    """The network with given weights, without what is dead; also where a checkpoint holds later ones of its size."""
    if config.weights is None:
        raise ValueError("compact: give weights, whose dead filters are to go")
    weights.take(config.weights, network=network)
    small = compact(network, example)
    if not isinstance(small, ImageClassifier) or not _is_described(small):
        raise ValueError(f"compact: a smaller {type(network).__name__} could not be loaded again; LeNet5 can")
    return small


def _is_described(network: ImageClassifier) -> bool:
    """Whether its recipe makes it as large as it is."""
    with torch.random.fork_rng():
        made = build(describe(network), ImageClassifier).state_dict()
    return all(made[key].shape == tensor.shape for key, tensor in network.state_dict().items())


def _tell_sparsity(report: SparsityReport, say: Say) -> None:
    total = report.total
    say(f"\n{report}\n")
    say(f"compression {total.weights / total.nonzeros:.1f} × ({total.weights:,} weights, {total.nonzeros:,} not zero)")


def _classifier(made: Namespace, given: Namespace, classes: int) -> tuple[nn.Module, dict[str, Any]]:
    """The network and its recipe."""
    module, _, name = made.class_path.rpartition(".")
    make = getattr(importlib.import_module(module), name)
    more = dict(given.get("dict_kwargs") or {})
    accepted = inspect.signature(make).parameters.values()
    if any(each.name == "num_classes" or each.kind is each.VAR_KEYWORD for each in accepted):
        more["num_classes"] = classes
    try:
        network = make(**{**dict(made.get("init_args") or {}), **more})
    except (TypeError, RuntimeError, AttributeError) as error:  # a ValueError says it by itself
        raise ValueError(f"classifier: {made.class_path} cannot be made: {error}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"classifier: {made.class_path} must make a torch.nn.Module, got {type(network).__name__}")
    arguments = given.get("init_args", Namespace()).as_dict()
    return network, {"class_path": made.class_path, "init_args": {**arguments, **more}}


def _say(text: str, file: TextIO | None = None) -> None:
    print(text, file=file, flush=True)


def _say_nothing(text: str, file: TextIO | None = None) -> None:
    pass


def _kind(argv: list[str]) -> Kind:
    """What is trained, told by the settings in the config and on the command line."""
    names = [argument[2:].partition("=")[0].partition(".")[0] for argument in argv if argument.startswith("--")]
    values = [*argv]
    for index, argument in enumerate(argv):
        if not argument.startswith("--config"):
            continue
        name, _, path = argument.partition("=")
        path = path if path or index + 1 == len(argv) else argv[index + 1]
        if name == "--config" and os.path.lexists(path):
            settings = read_settings(path)
            names += [str(name) for name in settings]
            values.append(str(settings.get("classifier")))
    if any("torchvision." in value for value in values):
        import_torchvision("torchvision.models")  # as it may need help, before the parser imports it by name
    found = {name: KINDS[name] for name in KINDS if name in names}
    kinds = sorted(set(found.values()))
    asks = {"-h", "--help", "--print_config"} & {argument.partition("=")[0] for argument in argv}
    if len(kinds) > 1:
        raise ValueError(f"give either classifier, or network and operator, got {', '.join(found)}")
    if not kinds and not asks:
        raise ValueError("nothing says what is trained: give --config, or --classifier, or --network and --operator")
    return kinds[0] if kinds else "reconstruction"


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


def _write_json(path: Path, facts: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n")


def _dump(train_parser: ArgumentParser, config: Namespace) -> str:
    """The config as YAML; null is written too, for it may stand where the default is not null."""
    kept = config.clone()
    kept.resume = False
    kept.pop("config", None)
    return str(train_parser.dump(kept, skip_unset=False))
