"""The first stage of a beam: a small dense layer that scores clusters of labels, and what it reads of a text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import torch

from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.best_products import best_products

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Router:
    """Scores of R clusters: ``weight @ (projection @ x) + bias``.

    >>> router = Router(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]).bfloat16(), torch.tensor([0.0, 1.0, 0.5]))
    >>> router.scores(torch.tensor([[1.0, 2.0]])).tolist()
    [[1.0, 5.0, 3.5]]
    >>> router.best(torch.tensor([[1.0, 2.0]]), 1).tolist()
    [[1]]

    Attributes:
        weight: (R, P) bfloat16.
        bias: (R,) float32.
        projection: (P, Q) float32; None where P = Q and x is multiplied with the weights itself.
    """

    weight: Tensor
    bias: Tensor
    projection: Tensor | None = None

    def __len__(self) -> int:
        """R, how many clusters it scores."""
        return len(self.weight)

    @property
    def rank(self) -> int:
        """P."""
        return self.weight.shape[1]

    def scores(self, inputs: Tensor) -> Tensor:
        """The scores (B, R) float32 of inputs (B, Q).

        Where the processor multiplies bfloat16 matrices, it is left to do so, which is four times faster than in
        float32; elsewhere the same weights are used in float32. So the last digits differ between processors.
        """
        return (self._operand(inputs) @ self._factor.T).float().add_(self.bias)

    @torch.no_grad()
    def best(self, inputs: Tensor, width: int) -> Tensor:
        """The clusters with the best :meth:`scores` of each row, (B, width) int64, in no order; width is at most R."""
        return best_products(self._operand(inputs), self._factor, self.bias, width)

    def _operand(self, inputs: Tensor) -> Tensor:
        """What is multiplied with the weights, (B, P), of the dtype that is multiplied in."""
        inputs = inputs if self.projection is None else inputs @ self.projection.T
        return inputs.bfloat16() if multiplies_bfloat16() else inputs

    @cached_property
    def _factor(self) -> Tensor:
        return self.weight if multiplies_bfloat16() else self.weight.float()


@cache
def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16; without them they are slower than float32."""
    told = getattr(torch.cpu, "get_capabilities", None)  # which older torch does not have: float32 is right everywhere
    return told is not None and any(told().get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def router_inputs(x: Tensor | ActiveInputs, fold: Tensor | None) -> Tensor:
    """What a router reads, (B, Q).

    >>> x = ActiveInputs(torch.tensor([[2.0, 3.0, 5.0]]), torch.tensor([1, 2, 4]), 5)
    >>> router_inputs(x, torch.tensor([-1, 2, -1]).int()).tolist()  # two dense inputs and two sums
    [[0.0, 2.0, -8.0, 0.0]]
    """
    if fold is None:
        return x.dense() if isinstance(x, ActiveInputs) else x
    values, columns = (x.values, x.columns) if isinstance(x, ActiveInputs) else (x, torch.arange(x.shape[1]))
    dense = (x.in_features if isinstance(x, ActiveInputs) else x.shape[1]) - len(fold)
    sums = int(fold.long().abs().max())
    signed = fold.long()[columns[columns >= dense] - dense]
    first = int(torch.searchsorted(columns, dense))
    result = values.new_zeros(len(values), dense + sums)
    result[:, columns[:first]] = values[:, :first]
    return result.index_add_(1, dense - 1 + signed.abs(), values[:, first:] * signed.sign())
