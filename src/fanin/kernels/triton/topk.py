"""The k best labels a row, streaming: chunks of logits, and the best of them kept as sortable numbers.

A score and its label are one 64-bit integer: larger for a better score, and among equal scores for the lower label. So
ties need no care, and the best of several programs are merged by sorting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from fanin.kernels.positives import rows_of
from fanin.kernels.streaming_topk import StreamingTopK
from fanin.kernels.triton import grouped, per_label
from fanin.kernels.triton.arguments import power_of_two, program_count
from fanin.kernels.triton.products import INTERPRETED

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.kernels.spec import Positives, SharedScores, SparseWeights

CHUNK_BYTES = 1 << 25
"""Of a chunk's logits."""
MOST_KEPT = 128
"""The largest k whose best a program keeps in registers; a larger one is left to torch."""
_SEGMENTS = 32  # programs that share a chunk's labels, for one tile of rows
_LARGEST = tl.constexpr(2**63 - 1)
_SMALLEST = tl.constexpr(-(2**63))


@triton.jit
def _keys_of(scores, labels):
    """A sortable number for each score and label below 2^32 - 1; the smallest of all where a score is NaN or -inf."""
    bits = (scores + 0.0).to(tl.int32, bitcast=True)  # -0 becomes 0: the two are equal
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    key = (ordered.to(tl.int64) << 32) | (0xFFFFFFFF - labels)
    return tl.where(scores > float("-inf"), key, _SMALLEST)


@triton.jit
def _select_kernel(
    logits, rows, row_stride, start, count, kept, k,
    BLOCK_L: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Merge a chunk's logits (C, stride) into the k best of each segment and row, ``kept`` (segments, B, k)."""
    segment, segments = tl.program_id(0), tl.num_programs(0)
    row = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)
    places = tl.arange(0, BLOCK_K)
    own = (segment.to(tl.int64) * rows + row)[None, :] * k + places[:, None]
    there = (row < rows)[None, :] & (places < k)[:, None]
    best = tl.load(kept + own, mask=there, other=_LARGEST)  # (K, R); places that are not there are never given up
    for tile in range(segment, tl.cdiv(count, BLOCK_L), segments):
        label = tile * BLOCK_L + tl.arange(0, BLOCK_L)
        present = (label < count)[:, None] & (row < rows)[None, :]
        z = tl.load(logits + label.to(tl.int64)[:, None] * row_stride + row[None, :], mask=present, other=float("-inf"))
        keys = _keys_of(z, (start + label).to(tl.int64)[:, None])  # (C, R)
        worst, candidate = tl.min(best, axis=0), tl.max(keys, axis=0)  # (R,)
        while tl.max((candidate > worst).to(tl.int32), axis=0) > 0:
            better = candidate > worst
            best = tl.where((best == worst[None, :]) & better[None, :], candidate[None, :], best)
            keys = tl.where(keys == candidate[None, :], _SMALLEST, keys)
            worst, candidate = tl.min(best, axis=0), tl.max(keys, axis=0)
    tl.store(kept + own, best, mask=there)


class _Best:
    """The k best keys of every segment and row so far; see :func:`_keys_of`."""

    def __init__(self, rows: int, k: int, device: torch.device) -> None:
        segments = program_count(device, _SEGMENTS, _SEGMENTS)
        # Below every key, and none like another: one at a time is given up.
        self._kept = (torch.arange(k, device=device) - (2**63 - 1)).expand(segments, rows, k).contiguous()

    def add(self, logits: Tensor, start: int) -> None:
        """Merge the logits (C, B) of labels start, start + 1, ..."""
        segments, rows, k = self._kept.shape
        block_rows = power_of_two(rows, 1, 16)
        _select_kernel[segments, -(-rows // block_rows)](
            logits,
            rows,
            logits.stride(0),
            start,
            len(logits),
            self._kept,
            k,
            BLOCK_L=1024 if INTERPRETED else 64,
            BLOCK_B=block_rows,
            BLOCK_K=triton.next_power_of_2(k),
        )

    def result(self) -> tuple[Tensor, Tensor]:
        """Scores (B, k) descending and labels (B, k), -inf and -1 where nothing was found."""
        _, rows, k = self._kept.shape
        keys = self._kept.transpose(0, 1).reshape(rows, -1).topk(k, dim=1).values
        found = keys >= 2**32 - 2**63
        high = (keys >> 32).to(torch.int32)
        scores = (high ^ ((high >> 31) & 0x7FFF_FFFF)).view(torch.float32)
        labels = 0xFFFF_FFFF - (keys & 0xFFFF_FFFF)
        return scores.where(found, -torch.inf), labels.where(found, -1)


def topk(
    layer: SparseWeights, x: Tensor, k: int, exclude: Positives | None, shared: SharedScores | None
) -> tuple[Tensor, Tensor]:
    """The k best labels a row; see :meth:`fanin.kernels.spec.Backend.topk`. There is at least one row."""
    B, L = len(x), len(layer.weight)
    family = grouped if grouped.serves(layer) else per_label
    logits = family.Logits(layer, x, shared)
    groups = -(-max(CHUNK_BYTES // (4 * B), 1) // layer.group_size)
    chunk = min(groups * layer.group_size, L)
    room = torch.empty(chunk, B, device=x.device)
    best, streaming = _Best(B, min(k, MOST_KEPT), x.device), StreamingTopK(B, k, x)
    rows = None if exclude is None else rows_of(exclude)
    for start in range(0, L, chunk):
        part = room[: min(chunk, L - start)]
        logits.write(part, B, 1, start, start + len(part))
        if exclude is not None and rows is not None:
            inside = (exclude.indices >= start) & (exclude.indices < start + len(part))
            part[exclude.indices[inside] - start, rows[inside]] = -torch.inf
        if k <= MOST_KEPT:
            best.add(part, start)
        else:
            streaming.add(part.T, start, None)
    return best.result() if k <= MOST_KEPT else (streaming.scores, streaming.labels)
