"""The pieces of work of one network on one problem, each done by a process of its own, with one thread.

python -m benchmarks.comparison.pieces OUT PROBLEM NETWORK PIECE

A piece that is finished is a JSON file in the network's folder. Trainings go on from their checkpoints.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import command
from benchmarks.comparison.cases import Case
from benchmarks.comparison.classical import methods_of
from benchmarks.comparison.entries import ENTRIES
from benchmarks.comparison.problems import SEED, Problem, problem
from benchmarks.comparison.timing import cost_of_a_step
from unrolled.networks import UnrolledNetwork
from unrolled.system.files import write_json
from unrolled.system.memory import keep_freed_memory
from unrolled.training import TrainingOptions
from unrolled.training.runs.run_folder import BEST, METRICS
from unrolled.training.train_task import train
from unrolled.weights.networks import load

FACTORS = (0.4, 1.0, 2.5)
"""Of the learning rate of a network's config, that are tried."""

TRIAL = 1 / 5
"""The part of the time that each trial has."""

VALIDATIONS = 8
FASTER = 0.95
"""bfloat16 is taken if a step takes at most this part of one in float32."""

FOLDERS = str.maketrans({" ": "-", ",": ""})


class Piece:
    """One network on one problem, and what is known of it so far.

    Parameters
    ----------
    out : Path
        the folder of the comparison, with its settings.
    problem, network : str
        their names.
    """

    def __init__(self, out: Path, problem_name: str, network: str):
        self.settings: dict[str, Any] = json.loads((out / "settings.json").read_text())
        self.problem_name, self.network_name = problem_name, network
        self.folder = folder_of(out, problem_name, network)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.problem: Problem = problem(problem_name, {**self.settings["paths"], "out": str(out)})

    def known(self, name: str) -> dict[str, Any]:
        """What an earlier piece found."""
        return result(self.folder, name) or {}

    def network(self) -> UnrolledNetwork:
        """The network with its first weights."""
        torch.manual_seed(SEED)
        return ENTRIES[self.network_name].network(self.problem)

    def options(self, rate: float, steps: int, validations: int, bfloat16: bool) -> TrainingOptions:
        return TrainingOptions(
            steps=steps,
            clock="process",
            batch=self.problem.batch,
            learning_rate=rate,
            average=0.99,
            bfloat16=bfloat16,
            compile=False,
            validations=validations,
            checkpoint_minutes=1,
        )

    def cost(self, bfloat16: bool) -> dict[str, Any]:
        """Processor time and memory of a step."""
        network = self.network()
        task = self.problem.task(network)
        found = cost_of_a_step(task, self.options(ENTRIES[self.network_name].rate, 1, 1, bfloat16))
        return {**found, "parameters": network.parameter_count}

    @property
    def bfloat16(self) -> bool:
        """Whether the network trains in bfloat16: if that works, and is faster."""
        half, full = self.known("cost-bfloat16"), self.known("cost-float32")
        return bool(half.get("finite")) and half["seconds"] <= FASTER * full["seconds"]

    def trial(self, factor: float) -> dict[str, Any]:
        """A short training with one of the learning rates."""
        cost = self.known("cost-bfloat16" if self.bfloat16 else "cost-float32")["seconds"]
        rate = factor * ENTRIES[self.network_name].rate
        return self.trained(f"rate-{factor:g}", rate, TRIAL * self.settings["minutes"], cost, 1)

    @property
    def trials(self) -> list[dict[str, Any]]:
        """Those trials that ended well, the best first."""
        found = [self.known(f"rate-{factor:g}") for factor in FACTORS]
        return sorted((trial for trial in found if "psnr" in trial), key=lambda trial: -trial["psnr"])

    def trained(self, name: str, rate: float, minutes: float, cost: float, validations: int) -> dict[str, Any]:
        """Train in a folder, or go on there, for as many steps as the time allows."""
        steps = max(1, round(60 * minutes / cost))
        options = self.options(rate, steps, validations, self.bfloat16)
        task = self.problem.task(self.network())
        folder = self.folder / name
        train(task, options, folder=folder, seed=SEED, resume=(folder / "last.pt").exists(), progress=False)
        began = time.process_time()
        figures = task.validate(task.model)
        of_validation = time.process_time() - began
        lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
        seconds = (lines[-1]["seconds"] - len(lines) * of_validation) / lines[-1]["step"]
        curve = [[round(line["step"] * seconds, 2), line["psnr"]] for line in lines]
        return {
            "rate": rate,
            "steps": lines[-1]["steps"],
            "seconds": seconds,
            "psnr": max(line["psnr"] for line in lines),
            "start_psnr": figures["start_psnr"],
            "curve": curve,
            "skipped": lines[-1]["skipped"],
            "bfloat16": self.bfloat16,
        }

    def full(self, name: str, minutes: float) -> dict[str, Any]:
        """Train for the whole time with the best learning rate, and look at the test images."""
        trials = self.trials
        if not trials:
            raise ValueError("all trials of learning rates failed")
        cost = sum(trial["steps"] * trial["seconds"] for trial in trials) / sum(trial["steps"] for trial in trials)
        found = self.trained(name, trials[0]["rate"], minutes, cost, VALIDATIONS)
        network, _ = load(self.folder / name / BEST)
        network.eval()
        return {**found, **self.tested(name, lambda case: network(case.y, case.operator))}

    def classical(self, method: str) -> dict[str, Any]:
        """A classical method, with its strength tuned on what is held out."""
        reconstruct, strength = methods_of(self.problem, method, self.settings["iterations"])
        return {"strength": strength, **self.tested(method, reconstruct)}

    def tested(self, name: str, reconstruct: Callable[[Case], torch.Tensor]) -> dict[str, Any]:
        """The figures of a method on the test images, and its picture of one of them."""
        cases = self.problem.test()[: self.settings["most"]]
        rows, seconds = [], 0.0
        with torch.no_grad():
            reconstruct(cases[0])  # what is made once
            for index, case in enumerate(cases):
                began = time.process_time()
                found = reconstruct(case)
                seconds += time.process_time() - began
                rows.append(case.figures(found))
                if index == min(self.problem.pictured, len(cases) - 1):
                    self.keep(f"{name}.npy", case.shown(found))
                    self.keep("truth.npy", case.truth)
        means = {f"test_{figure}": sum(row[figure] for row in rows) / len(rows) for figure in ("psnr", "ssim")}
        return {**means, "seconds_an_image": seconds / len(cases), "images": rows}

    def keep(self, name: str, image: torch.Tensor) -> None:
        np.save(self.folder / name, image[0, 0].float().numpy())


