"""Training: the loop, and what is trained."""

from unrolled.training.fitting import fit
from unrolled.training.loop import Loop, TrainingError
from unrolled.training.options import TrainingOptions
from unrolled.training.run import train
from unrolled.training.tasks.classification import ClassificationTask
from unrolled.training.tasks.reconstruction import ReconstructionTask
from unrolled.training.tasks.task import Task

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
