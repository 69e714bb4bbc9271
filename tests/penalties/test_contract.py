"""What every penalty takes, returns and refuses."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from tests.pairs import FULL, first_of, in_turn
from tests.penalties import laws
from tests.penalties.cases import CLASSES, FAMILIES, FEW, NAMES, default
from unrolled.penalties import L1, MCP, LogSum, Penalty, Weighted
from unrolled.penalties.numeric import NumericPenalty
from unrolled.system.recipes import build, describe

every_penalty = pytest.mark.parametrize("name", NAMES)
every_class = pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)


@every_penalty
def test_step_may_be_a_tensor_that_broadcasts(name):
    penalty = default(name)
    v = torch.linspace(-5, 5, 11, dtype=torch.float64)
    steps = torch.tensor([1e-3, 0.5, 1.9, 2.0, 2.1, 7.0], dtype=torch.float64)[:, None]
    together = penalty.prox(v, steps)
    for row, step in zip(together, steps.flatten().tolist(), strict=True):
        torch.testing.assert_close(row, penalty.prox(v, step), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(penalty.prox(v.float(), steps), together.float(), rtol=1e-5, atol=1e-5)


@every_class
def test_parameters_may_be_tensors_that_broadcast(cls):
    penalty = default(cls.__name__)
    v = torch.linspace(-5, 5, 11, dtype=torch.float64)
    numbers = laws.numbers(penalty)
    few = cls.__name__ in FEW and not FULL
    for name, number in list(numbers.items())[: 1 if few else None]:
        above = next(field.metadata["above"] for field in fields(cls) if field.name == name)
        factors = [0.7, 1.0] if few else [0.7, 1.0, 1.1]
        several = above + (number - above) * torch.tensor(factors, dtype=torch.float64)[:, None]
        count = len(factors)
        together = replace(penalty, **{name: several})
        alone = [replace(penalty, **{name: float(one)}) if one != number else penalty for one in several.flatten()]
        for method in ("value", "derivative", "eta"):
            rows = torch.stack([getattr(one, method)(v) for one in alone])
            torch.testing.assert_close(getattr(together, method)(v).expand(count, 11), rows)
        torch.testing.assert_close(
            together.dual(v.abs()).expand(count, 11), torch.stack([o.dual(v.abs()) for o in alone])
        )
        torch.testing.assert_close(together.prox(v, 0.8), torch.stack([one.prox(v, 0.8) for one in alone]))
        thresholds = torch.stack([one.threshold(0.8) for one in alone])
        torch.testing.assert_close(together.threshold(0.8).flatten().expand(count), thresholds)


@pytest.mark.parametrize(("cls", "kind"), in_turn(list(CLASSES.values()), [torch.float32, torch.float64], 1, FULL))
def test_parameters_without_axes_do_not_change_the_type(cls, kind):
    penalty = cls(**{name: number.to(kind) for name, number in laws.numbers(cls()).items()})
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.complex64):
        v = torch.linspace(-3, 3, 13).to(dtype)
        z = penalty.prox(v, 0.3)
        assert z.dtype == dtype
        torch.testing.assert_close(
            z, default(cls.__name__).prox(v, 0.3), rtol=1e-5 if dtype != torch.bfloat16 else 1e-2, atol=1e-5
        )
    assert penalty.threshold(torch.tensor(0.3, dtype=torch.float32)).ndim == 0


@every_penalty
def test_nan_passes_and_infinity_stays(name):
    penalty = default(name)
    v = torch.tensor([torch.nan, torch.inf, -torch.inf])
    z = penalty.prox(v, 0.5)
    assert z[0].isnan()
    assert z[1] == torch.inf
    assert z[2] == -torch.inf
    for method in (penalty.value, penalty.derivative, penalty.eta, penalty.dual):
        assert method(v[:1].abs()).isnan().all(), method.__name__
        assert not method(v[1:].abs()).isnan().any(), method.__name__
    assert (penalty.keep_probability(v[1:], 0.3) >= 0.2).all()


@pytest.mark.parametrize(("name", "dtype"), in_turn(NAMES, [torch.float32, torch.float64], 1, FULL))
def test_dual_at_its_ends(name, dtype):
    penalty = default(name)
    eta = torch.tensor([0.0, 1e-30, 1e30], dtype=dtype)
    small = penalty.dual(eta.double())[1]
    assert penalty.dual(eta)[0] == 0
    torch.testing.assert_close(penalty.dual(eta)[1].double(), small, rtol=1e-4, atol=0)
    if small < 1e-20:  # a slope at 0 that is finite: f ≈ ρ'(0)²η
        slope = penalty.derivative(torch.zeros(1, dtype=torch.float64))[0]
        torch.testing.assert_close(small, 1e-30 * slope**2, rtol=1e-4, atol=0)
    assert not penalty.dual(eta).isnan().any()


@pytest.mark.parametrize(("name", "dtype"), in_turn(NAMES, [torch.float32, torch.float64, torch.bfloat16], 1, FULL))
def test_types_are_kept(name, dtype):
    penalty = default(name)
    w = torch.linspace(-3, 3, 13, dtype=dtype)
    for result in (
        penalty.prox(w, 0.3),
        penalty.value(w),
        penalty.derivative(w),
        penalty.eta(w),
        penalty.dual(w.abs()),
    ):
        assert result.dtype == dtype
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-14, torch.bfloat16: 2e-2}[dtype]
    exact = penalty.prox(w.double(), 0.3)
    assert (penalty.prox(w, 0.3).double() - exact).abs().max() <= tolerance


@pytest.mark.parametrize("cls", [CLASSES[name] for name in first_of(FAMILIES, 3)])
def test_it_compiles_without_a_break_and_with_the_same_gradients(cls):
    names = list(laws.numbers(cls()))

    def everything(v, step, *parameters):
        penalty = cls(**dict(zip(names, parameters, strict=True)))
        faces = penalty.value(v) + penalty.derivative(v) + penalty.keep_probability(v, 0.3)
        if penalty.formulas.dual != "numeric":  # a long loop, slow to trace
            faces = faces + penalty.dual(v.abs())
        return penalty.prox(v, step), faces  # the prox asks for the threshold by itself

    torch._dynamo.reset()
    compiled = torch.compile(everything, fullgraph=True, backend="eager")
    v = torch.linspace(-4, 4, 14, dtype=torch.float64)
    leaves = [v, torch.tensor(0.7, dtype=torch.float64), *laws.numbers(cls()).values()]
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    results = []
    for function in (everything, compiled):
        outputs = function(*leaves)
        gradients = torch.autograd.grad(sum(out.sum() for out in outputs), leaves, materialize_grads=True)
        results.append((*outputs, *gradients))
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("cls", [L1, LogSum])
def test_it_compiles_with_numbers(cls):
    torch._dynamo.reset()
    v = torch.linspace(-4, 4, 14)
    compiled = torch.compile(cls().prox, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(v, 0.4), cls().prox(v, 0.4))


@pytest.mark.parametrize("penalty", [*map(default, NAMES), Weighted(MCP(), 0.5)], ids=[*NAMES, "Weighted"])
def test_beyond_the_threshold_the_prox_is_what_shrinks(penalty):
    step = torch.tensor(0.7, dtype=torch.float64)
    v = penalty.threshold(step) + torch.logspace(-2, 1, 9, dtype=torch.float64)
    torch.testing.assert_close(penalty._shrink(v, step), penalty.prox(v, step))


@every_class
def test_its_recipe_makes_it_again(cls):
    penalty = cls(**{name: float(number) * 1.05 for name, number in laws.numbers(cls()).items()})
    assert build(describe(penalty), Penalty) == penalty


@every_class
def test_formulas_are_stated(cls):
    for field in fields(cls.formulas):
        assert getattr(cls.formulas, field.name)
    assert "numeric" not in cls.formulas.value
    searched = issubclass(cls, NumericPenalty)
    assert searched or "numeric" not in cls.formulas.threshold + cls.formulas.eta
    numeric = cls.dual is Penalty.dual or "dual" not in {name for base in cls.__mro__[:2] for name in vars(base)}
    assert (cls.formulas.dual == "numeric") == numeric


@every_class
def test_bad_parameters_are_refused_by_name(cls):
    for field in fields(cls):
        above, below = field.metadata["above"], field.metadata["below"]
        for bad in (above, above - 1.0, below, below + 1.0, float("nan"), float("inf"), "1", True):
            with pytest.raises(ValueError, match=rf"{cls.__name__}: {field.name} must be a finite number > {above:g}"):
                cls(**{field.name: bad})
        with pytest.raises(ValueError, match=f"{field.name} must be floating point"):
            cls(**{field.name: torch.ones(1, dtype=torch.int64)})


@every_penalty
def test_bad_arguments_are_refused_by_name(name):
    penalty = default(name)
    for bad in (0.0, -0.5, float("nan"), float("inf")):
        for method in (penalty.threshold, lambda step: penalty.prox(torch.ones(2), step)):
            with pytest.raises(ValueError, match="step must be a finite number > 0"):
                method(bad)
        with pytest.raises(ValueError, match="strength must be a finite number > 0"):
            penalty.keep_probability(torch.ones(2), bad)
    for bad in (None, "w", [[1.0], [2.0, 3.0]], np.array([object()]), {1.0}):
        for what, method in methods_of(penalty).items():
            with pytest.raises(ValueError, match=f"{what}: must be an array of numbers"):
                method(bad)
    for bad in (True, "1", 1j, None, torch.ones(2, dtype=torch.complex64)):
        for method in (penalty.threshold, lambda step: penalty.prox(torch.ones(2), step)):
            with pytest.raises(ValueError, match="step"):
                method(bad)


def methods_of(penalty):
    """Methods of one argument that may be whatever holds numbers, by its name."""
    return {
        "w": lambda w: (penalty.value(w), penalty.derivative(w), penalty.eta(w)),
        "v": lambda v: penalty.prox(v, 0.5),
        "eta": penalty.dual,
    }


NUMBERS = torch.tensor([[3.0, 0, 1], [2, 5, 4]])
KINDS = {
    "whole numbers": NUMBERS.long(),
    "bytes": NUMBERS.to(torch.uint8),
    "NumPy": NUMBERS.numpy()[:, ::-1].copy()[:, ::-1],
    "other byte order": NUMBERS.numpy().astype(">i4"),
    "lists": [[3, 0, 1.0], [2, 5, 4]],
    "list of tensors": list(NUMBERS),
}


@pytest.mark.parametrize(("name", "turn"), in_turn(NAMES, range(3), 1, FULL))
def test_whatever_holds_numbers_is_taken_in_floating_point(name, turn):
    penalty = default(name)
    for method in methods_of(penalty).values():
        expected = method(NUMBERS)
        for given in list(KINDS.values())[turn::3]:
            torch.testing.assert_close(method(given), expected)
    for step in (np.float32(0.5), np.array(0.5), torch.tensor(0.5, dtype=torch.float64)):
        torch.testing.assert_close(penalty.prox(NUMBERS, step), penalty.prox(NUMBERS, 0.5))
        torch.testing.assert_close(penalty.threshold(step), penalty.threshold(0.5), check_dtype=False)
        torch.testing.assert_close(
            penalty.keep_probability(NUMBERS.tolist(), step), penalty.keep_probability(NUMBERS, 0.5)
        )
    torch.testing.assert_close(penalty.prox(v=[1, 2], step=1), penalty.prox(torch.tensor([1.0, 2.0]), 1.0))


@every_class
def test_parameters_of_numpy_are_numbers(cls):
    names = [field.name for field in fields(cls) if "above" in field.metadata]
    plain = cls()
    given = cls(**{name: np.float64(getattr(plain, name)) for name in names})
    assert given == plain
    assert all(type(getattr(given, name)) in (float, int) for name in names)
    single = cls(**{name: np.float32(getattr(plain, name)) for name in names})
    torch.testing.assert_close(single.value(NUMBERS), plain.value(NUMBERS), rtol=1e-5, atol=1e-6)
