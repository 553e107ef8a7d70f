"""From a tile of logits to the gradient of the loss by them, inside a kernel: positives and shared scores."""

from __future__ import annotations

import triton
import triton.language as tl

from fanin.kernels.triton.losses import loss_and_gradient


@triton.jit
def complete_logits(z, bias, shared, labels, rows, present):
    """Logits from the products: adds the bias and what clusters share.

    Args:
        z: (C, R) float32.
        bias: (C,) float32, or None.
        shared: an :class:`fanin.kernels.triton.arguments.Shared`, or None.
        labels: (C,) int64.
        rows: (R,) int32.
        present: (C, R), which of them there are.
    """
    if shared is not None:
        places = (labels // shared.cluster_size)[:, None] * shared.rows + rows[None, :]
        z += tl.load(shared.scores + places, mask=present, other=0.0)
    if bias is not None:
        z += bias[:, None]
    return z


@triton.jit
def gradient_of_logits(z, pairs, tile, first, rows, present, scale, LOSS: tl.constexpr):
    """The sum of a tile's losses, not scaled, and their scaled gradient by its logits, zero where nothing is present.

    Args:
        z: (C, R) float32.
        pairs: an :class:`fanin.kernels.triton.arguments.Pairs`.
        tile: the number of the tile in it.
        first: the tile's first label.
        rows: (R,) int32.
        present: (C, R), which of them there are.
        scale: factor of the gradient.
        LOSS: of ``losses.LOSS_NUMBER``.
    """
    begin, end = tl.load(pairs.starts + tile), tl.load(pairs.starts + tile + 1)
    columns = tl.arange(0, z.shape[0])
    sign = tl.full(z.shape, 1.0, tl.float32)
    if pairs.margins is not None:
        margin = tl.zeros(z.shape, tl.float32)
    if pairs.weights is not None:
        factor = tl.full(z.shape, 1.0, tl.float32)
    for pair in range(begin, end):
        label, row = tl.load(pairs.labels + pair) - first, tl.load(pairs.rows + pair)
        hit = (columns == label)[:, None] & (rows == row)[None, :]
        sign = tl.where(hit, -1.0, sign)
        if pairs.margins is not None:
            margin = tl.where(hit, tl.load(pairs.margins + pair), margin)
        if pairs.weights is not None:
            factor = tl.where(hit, tl.load(pairs.weights + pair), factor)
    turned = sign * z
    if pairs.margins is not None:
        turned += margin
    value, gradient = loss_and_gradient(turned, LOSS)
    if pairs.weights is not None:
        value *= factor
        gradient *= factor
    total = tl.sum(tl.where(present, value, 0.0))
    return total, tl.where(present, gradient * sign * scale, 0.0)


@triton.jit
def add_shared_gradient(gradient, shared, labels, rows, present):
    """Add a tile's gradient (C, R) to that of the scores of its labels' clusters."""
    if shared is not None:
        clusters = labels // shared.cluster_size
        last = tl.max(tl.where(tl.max(present.to(tl.int32), axis=1) > 0, clusters, -1))
        here = tl.max(present.to(tl.int32), axis=0) > 0
        for cluster in range(tl.min(clusters), last + 1):
            share = tl.sum(tl.where((clusters == cluster)[:, None], gradient, 0.0), axis=0)  # (R,)
            tl.atomic_add(shared.grad + cluster * shared.rows + rows, share, mask=here, sem="relaxed")
