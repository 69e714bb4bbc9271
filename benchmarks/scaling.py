"""What a step of training asks for: the numbers behind docs/scaling.md.

    python -m benchmarks.scaling

Counted on this machine's CPU, whose forms of convolutions need a few operations more than a GPU's.
"""

import torch

from benchmarks.machine import Demand
from unrolled.networks import EPGN, ISTANetPlus
from unrolled.operators import BlockCompressedSensing

NETWORKS = {
    "EPGN, 6 phases": lambda: EPGN(6),
    "EPGN, 9 phases": lambda: EPGN(9),
    "ISTA-Net+, 9 phases": lambda: ISTANetPlus(9),
}


def main() -> None:
    operator = BlockCompressedSensing(ratio=0.25)
    print("| | parameters | all-reduced in a step | arithmetic a crop | bytes a crop, float32 | operations a step |")
    print("|---|---|---|---|---|---|")
    for name, make in NETWORKS.items():
        network = make().to(memory_format=torch.channels_last)
        x = torch.rand(1, 1, 66, 66)
        network.start(operator(x), operator)  # its estimator is made once
        with Demand() as demand:
            network.loss(x, operator(x), operator).backward()
        count = network.parameter_count
        print(
            f"| {name} | {count:,} | {4 * count / 1e6:.2f} MB | {demand.arithmetic / 1e9:.1f} GFLOP | "
            f"{demand.traffic / 1e9:.2f} GB | {len(demand.operations):,} |"
        )


if __name__ == "__main__":
    main()
