"""Learning rates over a run: linear warm-up, then a cosine."""

from __future__ import annotations

import math


def learning_rate(peak: float, warmup_steps: float, final_share: float, step: int, total_steps: int) -> float:
    """The learning rate of ``step`` (from 1) of ``total_steps``.

    It rises linearly to ``peak`` over the first ``warmup_steps``, then falls along a half cosine to
    ``final_share * peak`` at the last step. A run that ends within its warm-up never gets to the peak.

    >>> [round(learning_rate(1.0, 2, 0.0, step, 4), 3) for step in (1, 2, 3, 4)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return peak * (final_share + (1 - final_share) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2)
