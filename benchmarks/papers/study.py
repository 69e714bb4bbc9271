"""One paper's experiment: the runs of a YAML file, each an `unrolled train` or `classify`, and their figures in a JSON.

python -m benchmarks.papers.study --config configs/papers/duality.yaml --folder runs/duality --json duality.json

The file holds `base`, the config that all runs share; `runs`, what differs from it by the name of the run, and with
`start: OTHER` the run whose last weights it starts from; `seeds`; and `published`, figures of others with their source.
Every run has a folder of its own, RUN-SEED: what is finished is not done again, what was interrupted goes on, and what
fails is recorded while the others go on. `--only` and `--seeds` pick some of them, so that several processes can share
the work; the JSON holds all that are finished. Every other option goes to each run: `--data.folder DIR`,
`--training.epochs 2`, `--device cuda`.
"""

import json
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from benchmarks import command
from unrolled.cli import classify, train
from unrolled.cli.config_file import read_settings
from unrolled.system.files import replacing
from unrolled.training.runs.checkpoint import Checkpoints

KNOWN = {"base", "runs", "seeds", "published"}
WEIGHTS = ("sparse.safetensors", "best.safetensors")
Run = Callable[[dict[str, Any], str, int, Path, list[str]], None]


def read(path: str) -> dict[str, Any]:
    """A study, checked.

    Raises
    ------
    ValueError
        if it is not one.
    """
    study = {"seeds": [0], "published": [], **read_settings(path)}
    if unknown := set(study) - KNOWN:
        raise ValueError(f"config: {path} has {', '.join(sorted(unknown))}; a study has {', '.join(sorted(KNOWN))}")
    if not study.get("base") or not study.get("runs"):
        raise ValueError(f"config: {path} needs base and runs")
    for name, run in study["runs"].items():
        start = (run or {}).get("start")
        if start is not None and start not in study["runs"]:
            raise ValueError(f"config: {path}: start of {name} must be a run, got {start!r}")
        if not re.fullmatch(r"[\w.+-]+", name):
            raise ValueError(f"config: {path}: names of runs are letters, digits and ._+-, got {name!r}")
    return study


def merged(base: Any, change: Any) -> Any:
    """Settings with some of them changed; a class that is another one has none of the settings of that before."""
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    if "class_path" in change and change["class_path"] != base.get("class_path"):
        return change
    return {**base, **{key: merged(base.get(key), value) for key, value in change.items()}}


def folder_of(folder: Path, name: str, seed: int) -> Path:
    return folder / f"{name}-{seed}"


def run(study: dict[str, Any], name: str, seed: int, folder: Path, more: list[str]) -> None:
    """Do one run, from its checkpoint if it has one, unless it is finished; and the run before it that it starts from.

    Raises
    ------
    ValueError
        if it fails, or was finished with other settings.
    """
    own = folder_of(folder, name, seed)
    asked = merged(study["base"], study["runs"][name] or {})
    start = asked.pop("start", None)
    config = f"# start: {start}\n{yaml.safe_dump(asked, sort_keys=False)}"
    before = (own / "run.yaml").read_text() if (own / "run.yaml").exists() else config
    if (own / "finished.json").exists():
        if before != config:
            raise ValueError(f"folder: {own} was finished with other settings; remove it, or choose another folder")
        return
    if not before.startswith("# start: "):
        raise ValueError(f"folder: {own} holds a run.yaml that no study wrote; choose another folder")
    argv = [
        f"--config={own / 'run.yaml'}",
        f"--folder={own}",
        f"--seed={seed}",
        *["--resume"] * Checkpoints(own).exist(),
    ]
    if start is not None:
        run(study, start, seed, folder, more)
        first = folder_of(folder, start, seed)
        argv.append(f"--weights={next(first / file for file in WEIGHTS if (first / file).exists())}")
    own.mkdir(parents=True, exist_ok=True)
    with replacing(own / "run.yaml") as temporary:
        temporary.write_text(config)
    print(f"\n== {name}, seed {seed}", flush=True)
    errors = _Errors()
    try:
        with redirect_stderr(errors):
            stopped = command_of(asked).run([*argv, *more])
    except SystemExit:
        raise ValueError(errors.getvalue().strip().splitlines()[-1]) from None
    if stopped:
        raise KeyboardInterrupt(errors.getvalue().strip().splitlines()[-1])
    with replacing(own / "finished.json") as temporary:
        temporary.write_text(json.dumps(result(own, name, seed)))


def command_of(settings: dict[str, Any]) -> ModuleType:
    """The command that trains what the settings of a run describe."""
    return classify if "classifier" in settings else train


