"""All that a machine with a GPU is wanted for, in the minutes for which one has it.

    python -m benchmarks.device --minutes 12 --out runs/device

One after the other, each in a process of its own that ends when its part of the time is over:

- tests: `pytest -m device`, three minutes at most; a failure ends everything;
- throughput: `benchmarks.throughput`, eager and then also compiled;
- training: the first training of docs/training-queue.md, for the rest of the time. It validates as it goes; its
  weights and checkpoints are in OUT/training, and it goes on from there if the command is given again.

`OUT/gpu.json` is written anew whenever there is something new, so nothing that was measured is lost when the machine is
taken away. As `docs/performance/gpu.json` it makes a section of docs/performance.md (`python -m benchmarks.report`).
"""

import argparse
import importlib.util
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import command
from unrolled.system.devices import torch_device

ROOT = Path(__file__).parents[1]
QUEUE = ROOT / "docs" / "training-queue.md"
TESTS_AT_MOST = 180  # seconds
GRACE = 15
"""Seconds in which a process that is told to end can write a checkpoint."""


def queued() -> list[str]:
    """The arguments of the first training in the queue."""
    lines = (line.strip() for line in QUEUE.read_text(encoding="utf-8").splitlines())
    return shlex.split(next(line for line in lines if line.startswith("python train.py ")))[2:]


def run(argv: list[str], seconds: float, log: Path) -> str:
    """Run Python with arguments for so long, what it prints going into a file; how it ended."""
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen([sys.executable, *argv], stdout=file, stderr=subprocess.STDOUT, cwd=ROOT)
        try:
            return "passed" if process.wait(max(0.0, seconds)) == 0 else "failed"
        except subprocess.TimeoutExpired:
            return "out of time"
        finally:
            process.terminate()
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Session:
    """The parts, and what is known so far.

    Parameters
    ----------
    minutes : float
        from now on.
    out : Path
    device : str
    """

    def __init__(self, minutes: float, out: Path, device: str):
        self.ends, self.minutes, self.out, self.device = time.monotonic() + 60 * minutes, minutes, out, device
        self.on_gpu = device.startswith("cuda")
        self.found: dict[str, Any] = {}
        out.mkdir(parents=True, exist_ok=True)

    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def keep(self, **found: Any) -> None:
        """Note figures, and write all that there are."""
        self.found |= found
        command.write(self.out / "gpu.json", self.found)

    def tests(self) -> bool:
        """Whether none failed."""
        log, began = self.out / "tests.txt", time.monotonic()
        argv = ["-m", "pytest", "tests", "-m", "device", "--exitfirst", "-p", "no:cacheprovider"]
        if importlib.util.find_spec("xdist"):
            argv += ["--numprocesses", "auto", "--maxprocesses", "8", "--dist", "worksteal"]
        outcome = run(argv, min(TESTS_AT_MOST, 15 * self.minutes), log)
        lines = log.read_text(encoding="utf-8").split("\n")
        summary = next((line for line in reversed(lines) if line.strip()), "")
        self.keep(tests={"outcome": outcome, "summary": summary, "seconds": time.monotonic() - began})
        return outcome != "failed"

    def throughput(self) -> bool:
        """Whether speed and memory could be measured, as far as time went."""
        rows: dict[tuple[str, ...], Any] = {}
        outcomes = []
        for name, more, share in [("eager", [], 1 / 4), ("compiled", ["--compile"], 1 / 3)][: 1 + self.on_gpu]:
            path = self.out / f"{name}.json"
            path.unlink(missing_ok=True)
            argv = ["-m", "benchmarks.throughput", "--device", self.device, "--json", str(path), *more]
            argv += ["--rounds", "20" if self.on_gpu else "2"]
            outcomes.append(run(argv, share * self.left(), self.out / f"{name}.txt"))
            if path.exists():
                result = json.loads(path.read_text(encoding="utf-8"))
                rows |= {(row["network"], row["task"], row["variant"]): row for row in result["rows"]}
                self.keep(**{**result, "rows": list(rows.values())})
        return "failed" not in outcomes

    def training(self) -> bool:
        """Whether the first training of the queue was begun, and did not fail."""
        folder, log = self.out / "training", self.out / "training.txt"
        # What starting and the last validation may take is not trained for.
        minutes = max(0.01, (self.left() - 4 * GRACE) / 60)
        own = {"steps": "null", "epochs": "null", "minutes": f"{minutes:.3f}", "checkpoint_minutes": "0.5"}
        own |= {} if self.on_gpu else {"compile": "false"}
        argv = [*queued(), "--device", self.device, "--folder", str(folder)]
        for name, value in own.items():
            argv += [f"--training.{name}", value]
        outcome = run(["train.py", *argv, *([] if "--resume" in argv else ["--resume"])], self.left() - GRACE, log)
        self.keep(training={"command": shlex.join(["python", "train.py", *queued()]), "outcome": outcome})
        metrics = folder / "metrics.jsonl"
        lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
        if lines:
            self.keep(training={**self.found["training"], "last": json.loads(lines[-1])})
        return outcome != "failed"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(argv)
    session = Session(options.minutes, options.out.resolve(), torch_device(options.device).type)
    for part in (session.tests, session.throughput, session.training):
        succeeded = part()
        print(f"{part.__name__}: {'done' if succeeded else 'failed'}, {max(0, session.left()):.0f} s left", flush=True)
        if not succeeded:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
