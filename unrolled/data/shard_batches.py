"""Training crops from shards: read one after the other, shuffled, and yet a function of (seed, step, place)."""

import warnings
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from unrolled.data.batches import Batches, places
from unrolled.data.cropping import Cropping
from unrolled.data.crops import crop_sides
from unrolled.data.shard_files import ShardCache
from unrolled.data.shard_index import Shard, images_of, read_index
from unrolled.data.sources import ImageData, OnError, cut, open_images
from unrolled.data.stores import StoredImage, check_bright, to_float
from unrolled.system.scales import Scale, as_scale

WINDOW = 1000
"""Images among which order is shuffled, beside that of the shards."""

SPARE = 16
"""How many images are tried in one place of a batch before training is stopped."""

SPARE_SHARDS = 4
"""How many shards stay open that the present steps do not ask for."""


class ShardBatches(Batches):
    """Crops of the images of shards, each image once in an epoch.

    In every epoch the shards are put into a random order, and their images, one shard after the other, are cut into as
    many equal parts as a batch has places. Each place of the batch goes through its own part, in an order that is
    shuffled within windows of a thousand images. So a process that draws a few places reads few shards at a time, each
    of them once in an epoch and, but at the ends of its parts, none that others read. What a place holds in a step is a
    function of the seed, the step, the place and the batch size, however many processes there are and whatever was
    drawn before.

    Parameters
    ----------
    shards : list of Shard
    cache : ShardCache
        that brings them.
    cropping : Cropping
    seed : int
    color, scale
        as in `read_image`.
    on_error : "stop" or "skip"
        what is done about shards and images that cannot be read, and images smaller than the crop: "stop" raises;
        "skip" takes another image of the shard or, if all of it is lost, of the one that is read next, drawn by seed,
        step and place, and warns once of each shard.

    Raises
    ------
    ValueError
        in `batch`: naming the shard, if something cannot be read, or if there are more places in a batch than images.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        cache: ShardCache,
        cropping: Cropping,
        seed: int = 0,
        color: bool = False,
        scale: Scale | None = None,
        on_error: OnError = "stop",
    ):
        self.shards, self.cache, self.cropping, self.seed = list(shards), cache, cropping, seed
        self.color, self.scale, self.on_error = color, scale, on_error
        self.counts = np.array([shard.images for shard in self.shards], np.int64)
        self.open: OrderedDict[int, Sequence[StoredImage]] = OrderedDict()
        self.warned: set[int] = set()

    def __len__(self) -> int:
        return int(self.counts.sum())

    def batch(self, step: int, size: int, part: range | None = None) -> Tensor:
        own = places(size, part)
        if size > len(self):
            raise ValueError(f"shards: hold {len(self)} images, fewer than the batch of {size}")
        where = [self.locate(step, size, place) for place in own]
        ahead = [self.locate(step + WINDOW // 4, size, place)[0] for place in own]
        self._keep({shard for shard, _ in where} | set(ahead))
        return torch.stack([self._crop(*at, step, place, size) for at, place in zip(where, own, strict=True)])

    def locate(self, step: int, size: int, place: int) -> tuple[int, int]:
        """The shard that a place of a batch is drawn from, and the image in it, by their numbers."""
        each = len(self) // size  # of the images of an epoch, as many for every place
        epoch, at = divmod(step, each)
        window, within = divmod(at, WINDOW)
        random = np.random.default_rng((self.seed, epoch, place, window))
        order = random.permutation(min(WINDOW, each - window * WINDOW))
        shards, ends = self._epoch(epoch)
        position = place * each + window * WINDOW + int(order[within])
        found = int(ends.searchsorted(position, side="right"))
        return int(shards[found]), position - int(ends[found] - self.counts[shards[found]])

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of the shards in an epoch, and where each ends among all images."""
        if getattr(self, "_of_epoch", (None,))[0] != epoch:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.shards))
            self._of_epoch = epoch, order, self.counts[order].cumsum()
        return self._of_epoch[1:]

    def _keep(self, wanted: set[int]) -> None:
        """Ask for the shards of this step and of later ones; of others the most recent stay open."""
        for number in [number for number in self.open if number not in wanted][:-SPARE_SHARDS]:
            del self.open[number]
            self.cache.forget(self.shards[number].name)
        for number in wanted - set(self.open):
            shard = self.shards[number]
            self.cache.ask_for(shard.name, shard.bytes, shard.sha256)

    def _crop(self, number: int, index: int, step: int, place: int, size: int) -> Tensor:
        problem = ""
        for attempt in range(SPARE):
            random = np.random.default_rng((self.seed, step, place, *([attempt] if attempt else [])))
            if attempt:
                index = int(random.integers(self.shards[number].images))
            try:
                image = self._images(number)[index]
                self.cropping.check(image)
                return to_float(self.cropping.of(image, random))
            except ValueError as error:
                problem = f"shards: {self.shards[number].name}, image {index}: {error}"
                if self.on_error == "stop":
                    raise ValueError(f"{problem}; on_error: skip takes another in its place") from error
                if number not in self.warned:
                    self.warned.add(number)
                    warnings.warn(f"{problem}; others are taken in the place of what cannot be read", stacklevel=2)
            if number not in self.open:  # all of it is lost, so the one that is read next
                order, _ = self._epoch(step // (len(self) // size))
                number = int(order[(int(np.flatnonzero(order == number)[0]) + 1) % len(order)])
        raise ValueError(f"{problem}; {SPARE} that were tried in one place of a batch cannot be read")

    def _images(self, number: int) -> Sequence[StoredImage]:
        if number not in self.open:
            shard = self.shards[number]
            path = self.cache.path(shard.name, shard.bytes, shard.sha256)
            images = images_of(path, self.color, self.scale)
            if len(images) != shard.images:
                raise ValueError(f"has {len(images)} images, the index says {shard.images}")
            self.open[number] = images
        self.open.move_to_end(number)
        return self.open[number]


def sharded_data(
    data: ImageData, multiple: int = 1, seed: int = 0, size: tuple[int, int] | None = None
) -> tuple[ShardBatches, list[Tensor]]:
    """The batches of shards, and held-out images.

    Parameters
    ----------
    data : ImageData
        whose training images lie in shards, with a crop and a scale.
    multiple, seed, size
        as in `ImageData.load`.

    Raises
    ------
    ValueError
        if the index or the shard that is held out cannot be read, or there is but one.
    """
    (source,) = data.train
    shards, root = read_index(source), source.rpartition("/")[0] or "."
    cache = ShardCache(root, data.disk_mib)
    scale = as_scale("data", data.scale)
    if data.validation is not None:
        images: Sequence[StoredImage] = open_images(data.validation, "validation", data.key, scale=scale)
    else:
        *shards, held = shards
        if not shards:
            raise ValueError(f"data: {source} has one shard, and the last one is held out; give validation")
        last = images_of(cache.path(held.name, held.bytes, held.sha256), scale=scale)
        images = [last[index] for index in range(min(data.hold_out, len(last)))]
    check_bright(images, "validation")
    cropping = Cropping(crop_sides(data.crop, multiple, size), data.smallest, data.frame, data.augmentation)
    batches = ShardBatches(shards, cache, cropping, seed, scale=scale, on_error=data.on_error)
    return batches, cut((to_float(image.read()) for image in images), multiple, exactly=size)
