"""What the kernels for GPUs make for a while, and what a GPU holds whatever runs on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from fanin.classifier.sparse import SparseLinear

CONTEXT = 600 << 20
"""CUDA's context, loaded kernels and the rooms of its libraries: assumed, no GPU was at hand to measure it."""

ENCODED_AT_A_TIME = 32_768
"""Padded tokens of a frozen transformer on a GPU (:mod:`fanin.encoders.transformer_encoder`)."""

_FLOAT, _LONG = 4, 8
_GROUPED = 8  # labels that share a set, from which on kernels work on whole groups
_DX_COPIES, _DX_BYTES = 8, 64 << 20
_CHUNK_BYTES, _CHUNK_LABELS = 32 << 20, 1 << 16
_TILE_LABELS = 8
_PADDED_ROWS = 16


def sparse_step_bytes(layer: SparseLinear, rows: int, active: float) -> float:
    """The most that a fused step of a sparse layer makes for a while, but for scores that clusters share.

    Args:
        layer: its weights may be without memory.
        rows: B.
        active: inputs that are active in a batch; 0 where x is dense.
    """
    width, stride = _width(layer, active), -(-rows // _PADDED_ROWS) * _PADDED_ROWS
    operand = _FLOAT if layer.weight.dtype is torch.float32 else 2
    x = width * stride * operand + 2 * rows * width * _FLOAT  # turned for the kernels; contiguous; its gradient
    if layer.group_size >= _GROUPED:
        copies = min(_DX_COPIES, max(1, _DX_BYTES // int(_FLOAT * width * stride)))
        return x + (copies + 1) * _FLOAT * width * stride + 5 * _LONG * len(layer.index) + _narrowed(layer, active)
    chunk = min(_CHUNK_BYTES // (operand * int(width)), _CHUNK_LABELS, layer.out_features)
    room = chunk * (width + stride) * operand
    tiles = layer.out_features / _TILE_LABELS
    return x + room + 2 * _FLOAT * width * stride + 3 * _LONG * tiles + _narrowed(layer, active)


def sparse_ranking_bytes(layer: SparseLinear, rows: int, active: float) -> float:
    """The most that finding the best labels makes for a while; arguments as of :func:`sparse_step_bytes`."""
    return 3 * rows * _width(layer, active) * _FLOAT + _CHUNK_BYTES + _narrowed(layer, active)


def _width(layer: SparseLinear, active: float) -> float:
    return active or layer.in_features


def _narrowed(layer: SparseLinear, active: float) -> int:
    """Index sets into the active columns, and their making."""
    return layer.index.numel() * (2 + _LONG) if active else 0
