"""Sparse training of an embedding table: gradients of the rows a batch touched, and their update in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.functional import embedding_bag

from fanin.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class RowGradient(NamedTuple):
    """Gradient of the touched rows of a table; all other rows have none."""

    rows: Tensor  # (U,) int64, ascending, each once
    values: Tensor  # (U, E)


def row_gradient(tokens: Tensor, bags: Tensor, weights: Tensor, grad_bag: Tensor) -> RowGradient:
    """Gradient of a table by the gradient of its weighted bags ``bag[b] = sum of weights[i] * table[tokens[i]]``.

    Args:
        tokens: (N,) int64, rows of the table.
        bags: (N,) int64, the bag in which each token stands.
        weights: (N,) float, the weight of each token in its bag.
        grad_bag: (B, E), gradient of the bags.

    Returns:
        The gradient of each row that occurs, summed over its occurrences.
    """
    ascending, order = torch.sort(tokens, stable=True)
    rows, counts = torch.unique_consecutive(ascending, return_counts=True)
    starts = torch.cumsum(counts, 0) - counts
    # A sum over occurrences is itself a bag of rows of grad_bag: no (N, E) array is made.
    values = embedding_bag(bags[order], grad_bag, starts, mode="sum", per_sample_weights=weights[order])
    return RowGradient(rows, values)


class _State(NamedTuple):
    second_moment: Tensor  # (V,) float32
    touches: Tensor  # (V,) int32

    def to(self, device: torch.device) -> _State:
        return _State(self.second_moment.to(device), self.touches.to(device))


class RowwiseAdam:
    """Adam without first moment, with one second moment a row, moved only when the row is touched.

    For a row with gradient g of width E on its n-th touch: ``v <- beta2 v + (1 - beta2) |g|^2 / E``, then
    ``row <- row - lr * g / (sqrt(v / (1 - beta2^n)) + eps)``. The bias correction counts the touches
    of the row itself, so that the first steps of a rare token are no larger than those of a frequent one. State:
    8 bytes a row, from the first use on.

    Args:
        rows: rows of the table.
        beta2: decay of the second moment.
        eps: added to its root.
    """

    def __init__(self, rows: int, beta2: float = 0.999, eps: float = 1e-8) -> None:
        self.beta2 = beta2
        self.eps = eps
        self._rows = rows
        self._state: _State | None = None  # made on first use: prediction needs none

    def step(self, table: Tensor, gradient: RowGradient, learning_rate: float, scale: float = 1.0) -> None:
        """Updates the touched rows of ``table`` (V, E) in place.

        Args:
            table: (V, E) float32.
            gradient: of the touched rows.
            learning_rate: of this step.
            scale: factor of the gradient, for clipping.
        """
        rows, values = gradient
        if self._state is None or self._state.touches.device != table.device:
            self._state = self._made().to(table.device)
        state = self._state
        square = torch.linalg.vector_norm(values, dim=1).mul_(scale).square_().div_(table.shape[1])  # (U,)
        touches = state.touches[rows] + 1
        moment = torch.lerp(square, state.second_moment[rows], self.beta2)
        state.touches[rows] = touches
        state.second_moment[rows] = moment
        correction = 1 - torch.pow(torch.tensor(self.beta2, dtype=torch.float64), touches)
        root = (moment / correction).sqrt().to(table.dtype)
        table.index_add_(0, rows, values * (-learning_rate * scale / (root + self.eps))[:, None])

    def state(self) -> dict[str, Tensor]:
        """The state tensors by name: ``second_moment`` (V,) float32 and ``touches`` (V,) int32."""
        self._state = self._made()
        return self._state._asdict()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copies the state back.

        Raises:
            CheckpointError: if a tensor is missing or has another shape.
        """
        for name, own in self.state().items():
            if name not in state or state[name].shape != own.shape:
                found = tuple(state[name].shape) if name in state else "nothing"
                raise CheckpointError(
                    f"state of the embedding table: {name!r} should have shape {tuple(own.shape)}, found {found}; "
                    "the checkpoint belongs to another model or is damaged"
                )
            own.copy_(state[name])

    def _made(self) -> _State:
        if self._state is not None:
            return self._state
        return _State(torch.zeros(self._rows), torch.zeros(self._rows, dtype=torch.int32))
