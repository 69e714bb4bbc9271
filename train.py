"""Train from a checkout: python train.py --config configs/cs/epgn_25.yaml"""

import sys

from unrolled.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
