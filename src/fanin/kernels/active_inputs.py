"""A batch's x of which only some columns are not zero: wide, mostly empty features without a (B, D) array."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from fanin.kernels.spec import index_dtype

if TYPE_CHECKING:
    from torch import Tensor


_SETS_AT_A_TIME = 16_384  # NumPy widens the numbers of the inputs to 64 bits


class ActiveInputs(NamedTuple):
    """x (B, D) by its active columns; all other columns are zero in every row.

    >>> x = ActiveInputs(torch.tensor([[2.0, 3.0]]), torch.tensor([1, 4]), 5)
    >>> x.dense().tolist()
    [[0.0, 2.0, 0.0, 0.0, 3.0]]
    """

    values: Tensor  # (B, A)
    columns: Tensor  # (A,) int64, ascending, in [0, D)
    in_features: int  # D
    dense_inputs: int | None = None  # columns of inputs behind the first so many want no gradient; None: all want one

    def dense(self) -> Tensor:
        """The whole x, (B, D)."""
        return self.values.new_zeros(len(self.values), self.in_features).index_copy(1, self.columns, self.values)

    def padded(self) -> Tensor:
        """The active columns and a column of zeros behind them, (B, A + 1)."""
        return torch.nn.functional.pad(self.values, (0, 1))

    def narrowed(self, index: Tensor) -> Tensor:
        """Index sets into :meth:`padded`: each input by its place among the active ones, all others at the zero column.

        Args:
            index: (S, F) values in [0, D).

        Returns:
            (S, F) of the dtype that A + 1 inputs need. The zero column may stand in a set several times: what it gets
            of dx is of no use, and its weights' gradients are zero.

        >>> x = ActiveInputs(torch.tensor([[2.0, 3.0]]), torch.tensor([1, 4]), 5)
        >>> x.narrowed(torch.tensor([[4, 0], [2, 1]], dtype=torch.uint16)).tolist()
        [[1, 2], [2, 0]]
        """
        A = len(self.columns)
        device = index.device
        places = torch.full((self.in_features,), A, dtype=torch.int32, device=device)
        places.index_copy_(0, self.columns, torch.arange(A, dtype=torch.int32, device=device))
        if device.type != "cpu":
            return places[index.long()].to(index_dtype(A + 1))
        table, sets = places.to(index_dtype(A + 1)).numpy(), index.numpy()
        result = np.empty(sets.shape, table.dtype)
        for start in range(0, len(sets), _SETS_AT_A_TIME):
            part = slice(start, start + _SETS_AT_A_TIME)
            np.take(table, sets[part], out=result[part], mode="clip")
        return torch.from_numpy(result)
