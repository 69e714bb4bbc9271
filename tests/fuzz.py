"""Damaged files of every kind against their readers: python -m tests.fuzz --mutations 1000

Each file must give a right answer or an error with a message: no other exception, no crash, no hang, no executed code,
no file left behind. A finding is printed with the command that shows it again.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import random
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.mutations import BYTES, Mutation

MEMORY = 2**30
"""Bytes that a case may take."""

WAITING = 6
"""A case may last so many times as long as it may calculate: this machine may have other work."""


@dataclass(frozen=True)
class Kind:
    """A kind of file: how to write whole ones, how to open one as a user would, and what else can be done to it.

    `write` gets a folder and fills it with whole files. `read` gets a path; it returns for an answer that it has looked
    at, and raises ValueError for a refusal. What it writes it must remove.
    """

    write: Callable[[Path], None]
    read: Callable[[Path], None]
    mutations: tuple[Mutation, ...] = ()
    aware: float = 0.6
    """The share of the damage that is of these mutations, and not of any bytes."""


@dataclass
class Tally:
    answers: int = 0
    refusals: int = 0
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    memory: int = 0
    """Of the case that calculated longest, and of the one that took most bytes."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Damaged files against their readers.")
    parser.add_argument("--mutations", type=int, default=1000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", nargs="*", help="only these kinds")
    parser.add_argument("--seconds", type=float, default=10, help="of calculating, for a case, at most")
    parser.add_argument("--only", type=int, help="only the case of this number")
    parser.add_argument("--table", default="tests.kinds", help="the module with the table of kinds")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        return work(options)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        tallies = supervise(options, Path(folder))
    print(f"{'kind':<14} {'cases':>7} {'answers':>8} {'refusals':>9} {'findings':>9}")
    for kind, tally in tallies.items():
        cases = tally.answers + tally.refusals + len(tally.findings)
        print(f"{kind:<14} {cases:>7} {tally.answers:>8} {tally.refusals:>9} {len(tally.findings):>9}")
    slowest, largest = (max(tallies, key=lambda kind: getattr(tallies[kind], of)) for of in ("seconds", "memory"))
    print(f"longest {tallies[slowest].seconds:.1f} s ({slowest}), most {tallies[largest].memory:,} bytes ({largest})")
    print(f"seed {options.seed}, {time.perf_counter() - began:.0f} s")
    for kind, tally in tallies.items():
        for finding in tally.findings:
            print(f"\n{kind}: {finding}")
    return int(any(tally.findings for tally in tallies.values()))


def supervise(options: argparse.Namespace, folder: Path) -> dict[str, Tally]:
    """Let a worker go through the cases, and replace it when a case has killed it or does not end."""
    tallies: dict[str, Tally] = {}
    position = 0
    while True:
        command = [sys.executable, "-m", "tests.fuzz", "--worker", f"{folder}:{position}", "--table", options.table]
        command += [
            "--mutations",
            str(options.mutations),
            "--seed",
            str(options.seed),
            "--seconds",
            str(options.seconds),
        ]
        command += ["--only", str(options.only)] if options.only is not None else []
        command += ["--kind", *options.kind] if options.kind else []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
        ) as worker:
            case = None
            for message in _messages(worker, 2 * WAITING * options.seconds):
                if message.get("done"):
                    worker.wait()
                    return tallies
                if "outcome" not in message:
                    case = message
                    continue
                _count(tallies, message, options)
                position, case = message["position"] + 1, None
            worker.kill()
            status = worker.wait()
        if case is None:
            raise RuntimeError(f"the worker ended between cases, with status {status}")
        reason = "hang" if status == -signal.SIGKILL else f"crash with status {status}"
        _count(tallies, {**case, "outcome": "finding", "reason": reason}, options)
        position = case["position"] + 1


def _messages(worker: subprocess.Popen, seconds: float) -> Iterator[dict[str, Any]]:
    """What the worker says, until it ends or is silent for longer than a case may last."""
    assert worker.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(worker.stdout, selectors.EVENT_READ)
        patience = 120.0  # to import and to write the whole files
        rest = b""
        while selector.select(patience):
            if not (read := os.read(worker.stdout.fileno(), 65536)):
                worker.wait()
                return
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                yield json.loads(line)
            patience = seconds


def _count(tallies: dict[str, Tally], message: dict[str, Any], options: argparse.Namespace) -> None:
    tally = tallies.setdefault(message["kind"], Tally())
    tally.seconds, tally.memory = (
        max(tally.seconds, message.get("seconds", 0)),
        max(tally.memory, message.get("memory", 0)),
    )
    if message["outcome"] == "answer":
        tally.answers += 1
    elif message["outcome"] == "refusal":
        tally.refusals += 1
    else:
        again = f"python -m tests.fuzz --kind {message['kind']} --seed {options.seed} --only {message['index']}"
        tally.findings.append(f"{message['reason']}\n    {again}")


