"""Data steps: towards images that explain the measurements, and the step of the dual variable."""

from unrolled.networks.data_steps.data_step import DataStep, WeightedStep
from unrolled.networks.data_steps.dual_step import DualStep
from unrolled.networks.data_steps.gradient_data_step import GradientStep, gradient
from unrolled.networks.data_steps.proximal_data_step import ProximalStep

__all__ = ["DataStep", "DualStep", "GradientStep", "ProximalStep", "WeightedStep", "gradient"]
