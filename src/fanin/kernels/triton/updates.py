"""The update rules of :mod:`fanin.kernels.spec` on a tile of parameters, inside a kernel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import triton
import triton.language as tl

from fanin.kernels.spec import SGD, moment_count

if TYPE_CHECKING:
    from fanin.kernels.spec import Update

PLAIN_SGD = tl.constexpr(0)
MOMENTUM_SGD = tl.constexpr(1)
ADAMW = tl.constexpr(2)


class Rule(NamedTuple):
    """The numbers of an update, for a kernel. Differences to 1 are taken here, in double.

    Attributes:
        rate: the learning rate; AdamW's with the correction of the first moment.
        decay: the weight decay; AdamW's times the learning rate.
        keep_1: what is kept of the first moment, or of the momentum.
        add_1: what is added of the gradient.
        keep_2: what is kept of the second moment.
        add_2: what is added of the gradient's square.
        root: the correction of the second moment's root.
        eps: added to the root.
    """

    rate: float
    decay: float
    keep_1: float
    add_1: float
    keep_2: float
    add_2: float
    root: float
    eps: float


def kind(update: Update) -> int:
    """PLAIN_SGD, MOMENTUM_SGD or ADAMW."""
    return moment_count(update)


def rule(update: Update, step: int) -> Rule:
    """The numbers of an update in a step, counted from 1."""
    if isinstance(update, SGD):
        return Rule(update.learning_rate, update.weight_decay, update.momentum, 1.0, 0.0, 0.0, 1.0, 0.0)
    return Rule(
        rate=update.learning_rate / (1 - update.beta1**step),
        decay=update.learning_rate * update.weight_decay,
        keep_1=update.beta1,
        add_1=1 - update.beta1,
        keep_2=update.beta2,
        add_2=1 - update.beta2,
        root=math.sqrt(1 - update.beta2**step),
        eps=update.eps,
    )


@triton.jit
def updated(parameter, gradient, moments, offsets, mask, rule, decay, UPDATE: tl.constexpr):
    """The new values of a tile of parameters; their moments are updated in memory.

    Args:
        parameter: float32 values.
        gradient: of them.
        moments: as many pointers as the update keeps moments.
        offsets: int64, the tile's places in the moments.
        mask: which places there are.
        rule: of :func:`rule`.
        decay: the rule's, or 0 for parameters that are not decayed.
        UPDATE: of :func:`kind`.
    """
    if UPDATE == ADAMW:
        mean = tl.load(moments[0] + offsets, mask=mask, other=0.0)
        mean = mean * rule.keep_1 + gradient * rule.add_1
        tl.store(moments[0] + offsets, mean, mask=mask)
        square = tl.load(moments[1] + offsets, mask=mask, other=0.0)
        square = square * rule.keep_2 + gradient * gradient * rule.add_2
        tl.store(moments[1] + offsets, square, mask=mask)
        new = parameter * (1.0 - decay) - rule.rate * mean / (tl.sqrt(square) / rule.root + rule.eps)
    else:
        gradient = gradient + decay * parameter
        if UPDATE == MOMENTUM_SGD:
            gradient = tl.load(moments[0] + offsets, mask=mask, other=0.0) * rule.keep_1 + gradient
            tl.store(moments[0] + offsets, gradient, mask=mask)
        new = parameter - rule.rate * gradient
    return new
