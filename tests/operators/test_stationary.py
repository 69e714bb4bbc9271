import copy

import pytest
import torch

from tests.helpers import picture
from unrolled.data import embedded_images
from unrolled.metrics import psnr
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing, Identity, Stack, as_operator, stationary
from unrolled.operators.stationary import autocorrelation, linear_estimator
from unrolled.training import TrainingOptions, fit


def test_autocorrelation_is_the_mean_of_products():
    images = [picture(7, 9, 0), picture(40, 50, 1)]
    r = autocorrelation(images)
    for down, right in [(0, 0), (3, 0), (2, -5), (6, 8), (-1, 4), (-32, 20)]:
        total, pairs = 0.0, 0
        for image in images:
            x = image[0].double()
            height, width = x.shape
            if abs(down) >= height or abs(right) >= width:
                continue
            a = x[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
            b = x[max(0, down) : height - max(0, -down), max(0, right) : width - max(0, -right)]
            total, pairs = total + float((a * b).sum()), pairs + a.numel()
        assert r[32 + down, 32 + right].item() == pytest.approx(total / pairs, rel=1e-9)
    torch.testing.assert_close(r, r.flip(0, 1))


def test_lags_beyond_all_images_are_those_of_the_largest_image():
    r = autocorrelation([picture(7, 9)])
    assert torch.isfinite(r).all()
    assert r[32, 32 + 20] == r[32, 32 + 8]


def test_the_estimator_is_the_best_linear_one_for_its_correlation():
    # Blocks drawn with a known second moment: a regression on many samples must come to the same matrix.
    torch.manual_seed(0)
    block, m = 4, 5
    lag = torch.arange(65) - 32
    r = 0.25 + 0.06 * torch.exp(-(lag[:, None].abs() + lag[None].abs()) / 6.0).double()
    index = torch.arange(block)
    rows, columns = (grid.flatten() for grid in torch.meshgrid(index, index, indexing="ij"))
    c = r[rows[:, None] - rows[None] + 32, columns[:, None] - columns[None] + 32]
    samples = torch.linalg.cholesky(c) @ torch.randn(16, 400_000, dtype=torch.float64)
    phi = BlockCompressedSensing(measurements=m, block=block).double().matrix
    y = phi @ samples
    regression = samples @ y.T @ torch.linalg.inv(y @ y.T)
    torch.testing.assert_close(linear_estimator(phi, r, block), regression, atol=0.01, rtol=0)


def test_the_estimate_agrees_with_the_measurements():
    operator, x = BlockCompressedSensing(ratio=0.25), picture(33, 66).unsqueeze(0)
    y = operator(x)
    torch.testing.assert_close(operator(operator.estimate(y)), y, atol=1e-4, rtol=0)


def test_the_estimate_of_large_blocks_is_the_adjoint():
    operator = BlockCompressedSensing(measurements=5, block=34)
    y = operator(picture(34, 34).unsqueeze(0))
    assert torch.equal(operator.estimate(y), operator.adjoint(y))


def test_a_changed_matrix_or_correlation_is_noticed():
    operator, x = BlockCompressedSensing(ratio=0.25, block=11), picture(22, 22).unsqueeze(0)
    first = operator.estimate(operator(x))
    operator.fit_images([picture(40, 40, 5)])
    second = operator.estimate(operator(x))
    assert not torch.equal(first, second)
    operator.matrix.copy_(BlockCompressedSensing(ratio=0.25, block=11, seed=9).matrix)
    third = operator.estimate(operator(x))
    torch.testing.assert_close(operator(third), operator(x), atol=1e-4, rtol=0)


def test_correlation_of_the_image_beats_the_guess_which_beats_the_adjoint_by_far():
    operator, fitted = BlockCompressedSensing(ratio=0.25), BlockCompressedSensing(ratio=0.25)
    x = embedded_images("test")["camera"][:, :330, :330].unsqueeze(0)
    fitted.fit_images(list(x))
    y = operator(x)
    own, guess, adjoint = (psnr(image, x) for image in (fitted.estimate(y), operator.estimate(y), operator.H(y)))
    assert own > guess > adjoint + 10


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        BlockCompressedSensing(ratio=0.25).fit_images([])


def test_operators_made_of_others_fit_those_that_see_images():
    blocks = BlockCompressedSensing(ratio=0.5, block=2)
    mirror = as_operator((lambda x: x.flip(-1), lambda y: y.flip(-1)), (1, 4, 4))
    images = [picture(40, 40)]
    (blocks @ mirror).fit_images(images)  # what the blocks measure there is no image
    assert (blocks @ mirror).fitted
    assert not blocks.fitted
    for operator in (2 * blocks, Stack([mirror, blocks], (1, 4, 4)), Identity() @ blocks):
        blocks.autocorrelation.copy_(stationary.assumed_autocorrelation())
        assert not operator.fitted
        operator.fit_images(images)
        assert operator.fitted
        assert torch.equal(blocks.autocorrelation, autocorrelation(images))


def test_the_estimator_is_made_again_only_when_something_changed(monkeypatch):
    made = []
    estimator = stationary.linear_estimator
    monkeypatch.setattr(stationary, "linear_estimator", lambda *arguments: made.append(1) or estimator(*arguments))
    operator = BlockCompressedSensing(ratio=0.25, block=11)
    y = operator(picture(22, 33).unsqueeze(0))
    first = operator.estimate(y)
    operator.estimate(y)
    for tensor in (operator.autocorrelation, operator.matrix):
        tensor.copy_(tensor.clone())  # written to, but not changed
        operator.estimate(y)
    assert len(made) == 1
    assert torch.equal(copy.deepcopy(operator).estimate(y), first)  # a copy makes its own
    assert len(made) == 2
    operator.autocorrelation.mul_(torch.linspace(1, 0.5, 65).outer(torch.linspace(1, 0.5, 65)))
    assert not torch.equal(operator.estimate(y), first)
    assert len(made) == 3
    operator = operator.double()
    assert operator.estimate(operator(picture(22, 33).unsqueeze(0).double())).dtype == torch.float64
    assert len(made) == 4
    learned = BlockCompressedSensing(ratio=0.25, block=11, learned=True)
    for count in (5, 6):  # while it is learned
        learned.estimate(y).sum().backward()
        assert len(made) == count
    with torch.no_grad():
        assert torch.equal(learned.estimate(y), learned.estimate(y))
    assert len(made) == 7


def test_an_operator_that_was_fitted_knows_it_and_training_on_leaves_it_as_it_is(tmp_path):
    network, operator = EPGN(phases=1, features=2), BlockCompressedSensing(ratio=0.25)
    assert not operator.fitted
    images, others = [picture(66, 66, seed) for seed in range(2)], [picture(66, 66, seed).sqrt() for seed in (7, 8)]
    options = {"validation": others, "crop": 66, "device": "cpu", "progress": False}
    training = TrainingOptions(steps=1, batch=1, validations=1)
    fit(network, operator, images, training, folder=tmp_path / "first", **options)
    assert operator.fitted
    torch.testing.assert_close(operator.autocorrelation, autocorrelation(images))
    fit(network, operator, others, training, folder=tmp_path / "second", **options)
    torch.testing.assert_close(operator.autocorrelation, autocorrelation(images))
