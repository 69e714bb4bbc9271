"""What is not of this field: files, devices, memory, recipes, arrays, torchvision."""

from unrolled.system.arrays import read_array
from unrolled.system.memory import keep_freed_memory
from unrolled.system.vision import import_torchvision

__all__ = ["import_torchvision", "keep_freed_memory", "read_array"]
