"""unrolled train --config configs/cs/epgn_25.yaml"""

from typing import Any

import yaml
from jsonargparse.typing import restricted_string_type

from unrolled.cli.command_line import Parser, made_once
from unrolled.cli.training_run import Run, add_run_options, named_classifiers, run_training, training_parser
from unrolled.data.sources import ImageData, TrainingData
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator, Noise, OperatorDraw
from unrolled.training import fit
from unrolled.training.losses import LOSSES, Loss, as_loss

_Name: Any = restricted_string_type("Name", "^[a-z][a-z0-9_]*$", docstring="a name in small letters")
"""Of a loss; what is written otherwise is a class, and it is said what is wrong with it."""
yaml.SafeDumper.add_representer(_Name, yaml.SafeDumper.represent_str)

SCORES = {
    "psnr": "PSNR {:.2f} dB",
    "held_out": "of held-out frequencies {:.2f} dB",
    "negative_loss": "loss {:.6g}, negative",
}
"""The figures that a task of reconstruction may be validated by, as they are said."""


@made_once
def parser() -> Parser:
    """All that a config can say; the signatures and docstrings of the classes are its documentation."""
    parser = training_parser(
        "train", "Train a network that reconstructs images; `unrolled classify` trains classifiers."
    )
    for kind, name, given in (
        (UnrolledNetwork, "network", {"required": True}),
        (LinearOperator | OperatorDraw | None, "operator", {}),
    ):
        parser.add_argument(
            f"--{name}",
            type=kind,
            **given,
            metavar="CLASS",
            help=f"its class, by name, or as module.Class of a module that --import names; its arguments are "
            f"--{name}.NAME, and --{name}.help CLASS tells of them",
        )
    parser.add_argument(
        "--data",
        type=TrainingData,
        default={"class_path": "unrolled.data.ImageData"},
        metavar="CLASS",
        help="what is trained on: ImageData (the default), KSpaceData or MeasurementData; its arguments are "
        "--data.NAME, and --data.help CLASS tells of them",
    )
    parser.add_argument("--noise", type=Noise | None, default=None, help="added to the measurements in training")
    parser.add_argument(
        "--loss",
        type=Loss | dict[str, float] | _Name | None,
        default=None,
        help=f"one of {', '.join(LOSSES)}; weights of those that compare images, {{mse: 1, ssim: 0.1}}; or a class. By "
        "default the mean squared error, and what the network adds to it",
    )
    parser.add_argument(
        "--images_per_operator",
        type=int | None,
        default=None,
        help="of an operator that is drawn: so many images of a batch are measured by one; by default all",
    )
    add_run_options(parser)
    return parser


def run(argv: list[str]) -> int:
    """Train, and say where the results are; configs and options of a classifier are handed to `unrolled classify`."""
    if named_classifiers("train", argv):
        from unrolled.cli import classify

        return classify.run(argv)
    return run_training("train", parser(), argv, _train)


def _train(run: Run) -> None:
    made = run.made
    loss = as_loss(made.loss)
    if made.operator is None and isinstance(made.data, ImageData):
        raise ValueError("operator: is needed to measure images; name its class")
    parts = {"network": made.network, "operator": getattr(made.operator, "typical", made.operator)}
    run.take_weights(**{name: part for name, part in parts.items() if part is not None})
    run.save_config()
    run.say(f"training {type(made.network).__name__}: {made.network.parameter_count:,} parameters; folder {run.folder}")
    figures = fit(
        made.network,
        made.operator,
        made.data,
        made.training,
        folder=run.folder,
        seed=made.seed,
        device=made.device,
        resume=made.resume,
        card=run.card(),
        sparsifier=made.sparsifier,
        noise=made.noise,
        loss=loss,
        images_per_operator=made.images_per_operator,
    )
    name = next(name for name in SCORES if name in figures)
    start = f" (linear start {figures[f'start_{name}']:.2f} dB)" if f"start_{name}" in figures else ""
    run.say(f"validation {SCORES[name].format(figures[name])}{start}")
    if made.sparsifier is not None:
        run.say(f"with exact zeros {SCORES[name].format(figures[f'sparse_{name}'])}")
        run.say_sparsity(made.network)