class Hang(BaseException):
    """A case took too long; no reader catches this."""


def work(options: argparse.Namespace) -> int:
    """Go through the cases from a position on, and say before and after each what happens, as JSON lines."""
    report = os.fdopen(os.dup(1), "w", buffering=1)
    with open(os.devnull, "w") as nothing:  # what readers print, also from C, is not for the table
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    folder, _, position = options.worker.rpartition(":")
    here, wholes = Path(folder) / "case", Path(folder) / "whole"
    here.mkdir(exist_ok=True)
    kinds: dict[str, Kind] = importlib.import_module(options.table).KINDS
    chosen = {name: kinds[name] for name in options.kind or kinds}
    for name, kind in chosen.items():
        if not (wholes / name).is_dir():
            (wholes / name).mkdir(parents=True)
            kind.write(wholes / name)
    os.chdir(here)
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, _hang)
    numbers = range(options.mutations) if options.only is None else [options.only]
    cases = [(name, index) for name in chosen for index in numbers]
    for at, (name, index) in enumerate(cases):
        if at < int(position):
            continue
        case = {"position": at, "kind": name, "index": index}
        print(json.dumps(case), file=report)
        path, data = mutate(chosen[name], wholes / name, here, f"{options.seed} {name} {index}")
        path.write_bytes(data)
        before, began = _limit_memory(), time.process_time()
        outcome, reason = attempt(chosen[name].read, path, options.seconds)
        taken = {"seconds": time.process_time() - began, "memory": peak() - before}
        leftover = sorted(found.name for found in here.iterdir() if found != path)
        if leftover:
            executed = any("canary" in found for found in leftover)
            outcome, reason = "finding", "executed code" if executed else f"left behind: {', '.join(leftover)}"
        elif path.read_bytes() != data:
            outcome, reason = "finding", "the file was changed"
        for found in here.iterdir():
            found.unlink()
        print(json.dumps({**case, "outcome": outcome, "reason": reason, **taken}), file=report)
    print(json.dumps({"done": True}), file=report)
    return 0


def mutate(kind: Kind, wholes: Path, here: Path, seed: str) -> tuple[Path, bytes]:
    """A damaged file, as a function of the seed; some are damaged twice, or are spliced of two."""
    draw = random.Random(seed)
    files = sorted(wholes.iterdir())
    source = draw.choice(files)
    data = source.read_bytes()
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        if draw.random() < 0.1:
            other = draw.choice(files).read_bytes()
            data = data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other) + 1) :]
            continue
        special = kind.mutations and draw.random() < kind.aware
        with contextlib.suppress(Exception):  # what was damaged before may be beyond a change inside of it
            data = draw.choice(kind.mutations if special else BYTES)(data, draw)
    return here / f"damaged{source.suffix}", data


def attempt(read: Callable[[Path], None], path: Path, seconds: float = 10) -> tuple[str, str]:
    """The outcome of one case: answer, refusal or finding; and its reason."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, WAITING * seconds)
    try:
        read(path)
        return "answer", ""
    except ValueError as error:
        if _ran_out_of_memory(error):
            return "finding", f"asked for more than {MEMORY:,} bytes: {error}"
        return ("refusal", str(error)) if str(error).strip() else ("finding", "a refusal without a message")
    except Hang:
        return "finding", f"hang: more than {seconds:g} s"
    except BaseException as error:
        return "finding", f"{type(error).__name__}: {str(error)[:500]}"
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)


def command(*argv: str) -> str:
    """What a command prints; ValueError with the message if it refuses, RuntimeError for what no user should see."""
    from unrolled.cli import main as unrolled

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = unrolled(list(argv))
        except SystemExit as stop:
            status = stop.code
    if status == 0:
        return out.getvalue()
    if status in (1, 2) and "Traceback" not in err.getvalue():
        raise ValueError(err.getvalue())
    raise RuntimeError(f"exit status {status}: {err.getvalue()[-500:]}")


def _ran_out_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _limit_memory() -> int:
    """Allow so much more memory than is taken now; return how much that is, in bytes."""
    if sys.platform != "linux":
        return 0
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, hard))
    return resident()


def resident() -> int:
    """The memory that is taken now, in bytes; the peak is counted from here on."""
    if sys.platform != "linux":
        return 0
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak() -> int:
    """The most memory that was taken, in bytes."""
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024


def _hang(number: int, frame: Any) -> None:
    raise Hang


if __name__ == "__main__":
    sys.exit(main())
