"""Training: the loop, and what is trained."""

from unrolled.training.classification import ClassificationTask
from unrolled.training.fit import fit
from unrolled.training.loop import Loop, TrainingError
from unrolled.training.options import TrainingOptions
from unrolled.training.reconstruction import ReconstructionTask
from unrolled.training.run import train
from unrolled.training.task import Task

__all__ = [
    "ClassificationTask",
    "Loop",
    "ReconstructionTask",
    "Task",
    "TrainingError",
    "TrainingOptions",
    "fit",
    "train",
]
