"""A weight matrix that torch computes with a range of rows at a time, whatever it is stored as."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.classifier.storage import in_fewer_bits
from fanin.kernels import dispatch
from fanin.kernels.spec import compute_dtype

if TYPE_CHECKING:
    from torch import Tensor


class StoredRows:
    """Gives rows as they are computed with, and puts them back as they are stored.

    Rows in fewer bits are widened into one buffer and rounded stochastically from it; others are worked on in place.

    Args:
        weight: (L, D), changed by :meth:`write`.
        most_rows: of a range.
        rounding_seed: of the stochastic rounding; row l holds the elements ``l * D`` to ``(l + 1) * D - 1``.
        backend: "reference" or "cpu" to force one that widens and rounds.
        first_row: number of row 0 in the matrix that this is a part of, which counts in the rounding.

    >>> rows = StoredRows(torch.ones(5, 4, dtype=torch.bfloat16), most_rows=2)
    >>> rows.read(slice(2, 4)).mul_(3).dtype
    torch.float32
    """

    def __init__(
        self, weight: Tensor, most_rows: int, rounding_seed: int = 0, backend: str | None = None, first_row: int = 0
    ) -> None:
        self._weight, self._rounding_seed, self._first_row = weight.detach(), rounding_seed, first_row
        self._buffer: Tensor | None = None
        if in_fewer_bits(weight.dtype):
            rows, dtype = min(most_rows, len(weight)), compute_dtype(weight.dtype)
            self._buffer = torch.empty(rows, weight.shape[1], dtype=dtype, device=weight.device)
            self._backend = dispatch.choose(weight.device, weight.dtype, backend).backend

    def read(self, rows: slice) -> Tensor:
        """The rows (n, D): themselves, or a copy that lasts until the next ones are read."""
        stored = self._weight[rows]
        if self._buffer is None:
            return stored
        values = self._buffer[: len(stored)]
        self._backend.widen_into(stored, values)
        return values

    def write(self, rows: slice, step: int) -> None:
        """Store the rows that were read last and have been changed since.

        Args:
            rows: the same.
            step: number of the step, from 1; 0 for a start.
        """
        if self._buffer is not None:
            stored = self._weight[rows]
            first = (self._first_row + rows.start) * self._weight.shape[1]
            self._backend.round_into(self._buffer[: len(stored)], stored, self._rounding_seed, step, first)
