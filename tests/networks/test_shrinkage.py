"""Shrinkage layers and their mixtures: what they learn, and that nothing they learn makes them expand."""

import copy
import dataclasses
import pickle

import pytest
import torch

from tests.pairs import FULL, pairwise
from tests.penalties.cases import CLASSES, FAMILIES
from unrolled import Shrinkage, ShrinkageMixture
from unrolled.networks.shrinkage import shrinkage_of
from unrolled.penalties import L0, L1, MCP, SCAD, CappedL1, Cauchy, ElasticNet, LogSum, Penalty, Ridge
from unrolled.penalties.numeric import NumericPenalty

# Penalties that are known by a dropout rule alone have the same base, and maps that take long to compute.
LEARNABLE = [cls for cls in CLASSES.values() if cls.prox_has_step_gradient and not issubclass(cls, NumericPenalty)]
WITH_PARAMETERS = [cls for cls in LEARNABLE if dataclasses.fields(cls) and cls is not CappedL1]
LEARNING = [cls for cls in LEARNABLE if cls.__name__ in FAMILIES or cls is Ridge]
"""Those that are trained: of each file one, for the gradients of all are compared with differences elsewhere."""
SEVERAL = [L1(), LogSum(0.3), MCP(1.0, 4.0)]

every_penalty = pytest.mark.parametrize("cls", LEARNABLE)
channels_or_not = pytest.mark.parametrize("channels", [None, 3])


def sparse_and_noisy(shape=(1, 2, 4000), noise=0.3):
    """Values of which most are 0, and the same with noise."""
    generator = torch.Generator().manual_seed(0)
    kept = torch.rand(shape, generator=generator) < 0.1
    clean = torch.randn(shape, generator=generator) * kept * 3
    return clean, clean + noise * torch.randn(shape, generator=generator)


def denoised(layer, clean, noisy, steps=100, rate=0.15):
    """Train a layer to denoise; the mean squared error before and after, per channel."""
    before = (layer(noisy) - clean).square().mean((0, 2)).detach()
    optimizer = torch.optim.Adam(layer.parameters(), lr=rate)
    for _ in range(steps):
        loss = (layer(noisy) - clean).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return before, (layer(noisy) - clean).square().mean((0, 2)).detach()


# ---- where it starts


@every_penalty
@pytest.mark.parametrize(
    ("threshold", "channels", "learn"), pairwise([1e-4, 0.01, 0.7, 5.0], [None, 3], [False, True], whole=FULL)
)
def test_it_starts_where_it_was_asked_to(cls, channels, threshold, learn):
    layer = Shrinkage(cls(), channels, threshold, learn)
    shape = () if channels is None else (3,)
    reached = layer.threshold if cls.exact_zeros else layer.step
    torch.testing.assert_close(reached.detach(), torch.full(shape, threshold))
    x = torch.tensor([0.999 * threshold, 1.001 * threshold]).repeat(1, 3, 1)
    assert torch.equal(layer(x) != 0, torch.tensor([not cls.exact_zeros, True]).repeat(1, 3, 1))
    for field in dataclasses.fields(cls):
        found = torch.as_tensor(getattr(layer.current_penalty, field.name))
        assert found.shape == (shape if field.name in layer.raw_parameters else ())
        torch.testing.assert_close(found, torch.full(found.shape, getattr(cls(), field.name)))


@every_penalty
def test_learned_parameters_change_nothing_at_the_start(cls):
    x = torch.linspace(-3, 3, 121).repeat(2, 3, 1)
    expected = Shrinkage(cls(), None, 0.3)(x)
    for channels in (None, 3):
        torch.testing.assert_close(Shrinkage(cls(), channels, 0.3, learn_penalty=True)(x), expected)


