import functools
import os

import pytest
import torch

from unrolled.system.compilation import Compiled, outside_graphs


@outside_graphs
def total(x):
    return x * float(x.detach().sum())  # asks for a value, which no graph can


def around(x):
    return total(x).sin() + 1


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of what comes out of the break, by the compiler itself
def test_a_graph_breaks_at_it_and_results_and_gradients_are_the_same():
    x = torch.rand(5, requires_grad=True)
    compiled = torch.compile(around, backend="eager")
    torch.testing.assert_close(compiled(x), around(x))
    (expected,), (found,) = (torch.autograd.grad(f(x).sum(), x) for f in (around, compiled))
    torch.testing.assert_close(found, expected)


@pytest.mark.usefixtures("fresh_compiler")
def test_it_is_in_no_graph():
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(around, backend="eager", fullgraph=True)(torch.rand(5))


@pytest.fixture
def quick_compiler(monkeypatch, tmp_path):
    """The tracer alone, which finds what can be no graph; generating code takes seconds."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


@pytest.mark.usefixtures("fresh_compiler", "quick_compiler")
def test_compiled_or_not_it_is_the_same_function():
    def smooth(x):
        traced.append(torch.compiler.is_compiling())
        return x.sin() * x

    traced: list[bool] = []
    compiled, x = Compiled(smooth, "A sine"), torch.rand(5, requires_grad=True)
    for _ in range(2):
        found = compiled(x)
        torch.testing.assert_close(found, smooth(x))
        torch.testing.assert_close(*(torch.autograd.grad(y.sum(), x)[0] for y in (found, smooth(x))))
    assert compiled.graph is not None


@pytest.mark.usefixtures("fresh_compiler", "quick_compiler")
def test_what_cannot_be_compiled_runs_without_and_says_so_once():
    compiled = Compiled(around, "The sum")
    with pytest.warns(UserWarning, match="The sum cannot be compiled and runs without: .") as said:
        torch.testing.assert_close(compiled(torch.ones(2)), around(torch.ones(2)))
    assert len(said) == 1
    assert "\n" not in str(said[0].message)
    torch.testing.assert_close(compiled(torch.ones(3)), around(torch.ones(3)))


@pytest.mark.usefixtures("fresh_compiler", "quick_compiler")
@pytest.mark.filterwarnings("ignore:Checked cannot be compiled")
def test_errors_of_the_function_are_its_own():
    def checked(x):
        if x.shape[0] > 2:
            raise ValueError("x: is too long")
        return x

    compiled = Compiled(checked, "Checked")
    torch.testing.assert_close(compiled(torch.ones(2)), torch.ones(2))
    with pytest.raises(ValueError, match="x: is too long"):
        compiled(torch.ones(3))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method")  # by what the compiler imports
def test_without_a_compiler_for_c_it_runs_all_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compiled, x = Compiled(torch.sin, "The sine"), torch.rand(5)
    with pytest.warns(UserWarning, match="The sine cannot be compiled and runs without"):
        torch.testing.assert_close(compiled(x), torch.sin(x))


@pytest.mark.usefixtures("fresh_compiler", "quick_compiler")
def test_half_a_library_that_a_killed_linker_left_is_made_again(tmp_path):
    class LinkerError(Exception):
        __module__ = "torch._inductor.exc"

    def load(x):
        if library.exists():
            raise LinkerError(f"OSError: {library}: file too short")
        return x + 1

    library = tmp_path / "ab" / "cab.so"
    library.parent.mkdir()
    library.touch()
    compiled = Compiled(torch.sin, "The sum")
    compiled.graph = load
    torch.testing.assert_close(compiled(torch.ones(2)), torch.full((2,), 2.0))
    assert not library.exists()
    mine = tmp_path.parent / "mine.so"  # what lies elsewhere is not ours
    mine.touch()
    library = mine
    with pytest.warns(UserWarning, match="file too short"):
        torch.testing.assert_close(compiled(torch.ones(2)), torch.ones(2).sin())
    assert mine.exists()


def test_code_is_kept_between_processes(monkeypatch, tmp_path):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    Compiled(torch.sin, "The sine")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "unrolled" / "compiled")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "mine"))
    Compiled(torch.sin, "The sine")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "mine")
