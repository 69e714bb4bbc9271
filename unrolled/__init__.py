"""Learned, unrolled optimisation for inverse problems, and the sparsity penalties behind it.

network, operator = unrolled.load("epgn-cs25")
image = unrolled.reconstruct("photo.jpg", network, operator)
unrolled.fit(network, operator, "folder of images")
"""

from unrolled.evaluate import evaluate
from unrolled.reconstruct import reconstruct
from unrolled.shrinkage import Shrinkage, ShrinkageMixture
from unrolled.training import TrainingOptions, fit
from unrolled.weights import load, save

__all__ = ["Shrinkage", "ShrinkageMixture", "TrainingOptions", "evaluate", "fit", "load", "reconstruct", "save"]