def test_a_mixture_starts_as_the_mean_of_its_maps():
    x = torch.linspace(-3, 3, 121).repeat(2, 3, 1)
    expected = torch.stack([Shrinkage(penalty, None, 0.3)(x) for penalty in SEVERAL]).mean(0)
    for channels in (None, 3):
        layer = ShrinkageMixture(SEVERAL, channels, 0.3)
        torch.testing.assert_close(layer(x), expected)
        assert layer.weights.shape == ((3,) if channels is None else (3, 3))
        torch.testing.assert_close(layer.weights.detach(), torch.full_like(layer.weights, 1 / 3))
        torch.testing.assert_close(layer.threshold.detach(), torch.full(() if channels is None else (3,), 0.3))


# ---- what it learns


@pytest.mark.parametrize("cls", LEARNING)
def test_the_step_is_learned(cls):
    # Noise around sparse values: the threshold that a gradient method finds must beat the one it started from.
    layer = Shrinkage(cls(), channels=2, threshold=0.01)
    before, after = denoised(layer, *sparse_and_noisy())
    if cls is Ridge:  # shrinks all numbers alike, best by the ratio of the variances, .3² to .1·3²
        torch.testing.assert_close(layer.step, torch.full((2,), 0.1), atol=0.02, rtol=0)
        return
    assert (after < 0.8 * before).all()
    assert (layer.step > 0.1).all()


@pytest.mark.parametrize("cls", [cls for cls in LEARNING if cls in WITH_PARAMETERS])
def test_the_parameters_of_the_penalty_are_learned(cls):
    layer = Shrinkage(cls(), channels=2, threshold=0.01, learn_penalty=True)
    before, after = denoised(layer, *sparse_and_noisy())
    assert (after < 0.8 * before).all()
    start = dataclasses.asdict(cls())
    learned = dataclasses.asdict(layer.current_penalty)
    assert all(((learned[name] - start[name]).abs() > 5e-3).all() for name in start)
    for channel in range(2):  # constructors check their arguments
        cls(**{name: value[channel].item() for name, value in learned.items()})


@every_penalty
@channels_or_not
def test_a_gradient_reaches_every_raw_parameter(cls, channels):
    layer = Shrinkage(cls(), channels, 0.3, learn_penalty=True)
    x = torch.linspace(-3, 3, 200).repeat(2, 3, 1)
    x[0, 0, :50] = 0  # as dark parts of images are
    layer(x).square().sum().backward()
    assert set(layer.raw_parameters) == {field.name for field in dataclasses.fields(cls)} - {"theta"}
    for name, parameter in layer.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert (parameter.grad != 0).all(), name


@channels_or_not
def test_a_gradient_reaches_every_raw_parameter_of_a_mixture(channels):
    layer = ShrinkageMixture(SEVERAL, channels, 0.3, learn_penalty=True)
    layer(torch.linspace(-3, 3, 200).repeat(2, 3, 1)).square().sum().backward()
    names = [name for name, _ in layer.named_parameters()]
    assert len(names) == 1 + 3 + 3  # weights, steps; epsilon, gamma, b
    for name, parameter in layer.named_parameters():
        assert (parameter.grad != 0).all(), name


def test_a_mixture_finds_the_better_map():
    # In the first channel few large values, which are best left alone; in the second a Gaussian in twice as much noise,
    # where the best is to scale all of it down.
    clean, noisy = sparse_and_noisy()
    generator = torch.Generator().manual_seed(1)
    clean[:, 1] = 0.3 * torch.randn(1, 4000, generator=generator)
    noisy[:, 1] = clean[:, 1] + 0.6 * torch.randn(1, 4000, generator=generator)
    penalties = [MCP(1.0, 1.2), ElasticNet(0.05)]
    alone = torch.stack([denoised(Shrinkage(p, 2, 0.3), clean, noisy, 200)[1] for p in penalties])
    assert alone.argmin(0).tolist() == [0, 1]
    layer = ShrinkageMixture(penalties, 2, 0.3)
    _, together = denoised(layer, clean, noisy, 200)
    assert layer.weights.argmax(0).tolist() == [0, 1]
    assert (layer.weights.amax(0) > 0.8).all()
    assert (together < 1.01 * alone.amin(0)).all()


