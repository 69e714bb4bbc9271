"""That every network is under the laws, and the one law that all networks share two processes for."""

import importlib
from pathlib import Path

import torch

from tests.helpers import concrete_subclasses
from tests.networks.laws import NetworkLaws, loss_of_images, part_of_the_gradients
from tests.training.small_runs import run_together
from unrolled.networks import UnrolledNetwork


def every_law() -> list[type[NetworkLaws]]:
    """The test cases that inherit the laws, in the order of their names."""
    here = Path(__file__).parent
    for path in sorted(here.rglob("test_*.py")):
        importlib.import_module(".".join(("tests", "networks", *path.relative_to(here).with_suffix("").parts)))
    found, todo = [], [NetworkLaws]
    while todo:
        law = todo.pop()
        found += [law] if "cases" in vars(law) else []
        todo += law.__subclasses__()
    return sorted(found, key=lambda law: law.__name__)


def test_every_network_has_laws():
    assert {law.network_class for law in every_law()} >= set(concrete_subclasses(UnrolledNetwork))


def test_two_processes_give_the_gradients_of_one(tmp_path):
    laws = every_law()
    run_together(part_of_the_gradients, tmp_path, laws)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for law, one, other in zip(laws, first, second, strict=True):
        task, x = loss_of_images(law)
        task.loss(task.model, x, 0).backward()
        gradients = [parameter.grad for parameter in task.model.parameters()]
        scale = max(float(gradient.abs().max()) for gradient in gradients)
        for found in (one, other):
            torch.testing.assert_close(found, gradients, rtol=1e-10, atol=1e-12 * scale)
