"""What a run takes of a GPU's memory, as torch counts it for this process."""

from __future__ import annotations

import torch


def gpu_peaks(device: torch.device) -> tuple[int, int]:
    """The most bytes that tensors took, and that torch held for them, since the last :func:`forget_gpu_peaks`.

    Args:
        device: where they lie; of any but a GPU both are 0.

    >>> gpu_peaks(torch.device("cpu"))
    (0, 0)
    """
    if device.type != "cuda":
        return 0, 0
    return torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)


def forget_gpu_peaks(device: torch.device) -> None:
    """Count anew from what is there now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
