"""What `unrolled reconstruct` does with many images: the processes share the files, and a table tells of all."""

import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from unrolled.cli.failures import REFUSED
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator, OperatorDraw
from unrolled.reconstruction.jobs import Job, check_targets, work
from unrolled.reconstruction.result_table import (
    FAILED,
    THERE,
    WRITTEN,
    Row,
    check_table,
    means,
    rows_before,
    write_table,
)
from unrolled.training import distributed
from unrolled.training.runs.signals import stop_between_steps

LISTED = 20
"""Failures that are printed, at most; a table has them all."""

PATIENCE = timedelta(days=30)
"""How long processes wait for the one that has most to do. One that dies is noticed by torchrun."""


def run_jobs(
    plan: Callable[[], list[Job]],
    out: Path,
    network: UnrolledNetwork,
    operator: LinearOperator | OperatorDraw,
    *,
    skip: bool,
    overwrite: bool,
    figures: str | None,
    peak: str,
    **how: Any,
) -> int:
    """Do jobs, divided among the processes that torchrun started, and say what became of them.

    Returns the exit status: that of a refusal if something failed, of a signal if one stopped the work.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    table = None if figures is None else Path(figures)
    with distributed.joined(next(network.parameters()).device, PATIENCE):
        jobs = plan()
        if table is not None:
            check_table(table)
        todo = distributed.on_first(lambda: check_targets(jobs, out, skip, overwrite))
        own = [jobs[number] for number in todo[distributed.rank() :: distributed.size()]]
        left = [(job.name, job.target) for number, job in enumerate(jobs) if number not in {*todo}]
        rows, signal = list[Row](), 0
        try:
            with stop_between_steps(patient=several) as stopped:
                work(own, rows, network, operator, stopped=stopped, progress=distributed.rank() == 0, **how)
                signal = stopped()
        except BaseException:  # of a full disk, or of a second Ctrl-C: what was done is noted
            if table is not None and rows and not several:
                write_table(table, [*rows_before(left, table), *rows], peak)
            raise
        shares = distributed.in_shards(lambda _: (rows, signal), range(distributed.size()))
        if distributed.rank() == 0:
            rows = [*rows_before(left, table), *(row for share, _ in shares for row in share)]
            if table is not None:
                write_table(table, rows, peak)
            _report(rows, out, peak)
    if stops := [number for _, number in shares if number]:
        if distributed.rank() == 0:
            print("stopped; go on with --skip-existing", file=sys.stderr)
        return 128 + stops[0]
    failed = any(row["status"] == FAILED for share, _ in shares for row in share)
    return REFUSED if failed else 0


def _report(rows: Sequence[Row], out: Path, peak: str) -> None:
    """Print what was done and what failed."""
    failures = [row for row in rows if row["status"] == FAILED]
    for row in failures[:LISTED]:
        print(f"failed: {row['name']}: {row['error']}", file=sys.stderr)
    if len(failures) > LISTED:
        print(f"failed: {len(failures) - LISTED} more; --figures FILE lists them all", file=sys.stderr)
    found = means(rows)
    if found:
        print(f"mean PSNR {found['psnr']:.2f} dB, SSIM {found['ssim']:.4f}; the peak is {peak}")
    counts = [(status, sum(row["status"] == status for row in rows)) for status in (WRITTEN, THERE, FAILED)]
    said = ", ".join(f"{count} {status}" for status, count in counts if count) or "none was begun"
    print(f"images: {said}; in {out}")
