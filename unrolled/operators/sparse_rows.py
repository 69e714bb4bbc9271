"""Sparse matrices by rows, in the forms in which products with them are fast, or known to every runtime."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Bags(NamedTuple):
    """A sparse matrix by rows, as `embedding_bag` takes it: numbers of columns, where rows begin, and values."""

    columns: Tensor
    begins: Tensor
    values: Tensor

    def __matmul__(self, table: Tensor) -> Tensor:
        return F.embedding_bag(
            self.columns, table, self.begins, mode="sum", per_sample_weights=self.values, include_last_offset=True
        )

    def padded(self) -> "PaddedRows":
        """The same matrix with rows of one length, for programs."""
        counts = self.begins.diff().long()
        place = torch.arange(int(counts.max()))
        held = place < counts[:, None]
        entry = torch.where(held, self.begins[:-1, None] + place, 0)
        return PaddedRows(self.columns[entry].long() * held, self.values[entry] * held)


class PaddedRows(NamedTuple):
    """A sparse matrix by rows of one length, filled up with zeros: every runtime can gather and sum."""

    columns: Tensor
    values: Tensor

    def __matmul__(self, table: Tensor) -> Tensor:
        return (self.values.unsqueeze(1) @ table[self.columns]).squeeze(1)


def bags_of(parts: list[tuple[Tensor, Tensor, Tensor]]) -> Bags:
    """Of numbers of columns, how many each row has, and values, some rows after others."""
    columns, counts, values = (torch.cat(each) for each in zip(*parts, strict=True))
    return Bags(columns, F.pad(counts.cumsum(0), (1, 0)).int(), values)


def transposed(matrix: Bags, columns: int) -> Bags:
    """The transpose of a matrix with so many columns."""
    from scipy.sparse import csr_array

    shape = len(matrix.begins) - 1, columns
    parts = (part.numpy() for part in (matrix.values, matrix.columns, matrix.begins))
    turned = csr_array(tuple(parts), shape=shape).tocsc()
    return Bags(*(torch.from_numpy(part) for part in (turned.indices, turned.indptr, turned.data)))
