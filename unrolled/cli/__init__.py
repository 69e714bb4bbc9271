"""The command `unrolled`: one file a command, each imported only when it is called."""

import importlib
import io
import sys
import warnings
from collections.abc import Sequence

from unrolled.cli.failures import reported
from unrolled.system.memory import keep_freed_memory

COMMANDS = {
    "demo": "train a small network on embedded images and compare it with its peers",
    "reconstruct": "measure a photo, or take measurements, and reconstruct the picture",
    "kspace": "reconstruct a slice of measured k-space (magnetic resonance)",
    "evaluate": "PSNR and SSIM of trained weights on a folder of images",
    "robustness": "PSNR under noise, other operators and worst-case perturbations",
    "adapt": "fine-tune weights on measurements of your own, without true images",
    "train": "train a network that reconstructs images, from a config",
    "classify": "train a network that classifies images, and make it sparse, from a config",
    "runs": "how far the trainings in a folder are, and how to go on with them",
    "data": "known data sets: list, check, get; prepare: image folders into HDF5",
    "penalties": "the penalties: list them, draw dropout rule, penalty and shrinkage",
    "networks": "the networks: phase equation, parameters, arithmetic, operators that they take; options of one",
    "export": "a network with its operator as one program, for torch.export and ONNX",
    "convert": "weights of other programs (ISTA-Net+, fastMRI, deepinv) as weights of this one",
    "zoo": "the shipped weights and their cards",
}

FILES = {"networks": "network_list"}
"""The modules of commands that are not called like them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status.

    It is 0, 1 if what was asked cannot be done, 2 for a wrong command line, 70 for a bug, and 128 + n for signal n.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be text
            stream.reconfigure(errors="backslashreplace")
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: unrolled COMMAND …\n\nLearned, unrolled optimisation for inverse problems.\n")
        for name, summary in COMMANDS.items():
            print(f"  {name:<12} {summary}")
        print("\nunrolled COMMAND --help tells more.")
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"unrolled {version('unrolled')}")
        return 0
    if arguments[0] not in COMMANDS:
        print(f"unrolled: unknown command {arguments[0]!r}; known: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    keep_freed_memory()
    return reported(f"unrolled {arguments[0]}", arguments[1:], lambda: _run(*arguments))


def _run(name: str, *arguments: str) -> int:
    """Run a command; its warnings are lines."""
    command = importlib.import_module(f"unrolled.cli.{FILES.get(name, name)}")
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        status: int = command.run([*arguments])
    return status
