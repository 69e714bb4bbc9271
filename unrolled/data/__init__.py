"""Images in, tensors out."""

from unrolled.data.batches import Batches, DatasetBatches, Prefetch, RandomCrops
from unrolled.data.complex_phase import random_phase, with_fixed_phase, with_phase
from unrolled.data.digits import drawn_digits
from unrolled.data.embedded import embedded_images
from unrolled.data.hounsfield import attenuation_to_hu, hu_to_attenuation
from unrolled.data.images import list_images, read_image, read_images, to_uint8
from unrolled.data.labelled import LabelledBatches, LabelledImages, LabelledSplits
from unrolled.data.labelled_sources import LabelledData
from unrolled.data.prepare import prepare_images
from unrolled.data.sources import ImageData, open_images
from unrolled.data.stores import ImageStore

__all__ = [
    "Batches",
    "DatasetBatches",
    "ImageData",
    "ImageStore",
    "LabelledBatches",
    "LabelledData",
    "LabelledImages",
    "LabelledSplits",
    "Prefetch",
    "RandomCrops",
    "attenuation_to_hu",
    "drawn_digits",
    "embedded_images",
    "hu_to_attenuation",
    "list_images",
    "open_images",
    "prepare_images",
    "random_phase",
    "read_image",
    "read_images",
    "to_uint8",
    "with_fixed_phase",
    "with_phase",
]