def test_each_channel_has_its_own_step_and_parameters():
    layer = Shrinkage(MCP(1.0, 2.0), channels=2, threshold=0.5, learn_penalty=True)
    with torch.no_grad():
        layer.raw_step[1] = -50.0  # a step of almost nothing
    torch.testing.assert_close(layer(torch.full((1, 2, 3, 3), 0.8))[0, :, 0, 0], torch.tensor([0.4, 0.8]))
    with torch.no_grad():
        layer.raw_step[1] = layer.raw_step[0]
        layer.raw_parameters["b"][1] = 50.0  # so flat that the map is soft thresholding
    torch.testing.assert_close(layer(torch.full((1, 2, 3, 3), 0.8))[0, :, 0, 0], torch.tensor([0.4, 0.3 / 0.99]))


# ---- what always holds


@every_penalty
@pytest.mark.parametrize("raw_step", [-1e4, -100.0, 0.0, 100.0, 1e4] if FULL else [-1e4, 0.0, 1e4])
def test_no_raw_value_makes_it_expand(cls, raw_step):
    x = torch.cat([torch.linspace(-3, 3, 61), torch.tensor([1e-6, 1e-3, 100.0])])
    for raw in (-1e4, -100.0, 0.0, 100.0, 1e4):
        layer = Shrinkage(cls(), learn_penalty=True)
        with torch.no_grad():
            layer.raw_step.fill_(raw_step)
            for parameter in layer.raw_parameters.values():
                parameter.fill_(raw)
        out = layer(x)
        assert (out.abs() <= x.abs() * (1 + 1e-6)).all()
        assert (out * x >= 0).all()
        out.sum().backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())
        assert isinstance(layer.current_penalty, cls)  # whose constructor has checked it


@pytest.mark.parametrize("raw", [(1e4, -1e4, 0.0), (-1e4, -1e4, -1e4), (88.0, -3.0, 1e30)])
def test_no_raw_weight_makes_a_mixture_expand(raw):
    layer, x = ShrinkageMixture(SEVERAL), torch.linspace(-3, 3, 61)
    with torch.no_grad():
        layer.raw_weights.copy_(torch.tensor(raw))
    torch.testing.assert_close(layer.weights.sum().item(), 1.0)
    assert (layer(x).abs() <= x.abs() * (1 + 1e-6)).all()


LAYERS = {
    "L1": lambda **options: Shrinkage(L1(), threshold=1.0, **options),
    "learned": lambda **options: Shrinkage(SCAD(), threshold=1.0, learn_penalty=True, **options),
    "mixture": lambda **options: ShrinkageMixture(SEVERAL, threshold=1.0, learn_penalty=True, **options),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


@every_layer
@channels_or_not
def test_complex_values_keep_their_phase(name, channels):
    layer = LAYERS[name](channels=channels)
    x = torch.tensor([3 + 4j, 0.1j, 0]).repeat(1, 3, 1)
    out = layer(x)
    torch.testing.assert_close(out.abs(), layer(x.abs()))
    torch.testing.assert_close(out[..., 0] / out[..., 0].abs(), x[..., 0] / 5)
    assert (out[..., 1:] == 0).all()
    out.abs().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())


@every_layer
@channels_or_not
def test_it_survives_state_dicts_copies_and_pickles(name, channels):
    layer, x = LAYERS[name](channels=channels), torch.linspace(-5, 5, 60).repeat(2, 3, 1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    again = LAYERS[name](channels=channels)
    assert not torch.equal(again(x), layer(x))
    again.load_state_dict(layer.state_dict())
    for other in (again, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), layer(x))


