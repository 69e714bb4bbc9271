"""Weights as the start of another training."""

import torch

import unrolled
from unrolled import weights
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing, MaskedFourier, RadialMask


def test_training_goes_on_for_another_mask(tmp_path):
    # What is measured stays that of the new operator; what was learned is taken.
    before, after = (MaskedFourier(RadialMask(ratio).draw(16, 16)) for ratio in (0.2, 0.5))
    network, other = EPGN(1, 2), EPGN(1, 2)
    unrolled.save(tmp_path / "w.safetensors", network, before)
    mask = after.mask.clone()
    weights.take(tmp_path / "w.safetensors", network=other, operator=after)
    assert torch.equal(after.mask, mask)
    for own, given in zip(other.parameters(), network.parameters(), strict=True):
        assert torch.equal(own, given)
    # A drawn mask is no tensor of the file at all.
    weights.take(tmp_path / "w.safetensors", network=other, operator=MaskedFourier(RadialMask(0.3), 16, 16))
    learned = BlockCompressedSensing(ratio=0.5, block=4, learned=True)
    unrolled.save(tmp_path / "l.safetensors", network, learned)
    fresh = BlockCompressedSensing(ratio=0.5, block=4, seed=1, learned=True)
    weights.take(tmp_path / "l.safetensors", network=other, operator=fresh)
    assert torch.equal(fresh.matrix, learned.matrix)


def test_a_network_that_is_told_the_noise_begins_as_one_that_was_not(tmp_path):
    torch.manual_seed(0)
    operator, x = BlockCompressedSensing(ratio=0.5, block=4), torch.rand(1, 1, 8, 8)
    network, told, other = EPGN(1, 2), EPGN(1, 2, noise_range=(0, 0.1)), EPGN(1, 2, noise_range=(0, 0.2))
    torch.nn.init.normal_(network.phases[0].prox.synthesize.pair.second)
    unrolled.save(tmp_path / "w.safetensors", network, operator)
    weights.take(tmp_path / "w.safetensors", network=told, operator=operator)
    y = operator(x)
    torch.testing.assert_close(told(y, operator, noise=0.05), network(y, operator))
    # What was learned of the noise level is taken too.
    torch.nn.init.normal_(told.phases[0].factors.last.weight)
    unrolled.save(tmp_path / "t.safetensors", told, operator)
    weights.take(tmp_path / "t.safetensors", network=other, operator=operator)
    assert torch.equal(other.phases[0].factors.last.weight, told.phases[0].factors.last.weight)
