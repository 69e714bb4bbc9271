"""Start-up, memory and speed of training data in shards, against their number of images.

    python -m benchmarks.shards --images 1000000

Shards of 10,000 small images are links to one file, so that a million of them need no disk. Memory is what the process
holds beyond what it does without data.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import command
from benchmarks.machine import peak_resident
from unrolled.data import prepare_images
from unrolled.data.augmentation import Augmentation
from unrolled.data.cropping import Cropping
from unrolled.data.shard_batches import ShardBatches
from unrolled.data.shard_files import ShardCache
from unrolled.data.shard_index import Shard, read_index, save_index

EACH, SIDE, BATCH, STEPS = 10_000, 16, 16, 100


def write(folder: Path, images: int) -> Path:
    """An index of so many small images."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)
    photos = folder / "photos"
    photos.mkdir()
    for number in range(EACH):
        Image.fromarray(pixels).save(photos / f"{number:05}.png", compress_level=0)
    prepare_images([photos], folder / "one.tar", progress=False)
    (one,) = read_index(folder / "one.json")
    shards = []
    for number in range(-(-images // EACH)):
        name = f"{number:06}.tar"
        (folder / name).hardlink_to(folder / one.name)
        shards.append(Shard(name, one.bytes, one.images, one.sha256))
    save_index(shards, folder / "set.json")
    return folder / "set.json"


def measure(index: Path) -> dict[str, float]:
    """Seconds to open the index and for the first batch, milliseconds a batch from then on, MiB held."""
    before, began = peak_resident(), time.perf_counter()
    shards = read_index(index)
    cropping = Cropping((SIDE, SIDE), augmentation=Augmentation())
    batches = ShardBatches(shards, ShardCache(str(index.parent), 0), cropping)
    opened = time.perf_counter()
    batches.batch(0, BATCH)
    first = time.perf_counter()
    for step in range(1, STEPS):
        batches.batch(step, BATCH)
    last = time.perf_counter()
    return {
        "images": len(batches),
        "open": opened - began,
        "first": first - opened,
        "batch": 1e3 * (last - first) / (STEPS - 1),
        "mib": (peak_resident() - before) / 2**20,
    }


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 100_000_000])
    options = parser.parse_args()
    print(f"{'images':>12} {'index, s':>9} {'first batch, s':>15} {'then, ms':>9} {'MiB':>6}")
    rows = []
    for images in options.images:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(write(Path(folder), images))
        rows.append(row)
        print(f"{row['images']:12,} {row['open']:9.2f} {row['first']:15.2f} {row['batch']:9.1f} {row['mib']:6.1f}")
    command.write(options.json, {"rows": rows})


if __name__ == "__main__":
    main()
