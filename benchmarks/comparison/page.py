"""The part of docs/networks.md that says which network to choose, made of the figures of a comparison."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.command import with_part
from benchmarks.comparison.pieces import FACTORS, TRIAL, VALIDATIONS
from benchmarks.comparison.problems import NEEDED, problem
from benchmarks.comparison.rows import Row, table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "networks.md"
FIGURES = ROOT / "docs" / "comparison.json"
BEGIN, END = "<!-- comparison -->", "<!-- end of comparison -->"
ALIKE = 0.1
"""dB: networks that differ by less are not told apart, for each was trained once."""

QUICK = 0.3
"""dB below the best, within which a faster or smaller network is worth a sentence."""

COMMAND = (
    "python -m benchmarks.comparison --t91 T91 --bsd400 BSD400 --set11 Set11 --complex TRAIN.h5 TEST.h5 "
    "--ct TRAIN.h5 TEST.h5 --kernels Levin09.mat"
)


def titles() -> dict[str, str]:
    """What problems are called."""
    return {name: problem(name, {}).title for name in NEEDED}


def page(result: dict[str, Any], text: str) -> str:
    """A page with the part between its marks made anew; without marks it is put at the end."""
    return with_part(text, section(result), BEGIN, END)


def section(result: dict[str, Any]) -> str:
    """The whole part."""
    rows = by_problem(result["rows"])
    parts = ["## Which network for which problem", summary(rows), introduction(result)]
    if "curves" in result.get("figures", {}):
        parts.append(f"![PSNR on held-out images over processor time]({result['figures']['curves']})")
    for name, found in rows.items():
        setting = problem(name, {}).setting
        parts += [f"### {titles()[name]}", f"{setting[0].upper()}{setting[1:]}.", table(found)]
        parts.append(statement(found, result["minutes"]))
        if name in result.get("figures", {}):
            picture = result["figures"][name]
            parts.append(f"![True image, reconstructions and their errors: {titles()[name].lower()}]({picture})")
    return "\n\n".join(parts)


def by_problem(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each problem that has any."""
    found = {name: [row for row in rows if row["problem"] == name] for name in NEEDED}
    return {name: each for name, each in found.items() if each}


def introduction(result: dict[str, Any]) -> str:
    """How figures were made."""
    minutes, machine = result["minutes"], result["environment"]
    rates = ", ".join(f"{factor:g}" for factor in FACTORS)
    long = f" --long {result['long']:g}" if result["long"] else ""
    return "\n\n".join(
        [
            f"    {COMMAND} --minutes {minutes:g}{long} --json docs/comparison.json",
            f"Every network was trained for {minutes:g} minutes of processor time, in a process with one thread; "
            f"{machine['device']}, Python {machine['python']}, torch {machine['torch']}. It is the time of the "
            "processor that counts, not that of the clock, so that several at a time and a busy machine are fair; "
            "validation is not counted. The time of a step is measured first, and the run then has as many steps as "
            f"fill its time, at whose end the schedule of the learning rate ends. {durations(result['rows'])} Learning "
            f"rates are those of `configs/networks` times {rates}, of which the one is taken that is best on held-out "
            f"training images after {TRIAL:.0%} of the time. Batches, crops, first images and held-out images of a "
            "problem are the same for all networks. bfloat16 is used where a step takes less time in it. Weights are "
            f"those of the {VALIDATIONS} validations that are best on held-out images. Strengths of classical methods "
            "are tuned on held-out images too; test images were looked at once. *MiB in training* is what a process "
            f"needs more while it trains. Each network was trained once: differences below {ALIKE} dB say little.",
        ]
    )


def durations(rows: Sequence[Row]) -> str:
    """How long the trainings took in the end."""
    took = [row["steps"] * row["seconds_a_step"] / 60 for row in rows if row["network"] and "failed" not in row]
    return f"The steps of a run took {min(took):.1f} to {max(took):.1f} minutes in the end." if took else ""


