"""The dense layer as one would write it in torch: the baseline that shows what the fused, chunked step saves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from fanin.classifier.dense import DenseLinear
from fanin.kernels.positives import dense_block
from fanin.kernels.spec import SGD, Loss

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.kernels.spec import Moments, Positives, Update


class AutogradDenseLinear(DenseLinear):
    """A dense layer trained by autograd and an optimizer of torch, all logits of a batch at once.

    The results are those of :class:`fanin.classifier.dense.DenseLinear`, but for the order of sums. A step holds
    several (B, L) arrays and a gradient of the size of the weights. Prediction is the dense layer's.

    >>> AutogradDenseLinear(16, 1000).nbytes()
    {'weight': 64000, 'bias': 4000}
    """

    fewer_bits = False

    def _make_step(
        self, x: Tensor, positives: Positives, loss: Loss, update: Update, moments: Moments, scale: float
    ) -> tuple[float, Tensor]:
        inputs = x.detach().requires_grad_()
        with torch.enable_grad():
            total = scale * _summed_loss(self(inputs), positives, loss)
            total.backward()  # type: ignore[no-untyped-call]
        assert inputs.grad is not None, "the logits depend on the inputs"
        self._step_optimizers(update, moments)
        return total.item(), inputs.grad

    def _step_optimizers(self, update: Update, moments: Moments) -> None:
        """Update weight and bias with the update's state as theirs, and drop the gradients."""
        _step(update, self.weight, moments.weight, self.steps)
        if self.bias is not None:
            _step(update.without_decay(), self.bias, moments.bias, self.steps)


def _summed_loss(logits: Tensor, positives: Positives, loss: Loss) -> Tensor:
    """The loss of all logits (B, L), summed."""
    inside = 0, logits.shape[1], logits.dtype
    target = dense_block(positives, *inside)
    if positives.margins is not None:
        logits = logits - dense_block(positives, *inside, positives.margins)
    factor = None if positives.weights is None else dense_block(positives, *inside, positives.weights, elsewhere=1)
    if loss is Loss.BCE:
        return functional.binary_cross_entropy_with_logits(logits, target, factor, reduction="sum")
    missed = (1 - (2 * target - 1) * logits).clamp_min(0).square()
    return (missed if factor is None else missed * factor).sum()


def _step(update: Update, parameter: Tensor, moments: tuple[Tensor, ...], step: int) -> None:
    """One step of torch's own optimizer, which takes up and leaves behind the state in ``moments``."""
    optimizer: torch.optim.Optimizer
    if isinstance(update, SGD):
        optimizer = torch.optim.SGD(
            [parameter], update.learning_rate, momentum=update.momentum, weight_decay=update.weight_decay
        )
        state = {"momentum_buffer": moments[0]} if moments else {}
    else:
        optimizer = torch.optim.AdamW(
            [parameter], update.learning_rate, (update.beta1, update.beta2), update.eps, update.weight_decay
        )
        state = {"exp_avg": moments[0], "exp_avg_sq": moments[1], "step": torch.tensor(float(step - 1))}
    optimizer.state[parameter].update(state)
    optimizer.step()
    parameter.grad = None
