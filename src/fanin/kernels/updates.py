"""The update rules of :mod:`fanin.kernels.spec`, in plain torch, on any slice of a parameter and its moments."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from fanin.kernels.spec import SGD, Moments, Update, compute_dtype, moment_count

if TYPE_CHECKING:
    from torch import Tensor


def zero_moments(update: Update, weight: Tensor, bias: Tensor | None) -> Moments:
    """The state an update starts with: zeros of the shapes and device of weight and bias, of ``compute_dtype``.

    >>> len(zero_moments(SGD(0.1, momentum=0.9), torch.ones(3, 2), torch.ones(3)).weight)
    1
    """
    count = moment_count(update)
    return Moments(
        weight=tuple(torch.zeros_like(weight, dtype=compute_dtype(weight.dtype)) for _ in range(count)),
        bias=() if bias is None else tuple(torch.zeros_like(bias) for _ in range(count)),
    )


def apply_update(update: Update, parameter: Tensor, gradient: Tensor, moments: tuple[Tensor, ...], step: int) -> None:
    """Update ``parameter`` and ``moments`` in place with ``gradient``, all of one shape and dtype.

    Args:
        update: rule and learning rate.
        parameter: the values to update; it must not require a gradient here.
        gradient: used as scratch space; its values are lost.
        moments: ``moment_count(update)`` tensors.
        step: number of this step, from 1.
    """
    if isinstance(update, SGD):
        if update.weight_decay:
            gradient.add_(parameter, alpha=update.weight_decay)
        if update.momentum:
            gradient = moments[0].mul_(update.momentum).add_(gradient)
        parameter.sub_(gradient, alpha=update.learning_rate)
        return
    mean, variance = moments
    mean.lerp_(gradient, 1 - update.beta1)
    variance.mul_(update.beta2).addcmul_(gradient, gradient, value=1 - update.beta2)
    root_correction = math.sqrt(1 - update.beta2**step)
    denominator = torch.sqrt(variance, out=gradient).div_(root_correction).add_(update.eps)
    if update.weight_decay:
        parameter.mul_(1 - update.learning_rate * update.weight_decay)
    parameter.addcdiv_(mean, denominator, value=-update.learning_rate / (1 - update.beta1**step))
