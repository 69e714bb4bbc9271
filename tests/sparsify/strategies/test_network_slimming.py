"""Network slimming: channels whose scales are zero."""

import pytest
import torch
from torch import nn
from torch.optim import Adam

from tests.pairs import first_of
from tests.sparsify.strategies.noise_steps import train
from unrolled.penalties import L1, MCP, SCAD, TransformedL1
from unrolled.sparsify import NetworkSlimming


def cnn():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 6, 3), nn.BatchNorm2d(6), nn.ReLU()
    )


IMAGES = (4, 2, 8, 8)


@pytest.mark.filterwarnings("ignore:4.weight would become all zero")  # a constant output needs no scale
@pytest.mark.parametrize("penalty", first_of([L1(), MCP(), TransformedL1(), SCAD()], 2), ids=repr)
def test_channels_whose_scale_is_zero_emit_zeros(penalty):
    model = cnn()
    sparsifier = NetworkSlimming(model, penalty, target=0.5, steps=120)
    assert [weight.name for weight in sparsifier.weights] == ["1.weight", "4.weight"]
    for _ in train(model, sparsifier, Adam(model.parameters(), 0.01), 120, shape=IMAGES):
        for norm in (model[1], model[4]):
            assert (norm.bias[norm.weight == 0] == 0).all()
    sparsifier.finalize()
    dead = [norm.weight == 0 for norm in (model[1], model[4])]
    assert sum(int(channels.sum()) for channels in dead) == pytest.approx(9, abs=1)
    output = model[:2](5 * torch.randn(IMAGES) + 3)
    assert (output[:, dead[0]] == 0).all()
    assert (output[:, ~dead[0]] != 0).any()


@pytest.mark.filterwarnings("ignore:4.weight would become all zero")  # a constant output needs no scale
def test_in_fine_tuning_a_shift_stays_zero_with_its_scale():
    model = cnn()
    sparsifier = NetworkSlimming(model, L1(), target=0.5, fine_tune=0.3, steps=150)
    optimizer = Adam(model.parameters(), 0.01)
    for _ in train(model, sparsifier, optimizer, 150, shape=IMAGES):
        pass
    dead = model[1].weight == 0
    assert 0 < dead.sum() < 12
    assert (model[1].bias[dead] == 0).all()
    masks = sparsifier.finalize(keep_mask=True)
    optimizer.zero_grad()
    model[1].bias.sum().backward()
    optimizer.step()
    assert (model[1].bias[dead] == 0).all()
    assert (model[1].bias[~dead] != 0).all()
    masks.remove()


def test_a_look_at_the_end_gives_the_shifts_back():
    model = cnn()
    sparsifier = NetworkSlimming(model, L1(), 0.1, steps=10)
    with torch.no_grad():
        model[1].weight[3] = 0
        model[1].bias[3] = 7
    with sparsifier.as_finalized():
        assert model[1].bias[3] == 0
    assert model[1].bias[3] == 7


def test_norms_are_chosen_by_pattern_and_others_are_refused():
    assert [weight.name for weight in NetworkSlimming(cnn(), L1(), 0.1, exclude="4").weights] == ["1.weight"]
    assert [weight.name for weight in NetworkSlimming(cnn(), L1(), 0.1, include="4").weights] == ["4.weight"]
    with pytest.raises(ValueError, match="Sequential has no batch norm with a scale"):
        NetworkSlimming(nn.Sequential(nn.Linear(4, 3)), L1(), 0.1)
    with pytest.raises(ValueError, match="include: '0' matches no parameter"):
        NetworkSlimming(cnn(), L1(), 0.1, include="0")
    with pytest.raises(ValueError, match="leaves no batch norm"):
        NetworkSlimming(cnn(), L1(), 0.1, exclude="*")
