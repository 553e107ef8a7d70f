"""Groups of labels: the gradients by inputs and weights from a gradient by the logits, for autograd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from fanin.kernels.triton.arguments import batch_sizes, layer_arguments
from fanin.kernels.triton.grouped import (
    Plan,
    add_to_dx,
    own_copy,
    tile_index,
    tile_inputs,
    tile_labels,
    tile_weights,
    weight_places,
)
from fanin.kernels.triton.products import operand, product
from fanin.kernels.triton.tiles import (
    Tiles,
    dx_copies,
    order_is_fixed,
    sum_of_copies,
    tile_of_program,
    tiles_of_program,
)

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.kernels.spec import SparseWeights


@triton.jit
def _grad_input_kernel(
    layer, batch, grad, tiles, dx, copies, FORMAT: tl.constexpr, DOT: tl.constexpr, ORDERED: tl.constexpr,
    WIDE: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    dx = own_copy(dx, copies, batch, batch.features)
    for i in range(tiles_of_program(tiles)):
        group, first, present = tile_labels(layer, tile_of_program(tiles, i), BLOCK_G)
        index, slots = tile_index(layer, group, WIDE, BLOCK_F)  # (F,)
        weight = tl.trans(operand(tile_weights(layer, first, present, FORMAT, BLOCK_G, BLOCK_F), DOT))  # (F, G)
        for start in range(0, batch.rows, BLOCK_B):
            rows = start + tl.arange(0, BLOCK_B)
            by_logits = operand(_given_gradient(grad, layer, batch, first, present, rows, BLOCK_G), DOT)  # (G, R)
            add_to_dx(dx, product(weight, by_logits, DOT), index, slots, rows, batch, batch.features)
        if ORDERED:
            tl.debug_barrier()


@triton.jit
def _grad_weight_kernel(
    layer, batch, grad, tiles, out, DOT: tl.constexpr,
    WIDE: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    for i in range(tiles_of_program(tiles)):
        group, first, present = tile_labels(layer, tile_of_program(tiles, i), BLOCK_G)
        index, slots = tile_index(layer, group, WIDE, BLOCK_F)  # (F,)
        gradient = tl.zeros((BLOCK_G, BLOCK_F), tl.float32)
        for start in range(0, batch.rows, BLOCK_B):
            rows = start + tl.arange(0, BLOCK_B)
            by_logits = operand(_given_gradient(grad, layer, batch, first, present, rows, BLOCK_G), DOT)  # (G, R)
            gradient += product(by_logits, tl.trans(tile_inputs(batch, index, slots, rows)), DOT)
        places, there = weight_places(layer, present, BLOCK_G, BLOCK_F)
        tl.store(out + first * layer.fan_in + places, gradient, mask=there)


@triton.jit
def _given_gradient(grad, layer, batch, first, present, rows, BLOCK_G: tl.constexpr):
    """A tile (G, R) of the gradient (B, L) by the logits."""
    both = present[:, None] & (rows < batch.rows)[None, :]
    labels = first + tl.arange(0, BLOCK_G)
    return tl.load(grad + rows.to(tl.int64)[None, :] * layer.labels + labels[:, None], mask=both, other=0.0)


def grad_input(layer: SparseWeights, grad: Tensor) -> Tensor:
    """The input's gradient (B, D) from that of the logits (B, L)."""
    plan, batch = Plan(layer, len(grad)), batch_sizes(len(grad), layer.in_features)
    dx = dx_copies(layer.in_features, batch.stride, plan.programs(plan.tiles), grad.device, ordered=order_is_fixed())
    programs = len(dx) if order_is_fixed() else plan.programs(plan.tiles)
    _grad_input_kernel[programs,](
        layer_arguments(layer),
        batch,
        grad,
        Tiles(plan.tiles, 1),
        dx,
        len(dx),
        FORMAT=plan.format,
        ORDERED=order_is_fixed(),
        **plan.options,
    )
    return sum_of_copies(dx, len(grad), layer.in_features)


def grad_weight(layer: SparseWeights, grad: Tensor, x: Tensor) -> Tensor:
    """The weights' gradient (L, F) from that of the logits (B, L)."""
    plan = Plan(layer, len(grad))
    out = torch.empty(layer.weight.shape, device=grad.device)
    _grad_weight_kernel[plan.programs(plan.tiles),](
        layer_arguments(layer), plan.batch(x), grad, Tiles(plan.tiles, 1), out, **plan.options
    )
    return out
