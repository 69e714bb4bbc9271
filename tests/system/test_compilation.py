import subprocess
import sys

import pytest
import torch

from unrolled.system.compilation import keep_outside_graphs, outside_graphs


class Total:
    def __new__(cls):
        keep_outside_graphs(cls)
        return super().__new__(cls)

    @outside_graphs
    def __call__(self, x):
        return x * float(x.detach().sum())  # asks for a value, which no graph can


class Inherited(Total):
    pass


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of what comes out of the break, by the compiler itself
@pytest.mark.parametrize("cls", [Total, Inherited])
def test_a_graph_breaks_at_it_and_results_and_gradients_are_the_same(cls):
    total = cls()

    def around(x):
        return total(x).sin() + 1

    x = torch.rand(5, requires_grad=True)
    compiled = torch.compile(around, backend="eager")
    torch.testing.assert_close(compiled(x), around(x))
    (expected,), (found,) = (torch.autograd.grad(f(x).sum(), x) for f in (around, compiled))
    torch.testing.assert_close(found, expected)
    torch.compiler.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(around, backend="eager", fullgraph=True)(x)


def test_it_loads_no_compiler_before_an_object_is_made():
    code = "import sys; from tests.system.test_compilation import Total; print('torch._dynamo' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
