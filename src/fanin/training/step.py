"""One training step: a batch through encoder, objectives and updates, and the rewiring that may follow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.positives import on_device
from fanin.training.batch_exchange import brought_together, encode_own_rows, own_gradient
from fanin.training.non_finite import NonFiniteError, all_finite, require_finite

if TYPE_CHECKING:
    from fanin.classifier.rewiring import RewireReport
    from fanin.data.batches import Batch
    from fanin.training.objectives import StepLosses
    from fanin.training.parts import TrainingParts


def train_on(parts: TrainingParts, step: int, batch: Batch) -> StepLosses:
    """Update everything by one batch; :func:`rewire_after` comes next.

    Logits exist only inside the classifier's fused step. One that is not a number makes the loss and dx not a number;
    an infinite one that changes nothing (a label of bias -inf that is not relevant) passes until it does.

    Args:
        parts: updated in place.
        step: number of the step, from 1.
        batch: the texts.

    Returns:
        The losses.

    Raises:
        NonFiniteError: x, the loss, dx or the encoder's gradient is not finite; the classifier may be spoilt then.
    """
    processes, device = parts.processes, parts.model.device
    own = encode_own_rows(parts.encoder, batch, processes, device)  # (b, D); in one process all rows
    x = brought_together(own, len(batch), processes)  # (B, D)
    require_finite(step, "the encoder's vectors", [x.values if isinstance(x, ActiveInputs) else x])
    positives = on_device(parts.tail.positives(batch), device)
    losses, dx = parts.objectives.step(step, x, positives)
    own_dx = own_gradient(own, dx, processes)  # (b, D)
    # Every process must find the same, or one would go on and wait for another that has stopped.
    shares = torch.tensor([losses.loss, losses.auxiliary_loss, not all_finite(own_dx)], dtype=torch.float64)
    loss, auxiliary_loss, faults = processes.add(shares).tolist()
    losses = losses._replace(loss=loss, auxiliary_loss=auxiliary_loss)
    if not math.isfinite(losses.trained):
        raise NonFiniteError(step, f"the loss is {losses.trained}")
    if faults:
        raise NonFiniteError(step, "the gradients by the encoder's vectors are not finite")
    parts.encoder_update.backward(own, own_dx)
    parts.encoder_update.step(step)
    if parts.rewiring is not None:
        parts.rewiring.observe(step, x, positives)
    return losses


def rewire_after(parts: TrainingParts, step: int) -> RewireReport | None:
    """Rewire the classifier if that is due after a step; gives what changed."""
    return None if parts.rewiring is None else parts.rewiring.rewire(step)
