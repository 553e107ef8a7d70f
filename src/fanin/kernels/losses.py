"""Value and gradient of the losses on one block of logits, in plain torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from fanin.kernels.spec import Loss

if TYPE_CHECKING:
    from torch import Tensor


def loss_and_gradient(loss: Loss, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the loss over a block and its gradient by the logits.

    Args:
        loss: which loss.
        logits: (B, C).
        target: (B, C) of the logits' dtype, 1 for relevant labels and 0 otherwise.

    Returns:
        The sum, a float64 scalar, and the gradient (B, C).

    >>> value, gradient = loss_and_gradient(Loss.SQUARED_HINGE, torch.tensor([[0.5, -2.0]]), torch.tensor([[1.0, 0.0]]))
    >>> value.item(), gradient.tolist()
    (0.25, [[-1.0, 0.0]])
    """
    # The loss of a relevant pair at z is that of an irrelevant one at -z: nothing is a difference of larger numbers.
    sign = 1 - 2 * target
    turned = sign * logits
    if loss is Loss.BCE:
        return functional.softplus(turned).sum(dtype=torch.float64), sign * torch.sigmoid(turned)
    margin = (1 + turned).clamp_min(0)
    return margin.square().sum(dtype=torch.float64), 2 * sign * margin


def loss_and_gradient_inplace(loss: Loss, logits: Tensor, rows: Tensor, columns: Tensor) -> float:
    """Sum of the loss over a block; the gradient takes the place of the logits. No target block is made.

    Args:
        loss: which loss.
        logits: (B, C), overwritten with the gradient.
        rows: (P,) rows of the relevant pairs, each pair once.
        columns: (P,) their columns.
    """
    # The same, with the signs of the relevant pairs alone changed before and after.
    logits[rows, columns] *= -1
    if loss is Loss.BCE:
        value = functional.softplus(logits).sum()
        logits.sigmoid_()
    else:
        logits.add_(1).clamp_min_(0)
        value = logits.square().sum()
        logits.mul_(2)
    logits[rows, columns] *= -1
    return value.item()
