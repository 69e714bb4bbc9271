"""Data steps: towards images that explain the measurements."""

from unrolled.networks.data_steps.data_step import DataStep
from unrolled.networks.data_steps.gradient_data_step import GradientStep, gradient
from unrolled.networks.data_steps.proximal_data_step import ProximalStep

__all__ = ["DataStep", "GradientStep", "ProximalStep", "gradient"]