def summary(rows: dict[str, list[Row]]) -> str:
    """The choice for each problem."""
    lines = ["| for | choose | PSNR | above the best classical method | parameters | seconds an image |"]
    lines.append("|---|---|---|---|---|---|")
    for name, found in rows.items():
        networks, classical = ranked(found, True), ranked(found, False)
        if not networks:
            continue
        best = networks[0]
        above = f"{best['psnr'] - classical[0]['psnr']:+.2f} dB ({classical[0]['method']})" if classical else ""
        lines.append(
            f"| {titles()[name].lower()} | {called(best)} | {best['psnr']:.2f} dB | {above} "
            f"| {best['parameters']:,} | {best['seconds_an_image']:.2f} |"
        )
    return "\n".join(lines)


def ranked(rows: Sequence[Row], network: bool) -> list[Row]:
    """Networks, or classical methods, that have figures, the best first."""
    found = [row for row in rows if row["network"] == network and "failed" not in row]
    return sorted(found, key=lambda row: -row["psnr"])


def statement(rows: Sequence[Row], minutes: float) -> str:
    """Which network to choose for a problem, in words."""
    networks, classical = ranked(rows, True), ranked(rows, False)
    if not networks:
        return "No network is trained yet."
    best, said = networks[0], []
    alike = [row for row in networks[1:] if best["psnr"] - row["psnr"] < ALIKE]
    rest = networks[1 + len(alike) :]
    if alike:
        said.append(
            f"Choose {called(best)}; {listed(alike)} {'is' if len(alike) == 1 else 'are'} not told apart from it."
        )
    else:
        said.append(f"Choose {called(best)}.")
    if rest:
        said.append(f"Next comes {called(rest[0])}, {best['psnr'] - rest[0]['psnr']:.2f} dB below.")
    if classical:
        above = best["psnr"] - classical[0]["psnr"]
        side = "above" if above >= 0 else "below"
        said.append(f"It is {abs(above):.2f} dB {side} {classical[0]['method']}, the best classical method.")
    near = [row for row in networks if best["psnr"] - row["psnr"] <= QUICK]
    for key, word in (("seconds_an_image", "fastest"), ("parameters", "smallest")):
        least = min(near, key=lambda row: row[key])
        if least is not best and least[key] <= 0.8 * best[key]:
            of = f"{least[key]:,} parameters" if key == "parameters" else f"{least[key]:.2f} s an image"
            said.append(f"The {word} network within {QUICK} dB of it is {called(least)}, {of}.")
    return " ".join([*said, *over_time(networks, minutes)])


def over_time(networks: Sequence[Row], minutes: float) -> list[str]:
    """Whether the order changes with time, by held-out images: after a trial, after the whole time, and after more."""

    def early(row: Row) -> float:
        return max(trial.get("psnr", -1.0) for trial in row["trials"])

    first, then = max(networks, key=early), max(networks, key=lambda row: row["held_out"])
    short = f"{TRIAL * minutes:g} min"
    if first is then:
        said = [f"On held-out images {called(then)} is the best after {short} already."]
    else:
        said = [f"The order changes with time: after {short} {called(first)} is the best on held-out images,"]
        said[0] += f" after {minutes:g} min {called(then)}."
    lasting = {longer["minutes"] for row in networks for longer in row["long"]}
    for length in sorted(lasting):
        found = [(longer["psnr"], row) for row in networks for longer in row["long"] if longer["minutes"] == length]
        found.sort(key=lambda pair: -pair[0])
        told = ", ".join(f"{called(row)} has {psnr:.2f} dB ({psnr - row['psnr']:+.2f})" for psnr, row in found)
        order = [row["method"] for _, row in found]
        before = [row["method"] for row in networks if row["method"] in order]
        same = "the order of these stays" if order == before else "the order of these changes"
        said.append(f"After {length:g} min of the best two {told}: {same}.")
    return said


def called(row: Row) -> str:
    """A network's name in a sentence."""
    return f"`{row['method']}`" if row["method"].isidentifier() else row["method"]


def listed(rows: Sequence[Row]) -> str:
    """Several names."""
    names = [called(row) for row in rows]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
