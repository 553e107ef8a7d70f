"""The largest of many products in every row: which columns they are in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.kernels.dispatch import compiled_core_obstacle

if TYPE_CHECKING:
    from torch import Tensor

_ROWS = 512
_PRODUCTS = 1 << 19  # held at a time, in cache


def best_products(x: Tensor, weight: Tensor, bias: Tensor, k: int) -> Tensor:
    """The columns (B, k) int64 of the k largest ``x @ weight.T + bias`` of each row, in no order and none twice.

    Products are rounded to the dtype of the weights, biases are added in float32. Among equal ones any may be taken;
    NaN counts as infinity. With the compiled core products never leave the cache: to write, read and rank all of them
    takes as long as to compute them.

    >>> x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    >>> best_products(x, weight, torch.tensor([0.0, 1.0, 5.0]), 1).tolist()
    [[2]]

    Args:
        x: (B, D), of the dtype of the weights.
        weight: (R, D), float32 or bfloat16.
        bias: (R,) float32.
        k: 1 to R.
    """
    columns = torch.empty(len(x), k, dtype=torch.int64)
    for start in range(0, len(x), _ROWS):
        part = slice(start, start + _ROWS)
        if compiled_core_obstacle() is None:
            _search(x[part], weight, bias, columns[part])
        else:
            scores = (x[part] @ weight.T + bias).nan_to_num(torch.inf, torch.inf, -torch.inf)
            columns[part] = scores.topk(k, sorted=False).indices
    return columns


def _search(x: Tensor, weight: Tensor, bias: Tensor, columns: Tensor) -> None:
    from fanin.kernels import _cpu

    rows, width = len(x), -(-_PRODUCTS // len(x))
    best = _cpu.LargestColumns(rows, columns.shape[1])
    memory = weight.new_empty(rows * min(width, len(weight)))
    for own, bias_of_own in zip(torch.split(weight, width), torch.split(bias, width), strict=True):
        products = torch.mm(x, own.T, out=memory[: rows * len(own)].view(rows, -1))
        codes = products if products.dtype == torch.float32 else products.view(torch.uint16)
        best.add(codes, bias_of_own, torch.get_num_threads())
    best.take(columns)