class _Errors(StringIO):
    """What goes to the standard error output, kept; a terminal is shown it too: there are progress bars in it."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = sys.stderr

    def write(self, text: str) -> int:
        if self.shown.isatty():
            self.shown.write(text)
        return super().write(text)


def result(folder: Path, name: str, seed: int) -> dict[str, Any]:
    """The figures of a run, from the files in its folder."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    names = dict.fromkeys(key for line in lines for key, value in line.items() if isinstance(value, int | float))
    found = {
        "name": name,
        "seed": seed,
        "settings": settings_of(folder),
        "steps": lines[-1]["step"],
        "seconds": lines[-1]["seconds"],
        "validation": {key: value for key, value in lines[-1].items() if key != "steps"},
        "curves": {key: [rounded(line.get(key)) for line in lines] for key in names if key != "steps"},
        "environment": json.loads((folder / "environment.json").read_text()),
    }
    if (folder / "result.json").exists():
        found["test"] = json.loads((folder / "result.json").read_text())["test"]
    if (folder / "sparsity.json").exists():
        facts = json.loads((folder / "sparsity.json").read_text())
        total = facts["report"]["total"]
        found["before"], found["after"], found["report"] = facts["before"], facts["after"], facts["report"]
        found["sparsity"] = 1 - total["nonzeros"] / total["weights"]
        found["compression"] = total["weights"] / max(total["nonzeros"], 1)
    return found


def rounded(value: float | None) -> float | None:
    """To six digits, for there are many."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def settings_of(folder: Path) -> dict[str, Any]:
    """What was asked for, without paths: those are nobody's business."""
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    for key in ("folder", "resume", "threads", "device", "config"):
        settings.pop(key, None)
    if isinstance(settings.get("data"), dict):
        settings["data"].pop("folder", None)
    return _without_paths(settings)


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_paths(each) for each in value]
    return value.rsplit("/", 1)[-1] if isinstance(value, str) and "/" in value else value


def results(study: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The figures of all finished runs, in the order of the study."""
    found = [json.loads(path.read_text()) for path in folder.glob("*/finished.json")]
    order = list(study["runs"])
    return sorted(
        (row for row in found if row["name"] in order), key=lambda row: (order.index(row["name"]), row["seed"])
    )


def table(rows: list[dict[str, Any]]) -> str:
    """A row for each run."""
    lines = ["| run | seed | validation | test | zeros | compression | seconds |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        after = row.get("after", row["validation"])
        error, dB = after.get("error"), after.get("psnr")
        test = (row.get("test") or {}).get("error")
        cells = [
            row["name"],
            str(row["seed"]),
            f"{error:.2f} %" if error is not None else f"{dB:.2f} dB",
            "" if test is None else f"{test:.2f} %",
            f"{row['sparsity']:.2%}" if "sparsity" in row else "",
            f"{row['compression']:.1f}×" if "compression" in row else "",
            f"{row['seconds']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write(path: Path, study: dict[str, Any], failed: dict[str, str], rows: list[dict[str, Any]]) -> None:
    """The JSON of a study: a line for each run, so that it stays short and changes can be seen."""
    head = json.dumps({"published": study["published"], "failed": failed}, indent=1).removesuffix("\n}")
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    with replacing(path) as temporary:
        temporary.write_text(f'{head},\n "runs": [\n{lines}\n ]\n}}\n')


def main(argv: list[str] | None = None, doc: str | None = __doc__, do: Run = run) -> int:
    """The command; another one that does a run in its own way gives its text and that function."""
    parser = command.parser(doc)
    parser.allow_abbrev = False
    parser.add_argument("--config", required=True, help="the study")
    parser.add_argument("--folder", type=Path, required=True, help="with one of its own for every run")
    parser.add_argument("--only", nargs="+", metavar="RUN", help="of the study's runs")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="instead of the study's")
    parser.add_argument("--collect", action="store_true", help="run nothing: only write the JSON of what is finished")
    options, more = parser.parse_known_args(argv)
    try:
        study = read(options.config)
    except ValueError as error:
        parser.error(str(error))
    names = options.only or list(study["runs"])
    if unknown := [name for name in names if name not in study["runs"]]:
        parser.error(f"--only: {unknown[0]} is none of the runs: {', '.join(study['runs'])}")
    failed = {}
    for seed, name in [] if options.collect else product(options.seeds or study["seeds"], names):
        try:
            do(study, name, seed, options.folder, more)
        except ValueError as error:
            failed[f"{name}-{seed}"] = str(error)
            print(f"{name}, seed {seed}, failed: {error}", flush=True)
    rows = results(study, options.folder)
    print(f"\n{table(rows)}")
    if options.json is not None:
        write(options.json, study, failed, rows)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
