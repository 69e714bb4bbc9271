"""Both forms of a sparse matrix give the products of the matrix."""

import torch

from unrolled.operators.sparse_rows import bags_of, transposed


def test_both_forms_give_the_products_of_the_matrix():
    torch.manual_seed(0)
    matrix = torch.randn(5, 7, dtype=torch.float64) * (torch.rand(5, 7) < 0.4)
    matrix[3] = 0
    rows, columns = matrix.nonzero(as_tuple=True)
    bags = bags_of([(columns.int(), torch.bincount(rows, minlength=5), matrix[rows, columns])])
    for table in (torch.randn(7, 3, dtype=torch.float64), torch.randn(7, 1, dtype=torch.float64)):
        for form in (bags, bags.padded()):
            torch.testing.assert_close(form @ table, matrix @ table)
    back = transposed(bags, 7)
    for form in (back, back.padded()):
        torch.testing.assert_close(form @ torch.eye(5, dtype=torch.float64), matrix.T)
