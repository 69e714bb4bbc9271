"""From measured data to the task that trains on it."""

from dataclasses import replace
from typing import Any

import torch

from unrolled.data import Prefetch
from unrolled.data.measured import MeasuredBatches, MeasuredSamples
from unrolled.data.measurement_files import MeasurementData
from unrolled.networks import UnrolledNetwork
from unrolled.operators import LinearOperator, LowResolution, SampledFourier
from unrolled.training.kspace_data import KSpaceData
from unrolled.training.losses import Loss
from unrolled.training.tasks.from_measurements import MeasuredTask

MeasuredData = KSpaceData | MeasurementData | MeasuredBatches
"""What training takes for measurements."""


def measured_task(
    network: UnrolledNetwork,
    operator: LinearOperator | None,
    data: MeasuredData,
    validation: Any = None,
    loss: Loss | None = None,
    seed: int = 0,
    device: torch.device | None = None,
) -> MeasuredTask:
    """The task of reconstruction from measurements.

    Parameters
    ----------
    network, operator
        as in `fit`; the operator of k-space is made of its masks and maps, and weights are saved with one of that kind.
    data : KSpaceData, MeasurementData or MeasuredBatches
    validation : MeasuredSamples, optional
        needed with batches of your own, otherwise taken from the data.
    loss : Loss, optional
    seed : int
        of batches, masks and what is held out.
    device : torch.device, optional

    Raises
    ------
    ValueError
        for data that cannot be read or do not fit the operator, or that need one and have none.
    """
    needs_truth = loss is None or loss.needs_truth
    if isinstance(data, MeasuredBatches):
        training, batches, sigma = data.samples, data, None
    else:
        if isinstance(data, KSpaceData) and data.maps is None and network.estimates_maps:
            data = replace(data, maps=LowResolution())  # they only scale k-space
        training, held_out = data.load(seed, needs_truth)
        validation = held_out if validation is None else validation
        batches, sigma = MeasuredBatches(training, seed), data.sigma
    if not isinstance(validation, MeasuredSamples) or not len(validation):
        raise ValueError("validation: must be MeasuredSamples, at least one, with measurements of your own")
    first = training.sample(0)
    if operator is None:
        if not isinstance(data, KSpaceData):
            raise ValueError("operator: is needed for these measurements; only k-space brings its own masks and maps")
        operator = data.operator_like(first)
    if first.mask is None:
        for samples in (training, validation):
            _check_shapes(operator, samples)
    elif not isinstance(operator, SampledFourier):
        raise ValueError(
            f"operator: must be a MaskedFourier or a MultiCoilFourier for k-space, got {type(operator).__name__}; "
            "leave it out, and one is made of the masks and maps"
        )
    if needs_truth and first.truth is None:
        name = "that of the network" if loss is None else type(loss).__name__
        raise ValueError(f"loss: {name} needs the true images, and these measurements come without")
    ahead = training.streams or (device is not None and device.type == "cuda")
    return MeasuredTask(network, operator, Prefetch(batches) if ahead else batches, validation, loss, device, sigma)


def _check_shapes(operator: LinearOperator, samples: MeasuredSamples) -> None:
    """Raise ValueError unless the operator takes the measurements, and makes them of such images."""
    seen = set()
    for index, kind in enumerate(samples.kinds):
        if kind in seen:
            continue
        seen.add(kind)
        sample = samples.sample(index)
        if sample.y.is_complex() != operator.complex_measurements:
            kinds = "complex" if operator.complex_measurements else "real"
            raise ValueError(f"measurements: must be {kinds} for {type(operator).__name__}, got {sample.y.dtype}")
        if sample.truth is not None and sample.truth.is_complex() and not operator.complex_images:
            raise ValueError(f"images: must be real for {type(operator).__name__}, got {sample.truth.dtype}")
        with torch.no_grad():
            shape = operator.adjoint(sample.y).shape if sample.truth is None else sample.truth.shape
        wanted = operator.measurement_shape(shape[1:])
        if tuple(sample.y.shape[1:]) != tuple(wanted):
            raise ValueError(
                f"measurements: sample {index} must be {tuple(wanted)}, as {type(operator).__name__} measures images "
                f"{tuple(shape[1:])} (channel, height, width), got {tuple(sample.y.shape[1:])}"
            )
