import pytest
import torch

from unrolled.system.compilation import outside_graphs


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
