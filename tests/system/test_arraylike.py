import math

import numpy as np
import pytest
import torch

from unrolled.system.arraylike import as_numbers, as_tensor

GRID = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]

FORMS = {
    "list": lambda: GRID,
    "tuple of lists": lambda: tuple(GRID),
    "list of tensors": lambda: [torch.tensor(row) for row in GRID],
    "list of arrays": lambda: [np.array(row) for row in GRID],
    "tensor": lambda: torch.tensor(GRID),
    "transposed": lambda: torch.tensor(GRID).T.contiguous().T,
    "sparse": lambda: torch.tensor(GRID).to_sparse(),
    "8 bits": lambda: torch.tensor(GRID).to(torch.float8_e5m2),
    "negative strides": lambda: np.array(GRID)[::-1, ::-1][::-1, ::-1],
    "other byte order": lambda: np.array(GRID, ">f4"),
    "long double": lambda: np.array(GRID, np.longdouble),
    "read-only": lambda: np.frombuffer(np.array(GRID).tobytes()).reshape(2, 3),
    "HDF5's complex": lambda: np.rec.fromarrays([np.array(GRID), np.zeros((2, 3))], names="real, imag"),
    "masked, nothing hidden": lambda: np.ma.masked_array(GRID, False),
    **{str(np.dtype(kind)): lambda kind=kind: np.array(GRID, kind) for kind in "bBhHiIlLefdFD"},
    **{
        str(kind): lambda kind=kind: torch.tensor(GRID).to(kind)
        for kind in (torch.float16, torch.bfloat16, torch.uint16, torch.uint64, torch.complex32)
    },
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_numbers_of_every_form_are_taken(form):
    given = FORMS[form]()
    tensor = as_tensor("x", given)
    np.testing.assert_array_equal(tensor.to(torch.complex128).real.numpy(), GRID)
    np.testing.assert_array_equal(as_numbers("x", given).real.numpy(), np.array(GRID, np.float32))
    assert as_numbers("x", given).real.dtype == torch.float32
    assert as_numbers("x", given, torch.float64).real.dtype == torch.float64


@pytest.mark.parametrize("number", [3, 3.0, np.float32(3), np.int8(3), np.array(3.0), torch.tensor(3), 3 + 0j])
def test_single_numbers_have_no_axes(number):
    assert as_tensor("x", number).shape == ()
    assert complex(as_tensor("x", number)) == 3


def test_nothing_is_copied_that_need_not_be():
    tensor, array = torch.ones(3), np.ones(3)
    assert as_tensor("x", tensor) is tensor
    as_tensor("x", array)[0] = 7
    assert array[0] == 7


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("text", "got 'text'"),
        (b"bytes", "got b'bytes'"),
        (None, "got None"),
        ({}, "got a dict"),
        ([[1], [1, 2]], "got a list"),
        (np.array(["a"]), "of the type <U1"),
        (np.array([object()]), "of the type object"),
        (np.array(["2020"], "M8[D]"), "of the type datetime64"),
        (np.ma.masked_array([1, 2], [0, 1]), "has masked entries"),
        ([torch.ones(2), torch.ones(3)], "must have one shape"),
        (lambda: 0, "of the type object"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_array_of_numbers_is_refused_by_name(value, said):
    with pytest.raises(ValueError, match="matrix: .*" + said.replace("[", r"\[")):
        as_tensor("matrix", value)


def test_numbers_that_a_precision_cannot_hold_are_refused():
    with pytest.raises(ValueError, match=r"kernel: reaches 1e\+300, which torch.float32 cannot hold"):
        as_numbers("kernel", np.array([1.0, 1e300]))
    with pytest.raises(ValueError, match=r"kernel: is at most 1e-300, which torch.float32 holds as 0"):
        as_numbers("kernel", np.array([0.0, 1e-300]))
    assert as_numbers("kernel", np.array([1.0, 1e-300, np.inf, np.nan])).tolist()[:3] == [1, 0, np.inf]
    assert as_numbers("kernel", np.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused():
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    with pytest.raises(ValueError, match="matrix: must be a dense tensor of numbers, got a nested one"):
        as_tensor("matrix", nested)


def test_what_is_only_promised_is_done():
    z = torch.tensor([[1 + 2j, 3 - 1j]])
    for promised in (z.conj(), z.conj().imag):
        found = as_tensor("x", promised)
        assert not found.is_conj()
        assert not found.is_neg()
        torch.testing.assert_close(found, promised.resolve_conj().resolve_neg())


@pytest.mark.parametrize("kind", [np.longlong, np.ulonglong, np.longdouble, np.clongdouble, ">i8"])
def test_every_type_of_numpy_has_one_of_pytorch(kind):
    assert as_tensor("x", np.array([1, 2], dtype=kind)).tolist() == [1, 2]


def test_lists_of_numbers_that_the_default_type_cannot_hold_are_refused():
    for given, said in ([[1e300, 1.0]], "numbers: reaches 1e\\+300"), ([1e-300, 0.0], "numbers: is at most 1e-300"):
        for take in (as_tensor, as_numbers):
            with pytest.raises(ValueError, match=said):
                take("numbers", given)
    assert as_tensor("numbers", [1e-300, 1.0, 0.0, math.inf]).tolist() == [0, 1, 0, math.inf]
