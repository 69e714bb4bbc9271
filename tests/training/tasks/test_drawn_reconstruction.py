"""Training with operators that are drawn anew: what each image is measured by, and that runs can be repeated."""

import pytest
import torch

import unrolled
from tests.training.small_runs import HELD_OUT, IMAGES, assert_same_end, crash_and_resume, fit, options
from unrolled.cli import main
from unrolled.data import RandomCrops
from unrolled.networks import EPGN
from unrolled.operators import (
    BlockCompressedSensing,
    CartesianMask,
    Coils,
    Downsampling,
    DrawnOperator,
    Inpainting,
    MultiCoilFourier,
    OneOfOperators,
    VaryingGaussianNoise,
)
from unrolled.training import DrawnReconstructionTask
from unrolled.training.tasks.drawn_reconstruction import part_for
from unrolled.weights.card import read_card

MASKS = DrawnOperator(Inpainting(keep=0.5, height=8, width=8), {"keep": [0.2, 0.8], "seed": "anew"})
BLOCKS = DrawnOperator(BlockCompressedSensing(ratio=0.25, block=11), {"ratio": [0.1, 0.5]})


def told(**more):
    torch.manual_seed(0)
    return EPGN(1, 4, ratio_range=(0.05, 1.0), **more)


def task(draw=MASKS, network=None, **more):
    held_out = [image[:, :33, :44] for image in HELD_OUT] * 2
    return DrawnReconstructionTask(network or told(), draw, RandomCrops(IMAGES, 22, 5), held_out, **more)


