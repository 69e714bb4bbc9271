"""Anderson's acceleration against the fixed points of linear maps, and against GMRES."""

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

from unrolled.networks.anderson import Anderson


def problem(complex_numbers=False):
    """(M, b) of z ↦ Mz + b, three maps of 8 numbers, of which some do not contract."""
    kind = torch.complex128 if complex_numbers else torch.float64
    random = torch.Generator().manual_seed(0)
    matrix = torch.randn(3, 8, 8, dtype=kind, generator=random) / torch.tensor([8, 4, 2]).view(3, 1, 1)
    return matrix, torch.randn(3, 8, 1, dtype=kind, generator=random)


def accelerated(matrix, b, steps, memory):
    """f(z) after so many steps, of a state of two entries."""
    acceleration, state = Anderson(memory), (torch.zeros_like(b[:, :3]), torch.zeros_like(b[:, 3:]))
    for _ in range(steps):
        value = matrix @ torch.cat(state, 1) + b
        state = acceleration.following(state, (value[:, :3], value[:, 3:]))
    return torch.cat(state, 1)


@pytest.mark.parametrize("complex_numbers", [False, True])
def test_a_linear_map_of_eight_numbers_needs_nine_steps(complex_numbers):
    matrix, b = problem(complex_numbers)
    steps = 17 if complex_numbers else 9  # the weights are real, so a complex map is one of sixteen numbers
    found = accelerated(matrix, b, steps, steps)
    exact = torch.linalg.solve(torch.eye(8) - matrix, b)
    assert (accelerated(matrix, b, 9, 1) - exact).abs().max() > 1
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)


def test_every_step_has_the_residual_of_gmres():
    matrix, b = problem()
    for index in range(3):
        one, right = matrix[index : index + 1], b[index : index + 1]
        system = np.eye(8) - one[0].numpy()
        for steps in (2, 4):
            found = scipy.sparse.linalg.gmres(system, right[0, :, 0].numpy(), maxiter=1, restart=steps, rtol=0.0)[0]
            # What is combined is f of the best point, so one more f is taken of that of GMRES.
            expected = one[0].numpy() @ found + right[0, :, 0].numpy()
            ours = accelerated(one, right, steps + 1, steps + 1)[0, :, 0].numpy()
            np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)


def test_every_image_is_accelerated_for_itself_and_a_memory_of_one_is_plain_iteration():
    matrix, b = problem()
    together = accelerated(matrix, b, 5, 3)
    alone = torch.cat([accelerated(matrix[i : i + 1], b[i : i + 1], 5, 3) for i in range(3)])
    torch.testing.assert_close(together, alone)
    z = torch.zeros_like(b)
    for _ in range(5):
        z = matrix @ z + b
    assert torch.equal(accelerated(matrix, b, 5, 1), z)


def test_at_the_fixed_point_it_stays():
    acceleration, z = Anderson(3), torch.ones(2, 4)
    for _ in range(3):
        (found,) = acceleration.following((z,), (z,))
        torch.testing.assert_close(found, z)
