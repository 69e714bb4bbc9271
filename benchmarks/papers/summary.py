"""The table of README: a line for each paper, of the figures of docs/papers.md."""

from statistics import mean

from benchmarks.papers import binary, cifar, circle, duality, groups, mnist
from benchmarks.papers.measured import read
from benchmarks.papers.templates import signed


def summary() -> str:
    """The table."""
    lines = ["| what | here | published, or asked for |", "|---|---|---|"]
    rows = [_theory(), *_duality(), *_mnist(), *_groups(), _binary(), _cifar(), *_circle()]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _theory() -> tuple[str, str, str]:
    worst = max(row["residual"] for row in read("theory")["fixed_points"])
    return "variable splitting, one hidden layer: residual of its fixed points", f"{worst:.0e}", "1e-9"


def _duality() -> list[tuple[str, str, str]]:
    found = read("duality")
    published = {row["name"]: row for row in found["published"]}
    lines = []
    for name in ("LogSum", "AdaTikhonov", "AdaProx"):
        error, left = duality.tested(found["runs"], name), duality.nonzeros(found["runs"], name)
        other = published[name]
        lines.append(
            (
                f"LeNet-300-100, the penalty as {duality.shown(name)}, {len(error)} seeds: error, nonzeros",
                f"{error.mean():.2f} %, {left.mean():.3f}",
                f"{other['error']:.2f} %, {other['nonzero']:.3f} (LeJeune et al., 2021; more steps)",
            )
        )
    return lines


def _mnist() -> list[tuple[str, str, str]]:
    lines = []
    for network, (_, compression), name in zip(mnist.NETWORKS, mnist.GOALS, mnist.FILES, strict=True):
        found = read(name)
        rows = mnist.summaries(found["runs"])
        for shifted in (True, False):
            if (best := mnist.chosen(rows, compression, shifted)) is not None:
                other = found["published"][-1]
                lines.append(
                    (
                        f"{network}, best{' (images shifted by a pixel)' if shifted else ', images as they are'}: "
                        "error, compression",
                        f"{best['error']:.2f} %, {best['compression']:.0f}×",
                        f"{other['error']:.2f} %, {other['compression']:g}× ({other['name']})",
                    )
                )
    return lines


def _groups() -> list[tuple[str, str, str]]:
    found = groups.methods(read("groups"), read("compacted"))
    nonconvex = {name: row for name, row in found.items() if name in groups.ELEMENTWISE}
    lines = []
    for chosen in dict.fromkeys((groups.best(nonconvex), groups.best(found))):
        assert chosen is not None
        row = found[chosen]
        lines.append(
            (
                f"LeNet-5 with few filters ({groups.LABELS[chosen]}{', sparse groups' * (chosen in nonconvex)}; images "
                "shifted): error, operations",
                f"{mean(row['test']):.2f} %, {row['operations'][0] / 1000:.0f}K",
                f"{groups.GOAL[0]:.1f} %, {groups.GOAL[1] / 1000:.0f}K (BC-GHS)",
            )
        )
    return lines


def _binary() -> tuple[str, str, str]:
    found = binary.grouped(read("binary"))
    sparse = found["clipped-relu-TL1"]
    with_tl1, dense, relu = (
        f"{mean(row['test']['error'] for row in found[name]):.2f} %"
        for name in ("clipped-relu-TL1", "clipped-relu", "relu")
    )
    return (
        f"LeNet-5 with step functions, {mean(row['sparsity'] for row in sparse):.0%} zeros: error (dense; with ReLU)",
        f"{with_tl1} ({dense}; {relu})",
        "–",
    )


def _cifar() -> tuple[str, str, str]:
    figures = read("cifar")
    runs, sparse = cifar.by_name(figures), cifar.sparse_runs(figures)
    best = max((name for name in sparse if 90 in sparse[name]), key=lambda name: cifar.accuracy(sparse[name][90]))
    return (
        f"ResNet-20, JPEG copy of CIFAR-10, short training, 90 % zeros ({cifar.TITLES[best]}): accuracy (dense)",
        f"{cifar.accuracy(sparse[best][90]):.2f} % ({cifar.accuracy(runs['control']):.2f} %)",
        "–",
    )


def _circle() -> list[tuple[str, str, str]]:
    figures, times = read("circle"), read("circle-times")
    reference = times["shipped"]["epgn-cs25"]["validation"]["psnr"]
    single = [row for row in figures["runs"] if circle.is_single(row) and row["sparsity"] >= circle.HALF]
    best = max(single, key=circle.psnr_of)
    small = times["shipped"]["epgn-cs25-small"]["validation"]["psnr"]
    ratios = [speed["epgn-cs25-small"] for speed in circle.speedups(times).values()]
    return [
        (
            f"`epgn-cs25` with {best['sparsity']:.0%} zeros: PSNR on held-out images",
            f"{signed(circle.psnr_of(best) - reference)} dB",
            f"−{circle.WITHIN} dB",
        ),
        (
            f"`epgn-cs25-small`: PSNR on held-out images, speed on {times['environment']['threads']} core of a CPU",
            f"{signed(small - reference)} dB, {min(ratios):.2f}× to {max(ratios):.2f}×",
            f"−{circle.WITHIN_SMALL} dB, {circle.FASTER}×",
        ),
    ]
