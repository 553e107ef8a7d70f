"""Learning rates over a run: linear warm-up, then a cosine."""

from __future__ import annotations

import math


def learning_rate(peak: float, warmup_share: float, final_share: float, step: int, total_steps: int) -> float:
    """The learning rate of ``step`` (from 1) of ``total_steps``.

    It rises linearly to ``peak`` over the first ``warmup_share`` of the steps, then falls along a half cosine to
    ``final_share * peak`` at the last step.

    >>> [round(learning_rate(1.0, 0.5, 0.0, step, 4), 3) for step in (1, 2, 3, 4)]
    [0.5, 1.0, 0.5, 0.0]
    """
    warmup = warmup_share * total_steps
    if step < warmup:
        return peak * step / warmup
    progress = (step - warmup) / max(total_steps - warmup, 1)
    return peak * (final_share + (1 - final_share) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2)
