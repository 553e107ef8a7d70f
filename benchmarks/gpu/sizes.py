"""What is measured: taken from the GPU's free memory, or small enough for Triton's interpreter on the CPU."""

from __future__ import annotations

from typing import NamedTuple

import torch

_STEP_LABELS = 2_812_281  # Amazon-3M
_MEMORY_LABELS = (670_091, 2_812_281, 8_600_000)
_CARD_LABELS, _CARD_BYTES = 10_000_000, 4 << 30


class Sizes(NamedTuple):
    """Sizes of all sections.

    Attributes:
        batch: B.
        tokens: of a text.
        features: D.
        fan_ins: F.
        group: G of the groups.
        step_labels: L of the times.
        memory_labels: L of the whole steps.
        card_labels: L of the whole step that has to do with a small card's memory.
        card_bytes: that memory.
        error_labels: L of the errors.
        dense_labels: the most labels whose dense bfloat16 weights fit.
        layers: of the encoder.
        vocabulary: of the encoder.
        copy_bytes: copied to measure the bandwidth.
        matrix: side of the matrices of the measured rate.
    """

    batch: int
    tokens: int
    features: int
    fan_ins: tuple[int, ...]
    group: int
    step_labels: int
    memory_labels: tuple[int, ...]
    card_labels: int
    card_bytes: int
    error_labels: int
    dense_labels: int
    layers: int
    vocabulary: int
    copy_bytes: int
    matrix: int


TOY = Sizes(
    batch=5,
    tokens=4,
    features=24,
    fan_ins=(6, 8),
    group=16,
    step_labels=70,
    memory_labels=(70,),
    card_labels=90,
    card_bytes=_CARD_BYTES,
    error_labels=40,
    dense_labels=100,
    layers=1,
    vocabulary=50,
    copy_bytes=1 << 16,
    matrix=64,
)


def sizes_for(device: torch.device) -> Sizes:
    """The sizes for a device: a GPU's by what is free on it."""
    if device.type != "cuda":
        return TOY
    free = torch.cuda.mem_get_info(device)[0]
    features = 768
    # Weights in bfloat16 at the larger fan-in, index sets of a label each, scratch and the encoder's gigabytes.
    fitting = (free - (3 << 30)) // (128 * 4 + 64)
    dense = int((free - (3 << 30)) // (2 * features))
    return Sizes(
        batch=128,
        tokens=128,
        features=features,
        fan_ins=(64, 128),
        group=32,
        step_labels=max(100_000, min(_STEP_LABELS, fitting, dense)),
        memory_labels=tuple(L for L in _MEMORY_LABELS if fitting >= L) or (100_000,),
        card_labels=_CARD_LABELS,
        card_bytes=_CARD_BYTES,
        error_labels=4096,
        dense_labels=dense,
        layers=12,
        vocabulary=30_522,
        copy_bytes=min(4 << 30, free // 4),
        matrix=8192,
    )
