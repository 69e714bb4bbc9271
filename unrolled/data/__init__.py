"""Images in, tensors out."""

from unrolled.data.batches import Batches, DatasetBatches, RandomCrops
from unrolled.data.embedded import embedded_images
from unrolled.data.images import list_images, read_image, read_images, to_uint8
from unrolled.data.sources import ImageData

__all__ = [
    "Batches",
    "DatasetBatches",
    "ImageData",
    "RandomCrops",
    "embedded_images",
    "list_images",
    "read_image",
    "read_images",
    "to_uint8",
]
