"""The order of the pieces: several processes at a time, each with one thread, and the time that is left."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.comparison.classical import METHODS
from benchmarks.comparison.pieces import FACTORS, TRIAL, folder_of, pieces_of, result

CLASSICAL = "classical"
"""The folder of classical methods, beside those of the networks."""

OVERHEAD, COST, METHOD = 40.0, 30.0, 150.0
"""About how many seconds it takes to load and validate, to measure a step, and to tune a classical method."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Schedule:
    """Pieces to do, in chains whose pieces follow each other.

    Parameters
    ----------
    out : Path
        the folder of the comparison.
    minutes : float
        of the processor for each training.
    jobs : int
        chains at a time.
    """

    def __init__(self, out: Path, minutes: float, jobs: int):
        self.out, self.minutes, self.jobs = out, minutes, jobs
        self.lock, self.running = threading.Lock(), set[subprocess.Popen]()
        self.left = self.done = 0.0
        self.began, self.stopped = time.monotonic(), False

    def run(self, chains: Sequence[tuple[str, str, list[str]]]) -> None:
        """Do the pieces (problem, network, names) that are not done, chains side by side.

        Raises
        ------
        KeyboardInterrupt
            on Ctrl-C and SIGTERM, after all processes have written their checkpoints.
        """
        self.left = sum(self.weight(name) for chain in chains for name in self.missing(*chain))
        self.done, self.began = 0.0, time.monotonic()
        before = signal.signal(signal.SIGTERM, _interrupt)
        pool = ThreadPoolExecutor(self.jobs)
        try:
            list(pool.map(lambda chain: self.chain(*chain), chains))
        except KeyboardInterrupt:
            self.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            signal.signal(signal.SIGTERM, before)

    def stop(self) -> None:
        """Let processes write their checkpoints, and start no others."""
        self.stopped = True
        with self.lock:
            for process in self.running:
                process.terminate()

    def missing(self, problem: str, network: str, names: list[str]) -> list[str]:
        """The pieces of a chain that are to be done."""
        folder = folder_of(self.out, problem, network)
        return [] if reason_to_stop(folder) else [name for name in names if result(folder, name) is None]

    def weight(self, name: str) -> float:
        """About how many seconds a piece takes."""
        kind, _, detail = name.partition("-")
        trained = {"rate": TRIAL * self.minutes, "full": self.minutes, "long": float(detail) if kind == "long" else 0}
        if kind in trained:
            return 60 * trained[kind] + OVERHEAD
        return COST if kind == "cost" else METHOD

    def chain(self, problem: str, network: str, names: list[str]) -> None:
        """Do the pieces of a chain, one after the other, until one fails that others need."""
        names = self.missing(problem, network, names)
        while names and not self.stopped:
            name = names.pop(0)
            self.piece(problem, network, name)
            with self.lock:
                self.left -= self.weight(name)
                self.done += self.weight(name)
                if reason_to_stop(folder_of(self.out, problem, network)):
                    self.left -= sum(map(self.weight, names))
                    names = []
            self.tell(problem, network, name)

    def piece(self, problem: str, network: str, name: str) -> None:
        """Do a piece in a process of its own; what it says goes to a file beside its figures."""
        folder = folder_of(self.out, problem, network)
        folder.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "benchmarks.comparison.pieces", str(self.out), problem, network, name]
        with (folder / f"{name}.log").open("a") as log:
            with self.lock:
                if self.stopped:
                    return
                environment = os.environ | dict.fromkeys(THREADS, "1")
                process = subprocess.Popen(argv, stdout=log, stderr=log, env=environment)
                self.running.add(process)
            process.wait()
            with self.lock:
                self.running.discard(process)

    def tell(self, problem: str, network: str, name: str) -> None:
        """A line for a piece that has ended."""
        found = result(folder_of(self.out, problem, network), name)
        wall = time.monotonic() - self.began
        left = hours(self.left * wall / self.done) if self.done else "?"
        print(f"{problem:<7} {network:<26} {name:<14} {words(found):<60} {left} left", flush=True)


def words(found: dict[str, Any] | None) -> str:
    """What a piece found, in short."""
    if found is None:
        return "ended without a result, see its log"
    if "failed" in found:
        return f"failed: {found['failed'].splitlines()[0]:.100}"
    if "test_psnr" in found:
        return f"{found['test_psnr']:.2f} dB on the test images"
    if "psnr" in found:
        return f"{found['psnr']:.2f} dB held out, {found['steps']:,} steps of {found['seconds']:.2f} s"
    if "seconds" in found:
        return f"{found['seconds']:.3f} s a step, {found['mib']:.0f} MiB, {found['parameters']:,} parameters"
    return "done"


def hours(seconds: float) -> str:
    """A duration."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def reason_to_stop(folder: Path) -> str | None:
    """Why nothing more can be done with a network: it does not take the operator, or no trial went well."""
    first = result(folder, "cost-float32")
    if first is not None and "failed" in first:
        return str(first["failed"])
    trials = [result(folder, f"rate-{factor:g}") for factor in FACTORS]
    failed = [trial["failed"] for trial in trials if trial is not None and "failed" in trial]
    return str(failed[0]) if len(failed) == len(FACTORS) else None


def is_prepared(out: Path, problem: str) -> bool:
    """Whether the data of a problem are there and can be read."""
    found = result(folder_of(out, problem, CLASSICAL), "prepare")
    return found is not None and "failed" not in found


def chains(problems: Sequence[str], networks: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    """Everything but the long runs: classical methods first, then every network."""
    found: list[tuple[str, str, list[str]]] = []
    for problem in problems:
        found.append((problem, CLASSICAL, list(METHODS)))
        found += [(problem, network, pieces_of(network)) for network in networks]
    return found


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
