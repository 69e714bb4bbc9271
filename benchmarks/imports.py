"""How long `import unrolled` takes beside `import torch`: fresh processes in turns.

python -m benchmarks.imports --json docs/performance/imports.json
"""

import statistics
import subprocess
import sys
import time

from benchmarks import command


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
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
    command.write(options.json, {"seconds": medians, "ratio": ratio})


if __name__ == "__main__":
    main()
