"""Labels one by one: from the gradient by a chunk's logits to that of the weights and inputs, and to the update."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import triton
import triton.language as tl

from fanin.kernels.triton.arguments import batch_sizes, layer_arguments
from fanin.kernels.triton.per_label_plan import TUNING, Plan
from fanin.kernels.triton.products import rounds_operands
from fanin.kernels.triton.storage import narrowed, widened
from fanin.kernels.triton.tiles import dx_copies, sum_of_copies, tile_of_program, tiles_of_program
from fanin.kernels.triton.updates import updated

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.kernels.spec import SparseWeights
    from fanin.kernels.triton.arguments import Batch, Layer
    from fanin.kernels.triton.updates import Rule


class WeightStep(NamedTuple):
    """An update of the weights.

    Attributes:
        moments: as many tensors (L, F) as the update keeps.
        rule: its numbers.
        kind: which update.
        key_low: of the rounding.
        key_high: of the rounding.
        first_element: number of the first weight among the random bits of the rounding.
    """

    moments: tuple[Tensor, ...]
    rule: Rule
    kind: int
    key_low: int
    key_high: int
    first_element: int


@triton.jit(do_not_specialize=["key_low", "key_high", "first_element"])
def _weights_kernel(
    layer, moments, batch, tiles, start, stop, by_logits, dx, copies, with_gradient, out, rule, key_low, key_high,
    first_element, FORMAT: tl.constexpr, UPDATE: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_L: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    if dx is not None:
        dx += (tl.program_id(0) % copies).to(tl.int64) * with_gradient * batch.stride
    for i in range(tiles_of_program(tiles)):
        labels = start + tile_of_program(tiles, i).to(tl.int64) * BLOCK_L + tl.arange(0, BLOCK_L)
        present = labels < stop
        sets = labels // layer.group_size
        for slot in range(0, layer.fan_in, BLOCK_F):
            slots = slot + tl.arange(0, BLOCK_F)
            there = present[:, None] & (slots < layer.fan_in)[None, :]  # (C, S)
            index = tl.load(layer.index_sets + sets[:, None] * layer.fan_in + slots[None, :], mask=there, other=0)
            index = index.to(tl.int64 if WIDE else tl.int32)
            own = labels[:, None] * layer.fan_in + slots[None, :]
            weight = widened(tl.load(layer.bits + own, mask=there, other=0), FORMAT)  # (C, S)
            gradient = tl.zeros((BLOCK_L, BLOCK_F), tl.float32)
            for row in range(0, batch.rows, BLOCK_B):
                rows = row + tl.arange(0, BLOCK_B)
                padded = rows < batch.stride
                places = (labels - start)[:, None] * batch.stride + rows[None, :]
                g = tl.load(by_logits + places, mask=present[:, None] & padded[None, :], other=0.0)
                g = g.to(tl.float32)[:, None, :]  # (C, 1, R)
                inputs = index[:, :, None] * batch.stride + rows[None, None, :]  # (C, S, R)
                if batch.x is not None:
                    x = tl.load(batch.x + inputs, mask=there[:, :, None] & padded[None, None, :], other=0.0)
                    gradient += tl.sum(g * x.to(tl.float32), axis=2)
                if dx is not None:
                    wanted = (there & (index < with_gradient))[:, :, None] & padded[None, None, :]
                    tl.atomic_add(dx + inputs, weight[:, :, None] * g, mask=wanted, sem="relaxed")
            if rule is not None:
                new = updated(weight, gradient, moments, own, there, rule, rule.decay, UPDATE)
                bits = narrowed(new, own + first_element, key_low, key_high, FORMAT)
                tl.store(layer.bits + own, bits, mask=there)
            if out is not None:
                tl.store(out + own, gradient, mask=there)


def work_on_weights(
    plan: Plan,
    layer: Layer,
    batch: Batch,
    chunk: tuple[int, int],
    by_logits: Tensor,
    *,
    dx: Tensor | None = None,
    out: Tensor | None = None,
    step: WeightStep | None = None,
) -> None:
    """Do with the weights of a chunk of labels what is asked for.

    Args:
        plan: of the layer.
        layer: the layer.
        batch: its x may be None if only ``dx`` is asked for.
        chunk: the first label, and the one behind the last.
        by_logits: (C, stride) gradient by the chunk's logits.
        dx: (copies, D', stride), to add the gradient of the first D' inputs to by atomic additions.
        out: (L, F), for the gradient of the weights.
        step: to update the weights with their gradient.
    """
    tiles, programs = plan.tiles(chunk[1] - chunk[0], TUNING.updated_labels)
    _weights_kernel[programs,](
        layer,
        () if step is None else step.moments,
        batch,
        tiles,
        *chunk,
        by_logits,
        dx,
        0 if dx is None else len(dx),
        0 if dx is None else dx.shape[1],
        out,
        None if step is None else step.rule,
        0 if step is None else step.key_low,
        0 if step is None else step.key_high,
        0 if step is None else step.first_element,
        UPDATE=0 if step is None else step.kind,
        **plan.updating(),
    )


def add_products(dx: Tensor, dense: Tensor, by_logits: Tensor) -> None:
    """Add ``dense.T @ by_logits`` of a chunk, (C, D) and (C, stride), to dx (D, stride), with the sums in float32."""
    if dense.dtype is torch.float32:
        dx.addmm_(dense.T, by_logits)
    else:
        dx.add_(torch.mm(dense.T, by_logits, out_dtype=torch.float32))


def grad_weight(layer: SparseWeights, grad: Tensor, x: Tensor) -> Tensor:
    """The weights' gradient (L, F) from that of the logits (B, L)."""
    plan = Plan(layer, len(grad))
    arguments, batch = layer_arguments(layer), plan.batch(x)
    out = torch.empty(layer.weight.shape, device=grad.device)
    by_logits = plan.block(batch.stride)
    for start, stop in plan.chunks():
        _fill(by_logits, plan, grad, start, stop)
        work_on_weights(plan, arguments, batch, (start, stop), by_logits, out=out)
    return out


def grad_input(layer: SparseWeights, grad: Tensor) -> Tensor:
    """The input's gradient (B, D) from that of the logits (B, L)."""
    D = layer.in_features
    plan, batch = Plan(layer, len(grad), D), batch_sizes(len(grad), D)
    arguments, by_logits = layer_arguments(layer), plan.block(batch.stride)
    dense = plan.block(D) if plan.dense else None
    most = plan.tiles(plan.chunk, 1)[1]
    dx = dx_copies(D, batch.stride, 1 if plan.dense else most, grad.device, ordered=False)
    for start, stop in plan.chunks():
        _fill(by_logits, plan, grad, start, stop)
        if dense is None:
            work_on_weights(plan, arguments, batch, (start, stop), by_logits, dx=dx)
        else:
            labels = torch.arange(start, stop, device=grad.device)
            columns = layer.index[labels // layer.group_size].to(torch.int64)  # (C, F)
            weights = layer.weight.detach()[start:stop].to(dense.dtype)
            block = dense[: stop - start].zero_().scatter_(1, columns, weights)
            add_products(dx[0], block, by_logits[: stop - start])
    return sum_of_copies(dx, len(grad), D)


def _fill(by_logits: Tensor, plan: Plan, grad: Tensor, start: int, stop: int) -> None:
    """Write the gradient of a chunk's logits from (B, L) to (C, stride), zero behind the rows."""
    rows, part = len(grad), grad[:, start:stop].T
    by_logits[: stop - start, :rows] = part.to(torch.bfloat16) if rounds_operands(plan.dot) else part
    by_logits[:, rows:] = 0