def pieces_of(network: str) -> list[str]:
    """The pieces of a network, in their order."""
    return ["cost-float32", "cost-bfloat16", *(f"rate-{factor:g}" for factor in FACTORS), "full"]


def do(piece: Piece, name: str) -> dict[str, Any]:
    """Do one piece by its name."""
    kind, _, detail = name.partition("-")
    if kind == "cost":
        return piece.cost(detail == "bfloat16")
    if kind == "rate":
        return piece.trial(float(detail))
    if kind == "full":
        return piece.full(name, piece.settings["minutes"])
    if kind == "long":
        return piece.full(name, float(detail))
    if kind == "prepare":
        piece.problem.prepare()
        return {}
    return piece.classical(name)


def folder_of(out: Path, problem_name: str, network: str) -> Path:
    """Where the pieces of a network lie."""
    return out / problem_name / network.translate(FOLDERS)


def result(folder: Path, name: str) -> dict[str, Any] | None:
    """What a piece found; None if it is not finished. Of one that failed only "failed", the reason."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def finish(out: Path, problem_name: str, network: str, name: str) -> int:
    """Do a piece, and write what it found or why it failed; returns the exit status of its process."""
    piece = Piece(out, problem_name, network)
    try:
        found = do(piece, name)
        if not all(math.isfinite(value) for value in found.values() if isinstance(value, float)):
            raise ValueError("a figure is not a number")
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # whatever goes wrong is a line of the table
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        found = {"failed": f"{kind}{error}"}
    write_json(piece.folder / f"{name}.json", found, indent=1)
    return 0


def main(argv: list[str]) -> int:
    """Do a piece in this process, which has one thread and ends with the one that started it."""
    command.end_with_parent()
    keep_freed_memory()
    torch.set_num_threads(1)
    out, problem_name, network, name = argv
    return finish(Path(out), problem_name, network, name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
