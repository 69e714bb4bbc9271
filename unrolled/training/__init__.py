"""Training: the loop, and what is trained."""

from unrolled.data.measurement_files import MeasurementData
from unrolled.training.fitting import fit
from unrolled.training.kspace_data import KSpaceData
from unrolled.training.loop import Loop
from unrolled.training.options import TrainingOptions
from unrolled.training.runs.run_folder import TrainingError
from unrolled.training.tasks.classification import ClassificationTask
from unrolled.training.tasks.drawn_reconstruction import DrawnReconstructionTask
from unrolled.training.tasks.from_measurements import MeasuredTask
from unrolled.training.tasks.reconstruction import ReconstructionTask
from unrolled.training.tasks.task import Task
from unrolled.training.train_task import train

__all__ = [
    "ClassificationTask",
    "DrawnReconstructionTask",
    "KSpaceData",
    "Loop",
    "MeasuredTask",
    "MeasurementData",
    "ReconstructionTask",
    "Task",
    "TrainingError",
    "TrainingOptions",
    "fit",
    "train",
]
