"""Training with operators on complex images, with noise, and with operators whose norm is not 1."""

import json

import pytest
import torch

import unrolled
from tests.helpers import picture
from tests.pairs import FULL, in_turn
from tests.training.small_runs import IMAGES, GradientDescent, fit, options
from unrolled.data import RandomCrops, with_fixed_phase
from unrolled.metrics import psnr, ssim
from unrolled.networks import EPGN, ISTANetPlus
from unrolled.operators import BlockCompressedSensing, Coils, MaskedFourier, MultiCoilFourier, RadialMask
from unrolled.training import ReconstructionTask
from unrolled.training.tasks.reconstruction import Reconstructor

HELD_OUT = [picture(22, 22, 9), picture(22, 22, 10)]


def coils():
    return MultiCoilFourier(Coils(3), RadialMask(0.4), 22, 22)


def complex_network(cls=EPGN):
    torch.manual_seed(0)
    return cls(1, 4, complex_images=True)


@pytest.mark.parametrize(("cls", "bfloat16"), in_turn([EPGN, ISTANetPlus], [False, True], 1, FULL))
def test_training_on_complex_images_learns(cls, bfloat16, tmp_path):
    training = options(steps=40, learning_rate=5e-3, average=0.9, bfloat16=bfloat16)
    network, operator, figures = fit(
        tmp_path / "run", network=complex_network(cls), operator=coils(), training=training, validation=HELD_OUT
    )
    assert figures["psnr"] > figures["start_psnr"] + 0.5
    # Validation: images with the phase of their number, compared by their magnitude.
    found = []
    for index, image in enumerate(HELD_OUT):
        y = operator(with_fixed_phase(image, index).unsqueeze(0))
        with torch.no_grad():
            found.append(psnr(network(y, operator).abs(), image.unsqueeze(0)).item())
    assert figures["psnr"] == pytest.approx(sum(found) / 2, abs=1e-3)
    again = unrolled.load(tmp_path / "run" / "best.safetensors")
    result = unrolled.evaluate(again[0], {"a": HELD_OUT[0], "b": HELD_OUT[1]}, again[1])
    assert result["psnr"] == pytest.approx(figures["psnr"], abs=1e-3)


def test_a_run_is_a_function_of_its_seed_and_of_nothing_before(tmp_path):
    weights = []
    for run, (seed, before) in enumerate(((0, 1), (0, 2), (1, 1))):
        network = complex_network()
        torch.manual_seed(before)
        fit(tmp_path / str(run), network=network, operator=coils(), validation=HELD_OUT, seed=seed, noise=add_noise)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_images_of_a_step_have_random_phases_and_own_losses_see_them(tmp_path):
    seen = []

    def loss(image, truth):
        seen.append(truth)
        return (image - truth).abs().mean()

    fit(tmp_path / "run", network=complex_network(), operator=coils(), validation=HELD_OUT, loss=loss)
    assert {truth.dtype for truth in seen} == {torch.complex64}
    assert max(float(truth.abs().max()) for truth in seen) <= 1 + 1e-6
    angles = {round(float(truth[0, 0, 11, 11].angle()), 4) for truth in seen}
    assert len(angles) == 12


@pytest.mark.full
@pytest.mark.usefixtures("fresh_compiler")
def test_the_loss_of_the_task_compiles_to_one_graph():
    network = GradientDescent(complex_images=True)  # for those of the library see the laws of networks
    task = ReconstructionTask(network, coils(), RandomCrops(IMAGES, 22, 0), HELD_OUT, noise=add_noise)
    batch = task.batch(0, 2)
    compiled = torch.compile(lambda batch: task.loss(task.model, batch, 0), fullgraph=True, backend="aot_eager")
    torch.manual_seed(0)
    expected = task.loss(task.model, batch, 0)
    torch.manual_seed(0)
    torch.testing.assert_close(compiled(batch), expected)


def add_noise(y):
    return y + 0.1 * torch.randn_like(y)


def test_noise_is_added_in_training_and_the_same_in_every_validation():
    torch.manual_seed(0)
    operator = BlockCompressedSensing(ratio=0.25, block=11)
    network, batches = EPGN(1, 4), RandomCrops(IMAGES, 22, 0)
    quiet, noisy = (ReconstructionTask(network, operator, batches, HELD_OUT, noise=how) for how in (None, add_noise))
    before = torch.get_rng_state()
    figures = noisy.validate(noisy.model)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert noisy.validate(noisy.model) == figures
    assert figures["start_psnr"] < quiet.validate(quiet.model)["start_psnr"] - 1
    batch = noisy.batch(0, 2)
    torch.manual_seed(0)
    loss = noisy.loss(noisy.model, batch, 0)
    torch.manual_seed(0)
    y = add_noise(operator(batch))
    torch.testing.assert_close(loss, (network(y, operator) - batch).square().mean())
    torch.manual_seed(0)
    torch.testing.assert_close(noisy.model(batch), network(y, operator))
    assert Reconstructor(network, operator)(batch).shape == batch.shape


def test_a_run_goes_on_with_its_own_noise_only(tmp_path):
    fit(tmp_path / "run", noise=add_noise)
    fit(tmp_path / "run", noise=add_noise, resume=True)
    with pytest.raises(ValueError, match=r"noise must be that of the run in .*, add_noise, got None"):
        fit(tmp_path / "run", resume=True)


def test_a_network_of_the_other_kind_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="EPGN: made for real images, and MultiCoilFourier measures complex ones"):
        fit(tmp_path / "run", operator=coils(), validation=HELD_OUT)
    assert not list(tmp_path.glob("run/*.pt"))


def test_evaluation_of_complex_images_follows_its_steps():
    network, operator = complex_network().eval(), MaskedFourier(RadialMask(0.4), 22, 22, complex_images=True)
    given = with_fixed_phase(HELD_OUT[1], 77)
    result = unrolled.evaluate(network, {"magnitude": HELD_OUT[0], "complex": given}, operator)
    for row, x in zip(result["images"], (with_fixed_phase(HELD_OUT[0], 0), given), strict=True):
        y = operator(x.unsqueeze(0))
        image, truth = unrolled.reconstruct(None, network, operator, y=y), x.abs().unsqueeze(0)
        assert row["psnr"] == pytest.approx(float(psnr(image, truth)), abs=1e-4)
        assert row["ssim"] == pytest.approx(float(ssim(image, truth)), abs=1e-4)
        assert row["start_psnr"] == pytest.approx(float(psnr(operator.adjoint(y).abs(), truth)), abs=1e-4)
    assert json.dumps(result)
