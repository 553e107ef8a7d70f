"""Times of work on a device: medians of rounds between events, launched as usual or replayed from a CUDA graph."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS = 7
_ROUND_SECONDS = 0.05  # at least, of work in one round


def milliseconds(work: Callable[[], object], device: torch.device) -> float:
    """The median time of a call, after one that is not counted; of a single call where there is no GPU."""
    if device.type != "cuda":
        started = time.perf_counter()
        work()
        return (time.perf_counter() - started) * 1e3
    work()
    torch.cuda.synchronize()
    once = _between_events(work, 1)
    repeats = max(1, min(1000, round(_ROUND_SECONDS * 1e3 / max(once, 1e-3))))
    return statistics.median(_between_events(work, repeats) for _ in range(_ROUNDS))


def graph_milliseconds(work: Callable[[], object], device: torch.device) -> float | None:
    """The same for a replay from a CUDA graph, without what the processor's launches cost; None off a GPU."""
    if device.type != "cuda":
        return None
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    result = milliseconds(graph.replay, device)
    del graph
    return result


def _between_events(work: Callable[[], object], repeats: int) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / repeats
