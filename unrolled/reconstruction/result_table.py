"""The table of what became of many images: a row for each, as CSV or JSON."""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from unrolled.reconstruction.many import Reconstruction
from unrolled.system.files import check_writable, replacing, write_json

TABLES = (".csv", ".json")

WRITTEN, THERE, FAILED = "written", "there before", "failed"
"""What became of an image."""

COLUMNS = ("name", "file", "status", "psnr", "ssim", "seconds", "error")

Row = dict[str, Any]


def row_of(found: Reconstruction, file: Path, status: str) -> Row:
    """The row of an image, and of the file that it is written to."""
    return {
        "name": found.name,
        "file": str(file),
        "status": status,
        "psnr": found.psnr,
        "ssim": found.ssim,
        "seconds": round(found.seconds, 4),
        "error": found.error,
    }


def rows_before(left: Iterable[tuple[str, Path]], table: Path | None) -> list[Row]:
    """Rows of files that were there before: those of an earlier table if it has them.

    Parameters
    ----------
    left : pairs of a name and the file
    table : Path, optional
    """
    earlier: dict[str, list[Row]] = {}
    if table is not None and table.is_file():
        with suppress(Exception):  # of a file of anything
            text = table.read_text(encoding="utf-8")
            found = json.loads(text)["images"] if is_json(table) else csv.DictReader(io.StringIO(text))
            for row in found:
                if set(row) == {*COLUMNS} and row["status"] in (WRITTEN, THERE):
                    figures = {name: float(row[name]) if row[name] else None for name in ("psnr", "ssim", "seconds")}
                    earlier.setdefault(row["file"], []).append({**row, **figures, "status": THERE})
    rows = list[Row]()
    for name, file in left:
        rows += earlier.get(str(file), [row_of(Reconstruction(name), file, THERE)])
    return rows


def check_table(table: Path) -> None:
    """Raise ValueError unless a file can be written and ends like a table."""
    if table.suffix.lower() not in TABLES:
        raise ValueError(f"figures: {table} must end in one of {', '.join(TABLES)}")
    check_writable(table)


def is_json(table: Path) -> bool:
    return table.suffix.lower() == ".json"


def means(rows: Sequence[Row]) -> dict[str, float]:
    """The means of PSNR and SSIM over the images that have them; of equal images PSNR is infinite, and left out."""
    found = {}
    for name in ("psnr", "ssim"):
        values = [row[name] for row in rows if row[name] is not None and math.isfinite(row[name])]
        if values:
            found[name] = sum(values) / len(values)
    return found


def write_table(table: Path, rows: Sequence[Row], peak: str) -> None:
    """Write the figures of images, as CSV or JSON by the ending."""
    if is_json(table):
        write_json(table, {**means(rows), "peak": peak, "images": rows})
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(table) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace")
