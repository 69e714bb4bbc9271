"""unrolled classify --config configs/sparsify/lenet_300_100.yaml"""

import importlib
import inspect
from abc import ABC, abstractmethod
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor, nn

from unrolled import weights
from unrolled.classifiers.classifier import ImageClassifier
from unrolled.cli.command_line import Parser, allow_packages, made_once
from unrolled.cli.training_run import Run, add_run_options, named_classifiers, run_training, training_parser
from unrolled.data import LabelledData
from unrolled.sparsify import compact
from unrolled.system.files import write_json
from unrolled.system.recipes import build, describe
from unrolled.system.vision import import_torchvision
from unrolled.training import ClassificationTask, distributed, train

TORCHVISION = "torchvision.models"


class Network(ABC):
    """Any module by its dotted name, such as torch.nn.RNN, or a model of torchvision: torchvision.models.resnet18.

    Those of `unrolled.classifiers` need no dotted name. The data say how many classes there are, whatever num_classes
    is given.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, height, width) ↦ (batch, class)."""


Network.register(nn.Module)


@made_once
def parser() -> Parser:
    """All that a config can say; the signatures and docstrings of the classes are its documentation."""
    parser = training_parser("classify", "Train a network that classifies images, and make it sparse if asked to.")
    allow_packages("torch.nn", TORCHVISION)
    parser.makers["classifier"] = TORCHVISION
    classifier = parser.add_argument(
        "--classifier",
        type=Network | ImageClassifier,
        required=True,
        metavar="CLASS",
        help="a classifier by its name, torchvision.models.NAME, or any module by its dotted name; the data say how "
        "many classes it has",
    )
    classifier.sub_add_kwargs = {"instantiate": False}  # made later, for the data say how many classes there are
    parser.add_settings(LabelledData, "data")
    parser.add_argument(
        "--compact",
        type=bool,
        default=False,
        help="before training make the network smaller, without the dead filters of the weights it starts from",
    )
    add_run_options(parser)
    return parser


def run(argv: list[str]) -> int:
    """Train, and say where the results are."""
    if any("torchvision." in name for name in named_classifiers("classify", argv)):
        import_torchvision(TORCHVISION)  # it may need help, which the parser that imports it does not give
    return run_training("classify", parser(), argv, _train)


def _train(run: Run) -> None:
    made = run.made
    data = made.data.load(made.seed)
    torch.manual_seed(made.seed)
    network, recipe = _network(made.classifier, run.config.classifier, len(data.train.classes))
    if made.compact:
        network = _compacted(made.weights, network, data.train.images[:2].float() / 255)
    else:
        run.take_weights(network=network)
    task = ClassificationTask(network, data, made.seed, made.data.shift, made.data.flip, run.place, recipe)
    run.save_config()
    count = sum(parameter.numel() for parameter in network.parameters())
    run.say(
        f"training {type(network).__name__}: {count:,} parameters; {data.name}: {len(data.train):,} images, "
        f"{len(data.validation):,} held out; folder {run.folder}"
    )
    figures = train(
        task,
        made.training,
        folder=run.folder,
        seed=made.seed,
        resume=made.resume,
        card=run.card(),
        sparsifier=made.sparsifier,
    )
    test = task.test_figures(task.model)
    distributed.on_first(lambda: write_json(run.folder / "result.json", {"validation": figures, "test": test}))
    if made.sparsifier is None:
        run.say(f"validation error {figures['error']:.2f} %")
    else:
        run.say(f"validation error {figures['error']:.2f} %, {100 - figures['sparse_accuracy']:.2f} % with exact zeros")
        run.say_sparsity(task.model, task.example())
    run.say("there are no test images" if test is None else f"test error {test['error']:.2f} %")


def _network(made: Namespace, given: Namespace, classes: int) -> tuple[nn.Module, dict[str, Any]]:
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


def _compacted(start: str | None, network: nn.Module, example: Tensor) -> nn.Module:
    """The network without the dead filters of the weights it starts from.

    A run that goes on needs it too, for its checkpoint has the weights of the smaller network.
    """
    if start is None:
        raise ValueError("compact: give weights, whose dead filters are to go")
    weights.take(start, network=network)
    small = compact(network, example)
    if not isinstance(small, ImageClassifier) or not _is_described(small):
        raise ValueError(f"compact: a smaller {type(network).__name__} could not be loaded again; LeNet5 can")
    return small


def _is_described(network: ImageClassifier) -> bool:
    """Whether its recipe makes it as large as it is."""
    with torch.random.fork_rng():
        made = build(describe(network), ImageClassifier).state_dict()
    return all(made[key].shape == tensor.shape for key, tensor in network.state_dict().items())
