"""How long `import unrolled` takes beside `import torch`: fresh processes in turns.

python -m benchmarks.imports --json docs/performance/imports.json
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from unrolled.files import check_writable, replacing
from unrolled.training.environment import environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", default=None, help="write the figures to this file")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    if options.json is not None:
        check_writable(options.json)
    times: dict[str, list[float]] = {"torch": [], "unrolled": []}
    for _ in range(options.rounds):
        for module, seconds in times.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
            seconds.append(time.perf_counter() - began)
    medians = {module: statistics.median(seconds) for module, seconds in times.items()}
    ratio = medians["unrolled"] / medians["torch"]
    for module, seconds in medians.items():
        print(f"import {module:<10} {seconds:6.2f} s  {seconds / medians['torch']:5.2f}×")
    if options.json is not None:
        with replacing(options.json) as temporary:
            result = {"environment": environment(), "seconds": medians, "ratio": ratio}
            Path(temporary).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
