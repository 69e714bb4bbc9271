"""Learned, unrolled optimisation for inverse problems, and the sparsity penalties behind it.

network, operator = unrolled.load("epgn-cs25")
image = unrolled.reconstruct("photo.jpg", network, operator)
unrolled.fit(network, operator, "folder of images")
"""

from unrolled.networks.shrinkage import Shrinkage, ShrinkageMixture
from unrolled.programs.exporting import export
from unrolled.reconstruction.evaluation import evaluate
from unrolled.reconstruction.many import reconstruct_all
from unrolled.reconstruction.pipeline import reconstruct
from unrolled.system import earlier_paths
from unrolled.training import TrainingOptions, fit
from unrolled.training.adaptation import adapt
from unrolled.weights.networks import load, save

__all__ = [
    "Shrinkage",
    "ShrinkageMixture",
    "TrainingOptions",
    "adapt",
    "evaluate",
    "export",
    "fit",
    "load",
    "reconstruct",
    "reconstruct_all",
    "save",
]

earlier_paths.install()
