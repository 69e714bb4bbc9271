import pytest
import torch

from tests.helpers import concrete_subclasses
from unrolled import Shrinkage
from unrolled.penalties import L0, L1, MCP, Cauchy, Penalty

LEARNABLE = [cls for cls in concrete_subclasses(Penalty) if cls.prox_has_step_gradient and cls.exact_zeros]


@pytest.mark.parametrize("cls", LEARNABLE)
@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("threshold", [1e-4, 0.01, 0.7, 5.0])
def test_threshold_starts_where_it_was_asked_to(cls, channels, threshold):
    layer = Shrinkage(cls(), channels, threshold)
    torch.testing.assert_close(layer.threshold.detach(), torch.full(() if channels is None else (3,), threshold))
    x = torch.tensor([0.999 * threshold, 1.001 * threshold]).repeat(1, 3, 1)
    assert torch.equal(layer(x) != 0, torch.tensor([False, True]).repeat(1, 3, 1))


@pytest.mark.parametrize("cls", LEARNABLE)
def test_the_step_is_learned(cls):
    # Noise around sparse values: the threshold that a gradient method finds must beat the one it started from.
    torch.manual_seed(0)
    clean = torch.randn(4, 2, 2000) * (torch.rand(4, 2, 2000) < 0.1) * 3
    noisy = clean + 0.3 * torch.randn_like(clean)
    layer = Shrinkage(cls(), channels=2, threshold=0.01)
    before = (layer(noisy) - clean).square().mean().item()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(150):
        loss = (layer(noisy) - clean).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.6 * before
    assert (layer.threshold > 0.1).all()


def test_each_channel_has_its_own_step():
    layer = Shrinkage(L1(), channels=2, threshold=0.5)
    with torch.no_grad():
        layer.raw_step[1] = -50.0  # a step of almost nothing
    out = layer(torch.ones(1, 2, 3, 3))
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([0.5, 1.0]))


def test_complex_values_keep_their_phase():
    out = Shrinkage(L1(), threshold=1.0)(torch.tensor([3 + 4j, 0.1j, 0]))
    torch.testing.assert_close(out, torch.tensor([(3 + 4j) * 0.8, 0, 0]))


@pytest.mark.parametrize("raw", [-1e4, -100.0, 100.0])
def test_no_raw_value_makes_it_expand(raw):
    layer = Shrinkage(L1())
    with torch.no_grad():
        layer.raw_step.fill_(raw)
    x = torch.linspace(-3, 3, 61)
    assert (layer(x).abs() <= x.abs()).all()


def test_a_step_without_gradient_is_refused_with_an_alternative():
    with pytest.raises(ValueError, match=r"L0.*MCP"):
        Shrinkage(L0())


def test_a_penalty_without_threshold_is_refused():
    with pytest.raises(ValueError, match="Cauchy never returns exact zeros"):
        Shrinkage(Cauchy())


def test_bad_arguments_are_refused_by_name():
    for threshold in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="threshold must be"):
            Shrinkage(L1(), threshold=threshold)
    with pytest.raises(ValueError, match="channels must be"):
        Shrinkage(MCP(), channels=0)
    with pytest.raises(ValueError, match="axis 1 must have 3 channels"):
        Shrinkage(L1(), channels=3)(torch.ones(2, 4, 5, 5))