@pytest.mark.parametrize(("name", "channels"), [("learned", 3), *([("L1", None), ("mixture", None)] if FULL else [])])
@pytest.mark.usefixtures("fresh_compiler")
def test_it_compiles_to_one_graph_with_the_same_gradients(name, channels):
    layer, x = LAYERS[name](channels=channels), torch.linspace(-5, 5, 60).repeat(2, 3, 1)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))
    found, expected = (torch.autograd.grad(f(x).square().sum(), list(layer.parameters())) for f in (compiled, layer))
    torch.testing.assert_close(found, expected)


@every_layer
def test_bfloat16_goes_in_and_comes_out(name):
    layer, x = LAYERS[name](channels=3), torch.linspace(-5, 5, 60).repeat(2, 3, 1)
    out = layer(x.bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), layer(x.bfloat16().float()), atol=0.02, rtol=0.01)


def test_what_is_learned_can_be_read():
    layer = Shrinkage(MCP(1.0, 2.0), learn_penalty=True)
    with torch.no_grad():
        layer.raw_parameters["gamma"].fill_(3.0)
    assert layer.current_penalty.gamma == pytest.approx(torch.nn.functional.softplus(torch.tensor(3.0)).item())
    assert layer.current_penalty.b == pytest.approx(2.0)
    assert layer.penalty == MCP(1.0, 2.0)
    mixture = ShrinkageMixture([L1(), LogSum(0.5)], channels=2, learn_penalty=True)
    first, second = mixture.current_penalties
    assert first == L1()
    torch.testing.assert_close(second.epsilon, torch.tensor([0.5, 0.5]))
    assert not second.epsilon.requires_grad
    assert "epsilon=0.5" in repr(mixture)


# ---- what is refused


def test_a_step_without_gradient_is_refused_with_an_alternative():
    with pytest.raises(ValueError, match=r"L0.*MCP"):
        Shrinkage(L0())
    with pytest.raises(ValueError, match=r"L0.*MCP"):
        ShrinkageMixture([L1(), L0()])


def test_a_penalty_on_groups_is_refused():
    class Together(Penalty):
        value = derivative = prox = threshold = eta = dual = None

    with pytest.raises(ValueError, match="Together does not act on each number alone; use a separable"):
        Shrinkage(Together())


def test_a_penalty_with_several_thresholds_is_refused():
    class Uneven(L1):
        def threshold(self, step):
            return step * torch.ones(3)

    with pytest.raises(ValueError, match="Uneven must have one threshold for all numbers"):
        Shrinkage(Uneven())


def test_bad_arguments_are_refused_by_name():
    for threshold in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="threshold must be"):
            Shrinkage(L1(), threshold=threshold)
    with pytest.raises(ValueError, match="no step gives"):
        Shrinkage(L1(), threshold=1e-12)
    with pytest.raises(ValueError, match="channels must be"):
        Shrinkage(MCP(), channels=0)
    with pytest.raises(ValueError, match=r"penalty must be a penalty.*got 'L1'"):
        Shrinkage("L1")
    with pytest.raises(ValueError, match="epsilon of LogSum must be a number, got a tensor; learn_penalty"):
        Shrinkage(LogSum(torch.tensor(0.5)))
    for penalties in ([], L1()):
        with pytest.raises(ValueError, match="penalties must be a list of at least one"):
            ShrinkageMixture(penalties)
    for layer in (Shrinkage(L1(), channels=3), ShrinkageMixture([L1(), Cauchy()], channels=3)):
        with pytest.raises(ValueError, match="axis 1 must have 3 channels"):
            layer(torch.ones(2, 4, 5, 5))


def test_one_penalty_is_a_shrinkage_and_a_list_is_a_mixture():
    assert isinstance(shrinkage_of(None), Shrinkage)
    assert shrinkage_of(MCP(), 3, 0.2).penalty == MCP()
    mixture = shrinkage_of([L1(), MCP()], 3, 0.2, learn_penalty=True)
    assert isinstance(mixture, ShrinkageMixture)
    assert mixture.current_penalties[1].b.shape == (3,)
