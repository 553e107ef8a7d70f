"""Value and gradient of the losses on one block of logits, in plain torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from fanin.kernels.spec import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.kernels.positives import Pairs


def loss_and_gradient(
    loss: Loss, logits: Tensor, target: Tensor, weights: Tensor | None = None, margins: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sum of the loss over a block and its gradient by the logits.

    Args:
        loss: which loss.
        logits: (B, C).
        target: (B, C) of the logits' dtype, 1 for relevant labels and 0 otherwise.
        weights: (B, C) factors of the loss of each pair; None for 1.
        margins: (B, C) taken off the logits of relevant labels and 0 elsewhere; None for 0.

    Returns:
        The sum, a float64 scalar, and the gradient (B, C).

    >>> value, gradient = loss_and_gradient(Loss.SQUARED_HINGE, torch.tensor([[0.5, -2.0]]), torch.tensor([[1.0, 0.0]]))
    >>> value.item(), gradient.tolist()
    (0.25, [[-1.0, 0.0]])
    """
    # The loss of a relevant pair at z is that of an irrelevant one at -z: nothing is a difference of larger numbers.
    sign = 1 - 2 * target
    turned = sign * logits if margins is None else sign * logits + margins
    if loss is Loss.BCE:
        values, gradient = functional.softplus(turned), sign * torch.sigmoid(turned)
    else:
        short = (1 + turned).clamp_min(0)
        values, gradient = short.square(), 2 * sign * short
    if weights is not None:
        values, gradient = weights * values, weights * gradient
    return values.sum(dtype=torch.float64), gradient


def loss_and_gradient_inplace(loss: Loss, logits: Tensor, pairs: Pairs, first_label: int = 0) -> float:
    """Sum of the loss over a block; the gradient takes the place of the logits. No target block is made.

    Args:
        loss: which loss.
        logits: (B, C), overwritten with the gradient.
        pairs: the relevant pairs of the block, each once.
        first_label: the label of the block's first column.
    """
    # The same, with the signs of the relevant pairs alone changed before and after.
    places = pairs.rows, pairs.labels - first_label
    turned = -logits[places] if pairs.margins is None else pairs.margins - logits[places]  # (P,)
    logits[places] = turned
    extra = 0.0  # what weights add to the loss
    if loss is Loss.BCE:
        if pairs.weights is not None:
            extra = ((pairs.weights - 1) * functional.softplus(turned)).sum().item()
        value = functional.softplus(logits).sum()
        logits.sigmoid_()
    else:
        if pairs.weights is not None:
            extra = ((pairs.weights - 1) * (1 + turned).clamp_min(0).square()).sum().item()
        logits.add_(1).clamp_min_(0)
        value = logits.square().sum()
        logits.mul_(2)
    logits[places] *= -1 if pairs.weights is None else -pairs.weights
    return value.item() + extra
