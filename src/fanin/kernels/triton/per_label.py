"""The kernels for labels one by one, vectorised over the batch: for sets of their own and for any group size.

A training step works on chunks of labels. One kernel scores a chunk's labels, writes the gradient by their logits and,
beside it, their weights as a dense block; the matrix library multiplies the two to the inputs' gradient, which so needs
no atomic additions; a second kernel (:mod:`fanin.kernels.triton.per_label_weights`) updates the weights. Where the
layer has many more inputs than a label reads, the dense block would be mostly empty: there the second kernel adds to
copies of dx by atomic additions instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from fanin.kernels.triton import updates
from fanin.kernels.triton.arguments import layer_arguments, rounding_key, shared_arguments, sorted_pairs
from fanin.kernels.triton.gradients import add_shared_gradient, complete_logits, gradient_of_logits
from fanin.kernels.triton.losses import LOSS_NUMBER
from fanin.kernels.triton.per_label_plan import TUNING, Plan
from fanin.kernels.triton.per_label_weights import WeightStep, add_products, work_on_weights
from fanin.kernels.triton.products import operand
from fanin.kernels.triton.storage import widened
from fanin.kernels.triton.tiles import dx_copies, sum_of_copies, tile_of_program, tiles_of_program
from fanin.kernels.triton.updates import updated

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.kernels.spec import Loss, Moments, Positives, SharedScores, SparseWeights, Update


@triton.jit
def _products(layer, batch, first, present, rows, dense, FORMAT: tl.constexpr, DOT: tl.constexpr, WIDE: tl.constexpr):
    """The sums of products (C, R) of some labels and rows. Writes the weights to ``dense`` too, if that is given.

    Args:
        layer: an :class:`fanin.kernels.triton.arguments.Layer`.
        batch: an :class:`fanin.kernels.triton.arguments.Batch`.
        first: the first label.
        present: (C,), which of the labels there are.
        rows: (R,) int32.
        dense: None, or (pointer to the first label's row, length of a row).
        FORMAT: of the weights.
        DOT: of ``products``.
        WIDE: whether places in x need 64 bits.
    """
    labels = first + tl.arange(0, present.shape[0])
    own = labels * layer.fan_in
    sets = (labels // layer.group_size) * layer.fan_in
    z = tl.zeros((present.shape[0], rows.shape[0]), tl.float32)
    inside = present[:, None] & (rows < batch.stride)[None, :]
    for slot in tl.range(layer.fan_in, loop_unroll_factor=4):  # four rows of x are under way at a time
        index = tl.load(layer.index_sets + sets + slot, mask=present, other=0).to(
            tl.int64 if WIDE else tl.int32
        )  # (C,)
        weight = widened(tl.load(layer.bits + own + slot, mask=present, other=0), FORMAT)  # (C,)
        x = tl.load(batch.x + (index[:, None] * batch.stride + rows[None, :]), mask=inside, other=0.0)
        z += weight[:, None] * x.to(tl.float32)
        if dense is not None:
            places = tl.arange(0, present.shape[0]).to(tl.int64) * dense[1] + index
            tl.store(dense[0] + places, operand(weight, DOT), mask=present & (index < dense[1]))
    return z


@triton.jit
def _forward_kernel(
    layer, batch, shared, tiles, start, stop, out, label_stride, row_stride, FORMAT: tl.constexpr,
    DOT: tl.constexpr, WIDE: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    for i in range(tiles_of_program(tiles)):
        first = start + tile_of_program(tiles, i).to(tl.int64) * BLOCK_L
        labels = first + tl.arange(0, BLOCK_L)
        present = labels < stop
        bias = None
        if layer.bias is not None:
            bias = tl.load(layer.bias + labels, mask=present, other=0.0)  # (C,)
        for row in range(0, batch.rows, BLOCK_B):
            rows = row + tl.arange(0, BLOCK_B)
            both = present[:, None] & (rows < batch.rows)[None, :]  # (C, R)
            z = _products(layer, batch, first, present, rows, None, FORMAT, DOT, WIDE)
            z = complete_logits(z, bias, shared, labels, rows, both)
            places = (labels - start)[:, None] * label_stride + rows.to(tl.int64)[None, :] * row_stride
            tl.store(out + places, z, mask=both)


@triton.jit
def _score_kernel(
    layer, bias_moments, batch, shared, pairs, first_tile, tiles, start, stop, by_logits, dense, losses, scale, rule,
    FORMAT: tl.constexpr, DOT: tl.constexpr, LOSS: tl.constexpr, UPDATE: tl.constexpr,
    WIDE: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    loss = tl.load(losses + tl.program_id(0))
    for i in range(tiles_of_program(tiles)):
        tile = tile_of_program(tiles, i)
        first = start + tile.to(tl.int64) * BLOCK_L
        labels = first + tl.arange(0, BLOCK_L)
        present = labels < stop
        bias, block = None, None
        if dense is not None:
            block = (dense[0] + (first - start) * dense[1], dense[1])
        if layer.bias is not None:
            bias = tl.load(layer.bias + labels, mask=present, other=0.0)  # (C,)
            bias_gradient = tl.zeros((BLOCK_L,), tl.float32)
        for row in range(0, batch.rows, BLOCK_B):
            rows = row + tl.arange(0, BLOCK_B)
            both = present[:, None] & (rows < batch.rows)[None, :]  # (C, R)
            z = _products(layer, batch, first, present, rows, block, FORMAT, DOT, WIDE)
            z = complete_logits(z, bias, shared, labels, rows, both)
            value, gradient = gradient_of_logits(z, pairs, first_tile + tile, first, rows, both, scale, LOSS)
            loss += value
            add_shared_gradient(gradient, shared, labels, rows, both)
            if layer.bias is not None:
                bias_gradient += tl.sum(gradient, axis=1)
            places = (labels - start)[:, None] * batch.stride + rows[None, :]
            there = present[:, None] & (rows < batch.stride)[None, :]
            tl.store(by_logits + places, operand(gradient, DOT), mask=there)
        if layer.bias is not None:
            new = updated(bias, bias_gradient, bias_moments, labels, present, rule, 0.0, UPDATE)
            tl.store(layer.bias + labels, new, mask=present)
    tl.store(losses + tl.program_id(0), loss)


class Logits:
    """Writes the logits of a batch, any range of labels at a time.

    Args:
        layer: the layer.
        x: (B, D), at least one row.
        shared: what clusters add.
    """

    def __init__(self, layer: SparseWeights, x: Tensor, shared: SharedScores | None) -> None:
        self._plan = Plan(layer, len(x))
        self._arguments = layer_arguments(layer), self._plan.batch(x), shared_arguments(shared)

    def write(self, out: Tensor, label_stride: int, row_stride: int, first_label: int, stop_label: int) -> None:
        """Write the logits of the labels [first_label, stop_label).

        Args:
            out: float32; label ``l`` of row ``b`` goes to ``(l - first_label) * label_stride + b * row_stride``.
            label_stride: see ``out``.
            row_stride: see ``out``.
            first_label: the first.
            stop_label: the one behind the last.
        """
        tiles, programs = self._plan.tiles(stop_label - first_label, TUNING.labels)
        _forward_kernel[programs,](
            *self._arguments,
            tiles,
            first_label,
            stop_label,
            out,
            label_stride,
            row_stride,
            **self._plan.scoring(),
        )


def train_step(
    layer: SparseWeights,
    moments: Moments,
    x: Tensor,
    positives: Positives,
    loss: Loss,
    update: Update,
    step: int,
    scale: float,
    shared: SharedScores | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One fused step; see :meth:`fanin.kernels.spec.Backend.train_step`.

    Returns:
        The loss, a float64 scalar on the device, the gradient by x (B, D), and that by the shared scores.
    """
    with_gradient = layer.in_features if layer.dense_inputs is None else layer.dense_inputs
    plan = Plan(layer, len(x), with_gradient, 1 if shared is None else shared.cluster_size)
    arguments, batch, rule = layer_arguments(layer), plan.batch(x), updates.rule(update, step)
    own_shared = shared_arguments(shared, gradient=True)
    pairs = sorted_pairs(positives, plan.first_labels())
    by_logits, dense = plan.block(batch.stride), plan.block(with_gradient) if plan.dense else None
    most = plan.tiles(plan.chunk, 1)[1]
    dx = dx_copies(with_gradient, batch.stride, 1 if plan.dense else most, x.device, ordered=False)
    losses = torch.zeros(most, dtype=torch.float64, device=x.device)
    weight_step = WeightStep(moments.weight, rule, updates.kind(update), *rounding_key(layer, step))
    for start, stop in plan.chunks():
        if dense is not None:
            dense.zero_()
        tiles, programs = plan.tiles(stop - start, TUNING.labels, plan.per_unit)
        _score_kernel[programs,](
            arguments,
            moments.bias,
            batch,
            own_shared,
            pairs,
            start // TUNING.labels,
            tiles,
            start,
            stop,
            by_logits,
            None if dense is None else (dense, with_gradient),
            losses,
            scale,
            rule,
            LOSS=LOSS_NUMBER[loss],
            UPDATE=updates.kind(update),
            **plan.scoring(),
        )
        if dense is None:
            work_on_weights(plan, arguments, batch, (start, stop), by_logits, dx=dx, step=weight_step)
        else:
            add_products(dx[0], dense[: stop - start], by_logits[: stop - start])
            work_on_weights(plan, arguments, batch, (start, stop), by_logits, step=weight_step)
    return scale * losses.sum(), sum_of_copies(dx, len(x), layer.in_features), own_shared and own_shared.grad