@pytest.mark.parametrize("draw", [MASKS, BLOCKS, OneOfOperators([MASKS, BLOCKS])])
def test_each_image_is_measured_by_the_operator_of_its_group(draw):
    made = task(draw, seed=5, images_per_operator=2)
    batch = made.batch(3, 5)
    drawn = [draw.in_training(5, 3, group, (22, 22)) for group in range(3)]
    expected = [drawn[place // 2](batch.images[place : place + 1]) for place in range(5)]
    found = [group.operator(batch.images[group.images]) for group in batch.groups]
    for one, other in zip((y for part in found for y in part), expected, strict=True):
        torch.testing.assert_close(one[None], other)
    assert len(batch.groups) == (1 if draw is MASKS else 3)


@pytest.mark.parametrize("draw", [MASKS, BLOCKS])
def test_the_loss_is_the_mean_over_images_each_by_its_own_operator(draw):
    made = task(draw, images_per_operator=2)
    made.model.double()
    batch = made.batch(3, 5)
    batch = batch._replace(
        images=batch.images.double(), groups=[each._replace(operator=each.operator.double()) for each in batch.groups]
    )
    loss = made.loss(made.model, batch, 3)
    errors = []
    for place, x in enumerate(batch.images):
        operator = draw.in_training(0, 3, place // 2, (22, 22)).double()
        errors.append((made.model.network(operator(x[None]), operator) - x).square().mean())
    torch.testing.assert_close(loss, torch.stack(errors).mean())


def test_kinds_with_multiples_of_their_own_measure_the_largest_part_of_an_image():
    draw = OneOfOperators([BLOCKS, Downsampling(4), MASKS])
    held_out = [image[:, :33, :44] for image in HELD_OUT] * 2
    made = DrawnReconstructionTask(told(), draw, RandomCrops(IMAGES, 26, 5), held_out, images_per_operator=1)
    largest = {
        BlockCompressedSensing: ((22, 22), (33, 44)),
        Downsampling: ((24, 24), (32, 44)),
        Inpainting: ((26, 26), (33, 44)),
    }
    assert made.draw.smallest == 11
    seen = set()
    for step in range(4):
        batch = made.batch(step, 4)
        for group in batch.groups:
            part = part_for(group.operator, batch.images[group.images])
            assert tuple(part.shape[-2:]) == largest[type(group.operator)][0]
            assert torch.equal(part, batch.images[group.images][..., : part.shape[-2], : part.shape[-1]])
            seen.add(type(group.operator))
        assert made.loss(made.model, batch, step) > 0
    assert seen == set(largest)
    for index, image in enumerate(made.validation):
        operator = made.validated_by(index)
        assert tuple(image.shape[-2:]) == largest[type(operator)][1]
        operator(image)
    with pytest.raises(
        ValueError, match=r"crop: must be at least 11 pixels for these operators, got images of 10 × 10"
    ):
        DrawnReconstructionTask(told(), draw, RandomCrops(IMAGES, 10, 5), held_out)
    with pytest.raises(ValueError, match="measures images of at least 11 × 11 pixels, got 10 × 40"):
        OneOfOperators([BLOCKS]).in_training(0, 0, 0, (10, 40))


def test_parts_of_a_batch_have_the_operators_of_the_whole():
    made = task(BLOCKS, images_per_operator=2)
    whole, part = made.batch(3, 6), made.batch(3, 6, range(3, 6))
    assert torch.equal(part.images, whole.images[3:])
    matrices = [group.operator.matrix for group in part.groups]
    assert [group.images for group in part.groups] == [slice(0, 1), slice(1, 3)]
    assert all(torch.equal(a, b.operator.matrix) for a, b in zip(matrices, whole.groups[1:], strict=True))


def test_noise_levels_go_with_their_images():
    network, noise = told(noise_range=(0.01, 0.5)), VaryingGaussianNoise(0.02, 0.3)
    made = task(BLOCKS, network, noise=noise, seed=5, images_per_operator=2)
    batch = made.batch(3, 4)
    assert torch.equal(batch.level, noise.levels(5, 3, range(4)))
    made.loss(made.model, batch, 3).backward()
    assert made.validate(made.model) == made.validate(made.model)


def test_complex_images_are_measured_too():
    coils = MultiCoilFourier(Coils(2), CartesianMask(acceleration=2), 8, 8)
    draw = DrawnOperator(coils, {"mask.acceleration": [1.5, 3], "mask.seed": "anew"})
    made = task(draw, told(complex_images=True), images_per_operator=1)
    batch = made.batch(0, 3)
    assert len(batch.groups) == 1
    torch.manual_seed(0)
    made.loss(made.model, batch, 0).backward()
    assert made.validate(made.model)["psnr"] > 0


def test_a_run_that_crashes_goes_on_to_the_same_end(tmp_path, monkeypatch):
    draw = OneOfOperators([MASKS, BLOCKS])

    def run(folder="run", resume=False):
        how = {"operator": draw, "training": options(batch=4), "images_per_operator": 2, "resume": resume}
        fit(tmp_path / folder, network=told(), **how)

    run("straight")
    crash_and_resume(run, monkeypatch)
    assert_same_end(tmp_path / "straight", tmp_path / "run")
    network, operator = unrolled.load(tmp_path / "run" / "best.safetensors")
    assert isinstance(operator, Inpainting)
    assert network.ratio_range == (0.05, 1.0)
    other = DrawnOperator(MASKS.operator, {"keep": [0.3, 0.8]})
    with pytest.raises(ValueError, match="operators"):
        fit(tmp_path / "run", network=told(), operator=other, training=options(batch=4), resume=True)


def test_it_is_trained_from_a_config(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(
        """
network: {class_path: EPGN, init_args: {phases: 1, features: 2, ratio_range: [0.1, 0.5]}}
operator:
  class_path: DrawnOperator
  init_args:
    operator: {class_path: BlockCompressedSensing, init_args: {ratio: 0.25, block: 11}}
    ranges: {ratio: [0.1, 0.5]}
data: {train: [embedded], crop: 22}
images_per_operator: 1
training: {steps: 2, batch: 2, validations: 1}
"""
    )
    argv = ["train", "--config", str(config), "--folder", str(tmp_path / "run")]
    assert main(argv) == 0, capsys.readouterr().err
    card = read_card(tmp_path / "run" / "best.safetensors")
    assert "DrawnOperator" in card["config"]
    assert main([*argv[:3], "--operator.ranges", "{ratio: [0.1, 5]}", "--folder", str(tmp_path / "bad")]) == 1
    assert "ratio must be in (0, 1], got 5" in capsys.readouterr().err


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="images_per_operator: is for operators that are drawn, got 2"):
        fit(tmp_path, images_per_operator=2)
    with pytest.raises(ValueError, match="images_per_operator: must be a whole number >= 1, got 0"):
        task(images_per_operator=0)
