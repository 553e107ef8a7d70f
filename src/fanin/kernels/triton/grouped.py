"""The kernels for groups of labels that share an index set: gather its inputs once, then products of tiles.

A tile is a group, or a part of a large one; a program works on every n-th tile. The inputs' gradient is added to
copies of dx by atomic additions: F rows of a batch tile each, which lie together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import triton
import triton.language as tl

from fanin.kernels.triton import updates
from fanin.kernels.triton.arguments import (
    batch_arguments,
    batch_sizes,
    layer_arguments,
    power_of_two,
    program_count,
    rounding_key,
    shared_arguments,
    sorted_pairs,
    stored_format,
)
from fanin.kernels.triton.gradients import add_shared_gradient, complete_logits, gradient_of_logits
from fanin.kernels.triton.losses import LOSS_NUMBER
from fanin.kernels.triton.products import BFLOAT16_OPERANDS, operand, product, product_kind
from fanin.kernels.triton.storage import narrowed, widened
from fanin.kernels.triton.tiles import (
    Tiles,
    dx_copies,
    order_is_fixed,
    sum_of_copies,
    tile_of_program,
    tiles_of_program,
    unit_of_clusters,
)
from fanin.kernels.triton.updates import updated

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.kernels.spec import Loss, Moments, Positives, SharedScores, SparseWeights, Update
    from fanin.kernels.triton.arguments import Batch


class Tuning(NamedTuple):
    """How a kernel is laid out.

    Attributes:
        rows: of the batch in a tile.
        labels: most labels in a tile.
        warps: of a program.
        registers: most a thread may use.
        programs: a multiprocessor.
    """

    rows: int
    labels: int
    warps: int
    registers: int
    programs: int


# By whether products are of bfloat16, and by the padded fan-in. No GPU was at hand to measure these: they are large
# tiles that compile for sm_80 and sm_90 with few or no registers spilled to memory.
TUNING = {
    (True, 16): Tuning(128, 32, 8, 128, 2),
    (True, 32): Tuning(128, 32, 8, 128, 2),
    (True, 64): Tuning(128, 32, 8, 128, 2),
    (True, 128): Tuning(64, 32, 8, 128, 2),
    (True, 256): Tuning(64, 32, 8, 255, 1),
    (False, 16): Tuning(64, 32, 8, 128, 2),
    (False, 32): Tuning(32, 32, 8, 128, 2),
    (False, 64): Tuning(32, 32, 8, 128, 2),
    (False, 128): Tuning(32, 32, 8, 128, 2),
    (False, 256): Tuning(16, 16, 8, 128, 2),
}
SMALLEST_GROUP = 8
"""Groups from so many labels on are worth the products of tiles; a tile holds 16 labels at least."""
LARGEST_FAN_IN = 256
"""The most inputs of a set that a tile holds."""


def serves(layer: SparseWeights) -> bool:
    """Whether these kernels are the ones for a layer."""
    return layer.group_size >= SMALLEST_GROUP and layer.weight.shape[1] <= LARGEST_FAN_IN


@triton.jit
def tile_labels(layer, tile, BLOCK_G: tl.constexpr):
    """The group of a tile, its first label, and which of its labels there are."""
    parts = tl.cdiv(layer.group_size, BLOCK_G)
    group = (tile // parts).to(tl.int64)
    start = (tile % parts) * BLOCK_G
    first = group * layer.group_size + start
    count = tl.minimum((layer.group_size - start).to(tl.int64), layer.labels - first)
    return group, first, tl.arange(0, BLOCK_G) < count


@triton.jit
def tile_index(layer, group, WIDE: tl.constexpr, BLOCK_F: tl.constexpr):
    """The inputs of a group's set, and which of the slots there are."""
    slots = tl.arange(0, BLOCK_F)
    present = (slots < layer.fan_in) & (group * layer.group_size < layer.labels)
    index = tl.load(layer.index_sets + group * layer.fan_in + slots, mask=present, other=0)
    return index.to(tl.int64 if WIDE else tl.int32), present


@triton.jit
def weight_places(layer, present, BLOCK_G: tl.constexpr, BLOCK_F: tl.constexpr):
    """The places of a tile's weights (G, F) behind the first label's first, and which of them there are."""
    slots = tl.arange(0, BLOCK_F)
    places = tl.arange(0, BLOCK_G)[:, None] * layer.fan_in + slots[None, :]
    return places, present[:, None] & (slots < layer.fan_in)[None, :]


@triton.jit
def tile_weights(layer, first, present, FORMAT: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_F: tl.constexpr):
    """A tile's weights (G, F) in float32."""
    places, there = weight_places(layer, present, BLOCK_G, BLOCK_F)
    return widened(tl.load(layer.bits + first * layer.fan_in + places, mask=there, other=0), FORMAT)


@triton.jit
def tile_inputs(batch, index, present, rows):
    """The inputs that a set reads, (F, R), for some rows."""
    inside = present[:, None] & (rows < batch.stride)[None, :]
    return tl.load(batch.x + (index[:, None] * batch.stride + rows[None, :]), mask=inside, other=0.0)


@triton.jit
def add_to_dx(dx, share, index, present, rows, batch, dense_inputs):
    """Add the inputs' gradient (F, R) of a set to a copy of dx."""
    inside = (present & (index < dense_inputs))[:, None] & (rows < batch.stride)[None, :]
    tl.atomic_add(dx + (index[:, None] * batch.stride + rows[None, :]), share, mask=inside, sem="relaxed")


@triton.jit
def own_copy(dx, copies, batch, dense_inputs):
    """The copy of dx that this program adds to."""
    return dx + (tl.program_id(0) % copies).to(tl.int64) * dense_inputs * batch.stride


@triton.jit
def _update_tile(
    layer, moments, first, present, gradient, rule, key_low, key_high, first_element,
    FORMAT: tl.constexpr, UPDATE: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_F: tl.constexpr,
):  # fmt: skip
    """Update a tile's weights with their gradient (G, F). They are read once more: to keep them costs registers."""
    places, there = weight_places(layer, present, BLOCK_G, BLOCK_F)
    places += first * layer.fan_in
    old = widened(tl.load(layer.bits + places, mask=there, other=0), FORMAT)
    new = updated(old, gradient, moments, places, there, rule, rule.decay, UPDATE)
    tl.store(layer.bits + places, narrowed(new, places + first_element, key_low, key_high, FORMAT), mask=there)


@triton.jit(do_not_specialize=["key_low", "key_high", "first_element"])
def _step_kernel(
    layer, moments, bias_moments, batch, shared, pairs, tiles, dx, copies, dense_inputs, losses, scale, rule,
    key_low, key_high, first_element, FORMAT: tl.constexpr, DOT: tl.constexpr, LOSS: tl.constexpr,
    UPDATE: tl.constexpr, ORDERED: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_G: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    dx = own_copy(dx, copies, batch, dense_inputs)
    loss = tl.zeros((), tl.float64)
    for i in range(tiles_of_program(tiles)):
        tile = tile_of_program(tiles, i)
        group, first, present = tile_labels(layer, tile, BLOCK_G)
        labels = first + tl.arange(0, BLOCK_G)
        index, slots = tile_index(layer, group, WIDE, BLOCK_F)  # (F,)
        weight = operand(tile_weights(layer, first, present, FORMAT, BLOCK_G, BLOCK_F), DOT)  # (G, F)
        bias = None
        if layer.bias is not None:
            bias = tl.load(layer.bias + labels, mask=present, other=0.0)  # (G,)
            bias_gradient = tl.zeros((BLOCK_G,), tl.float32)
        gradient = tl.zeros((BLOCK_G, BLOCK_F), tl.float32)
        for start in range(0, batch.rows, BLOCK_B):
            rows = start + tl.arange(0, BLOCK_B)
            both = present[:, None] & (rows < batch.rows)[None, :]  # (G, R)
            x = tile_inputs(batch, index, slots, rows)  # (F, R)
            z = complete_logits(product(weight, x, DOT), bias, shared, labels, rows, both)  # (G, R)
            value, by_logits = gradient_of_logits(z, pairs, tile, first, rows, both, scale, LOSS)
            loss += value
            add_shared_gradient(by_logits, shared, labels, rows, both)
            if layer.bias is not None:
                bias_gradient += tl.sum(by_logits, axis=1)
            by_logits = operand(by_logits, DOT)
            gradient += product(by_logits, tl.trans(x), DOT)
            add_to_dx(dx, product(tl.trans(weight), by_logits, DOT), index, slots, rows, batch, dense_inputs)
        _update_tile(
            layer, moments, first, present, gradient, rule, key_low, key_high, first_element,
            FORMAT, UPDATE, BLOCK_G, BLOCK_F,
        )  # fmt: skip
        if layer.bias is not None:
            new_bias = updated(bias, bias_gradient, bias_moments, labels, present, rule, 0.0, UPDATE)
            tl.store(layer.bias + labels, new_bias, mask=present)
        if ORDERED:
            tl.debug_barrier()  # this tile's additions come before those of the next, whichever threads make them
    tl.store(losses + tl.program_id(0), loss)


@triton.jit
def _forward_kernel(
    layer, batch, shared, tiles, first_tile, first_label, out, label_stride, row_stride, FORMAT: tl.constexpr,
    DOT: tl.constexpr, WIDE: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    for i in range(tiles_of_program(tiles)):
        group, first, present = tile_labels(layer, first_tile + tile_of_program(tiles, i), BLOCK_G)
        labels = first + tl.arange(0, BLOCK_G)
        index, slots = tile_index(layer, group, WIDE, BLOCK_F)  # (F,)
        weight = operand(tile_weights(layer, first, present, FORMAT, BLOCK_G, BLOCK_F), DOT)  # (G, F)
        bias = None
        if layer.bias is not None:
            bias = tl.load(layer.bias + labels, mask=present, other=0.0)  # (G,)
        for start in range(0, batch.rows, BLOCK_B):
            rows = start + tl.arange(0, BLOCK_B)
            both = present[:, None] & (rows < batch.rows)[None, :]  # (G, R)
            x = tile_inputs(batch, index, slots, rows)  # (F, R)
            z = complete_logits(product(weight, x, DOT), bias, shared, labels, rows, both)
            places = (labels - first_label)[:, None] * label_stride + rows.to(tl.int64)[None, :] * row_stride
            tl.store(out + places, z, mask=both)


class Plan:
    """The tiles of a layer and how a kernel runs over them."""

    def __init__(self, layer: SparseWeights, rows: int) -> None:
        fan_in = power_of_two(layer.weight.shape[1], 16, LARGEST_FAN_IN)
        self.dot = product_kind(layer.weight.dtype)
        self.tuning = TUNING[self.dot in {2, 3}, fan_in]
        self.group_labels = power_of_two(layer.group_size, 16, self.tuning.labels)
        self.parts = -(-layer.group_size // self.group_labels)  # tiles a group
        self.tiles = len(layer.index) * self.parts
        self.device = layer.weight.device
        self.format = stored_format(layer.weight.dtype)
        self.options = {
            "DOT": self.dot,
            "WIDE": layer.in_features * batch_sizes(rows, 1).stride >= 2**31,
            "BLOCK_G": self.group_labels,
            "BLOCK_F": fan_in,
            "BLOCK_B": power_of_two(rows, 16, self.tuning.rows),
            "num_warps": self.tuning.warps,
            "maxnreg": self.tuning.registers,
        }

    def batch(self, x: Tensor) -> Batch:
        """X as the kernels take it."""
        dtype = torch.bfloat16 if self.dot == BFLOAT16_OPERANDS.value else torch.float32
        return batch_arguments(x, dtype, rounded=self.dot in {2, 3})

    def programs(self, units: int) -> int:
        """How many programs share so many units of work."""
        return program_count(self.device, units, self.tuning.programs)

    def first_labels(self, layer: SparseWeights, tiles: int) -> Tensor:
        """The first label of every tile and the one behind the last, (tiles + 1,)."""
        tile = torch.arange(tiles + 1, device=self.device)
        first = tile // self.parts * layer.group_size + tile % self.parts * self.group_labels
        return first.clamp_max(len(layer.weight))


class Logits:
    """Writes the logits of a batch, any range of labels at a time.

    Args:
        layer: the layer.
        x: (B, D), at least one row.
        shared: what clusters add.
    """

    def __init__(self, layer: SparseWeights, x: Tensor, shared: SharedScores | None) -> None:
        self._layer, self._plan = layer, Plan(layer, len(x))
        self._arguments = layer_arguments(layer), self._plan.batch(x), shared_arguments(shared)

    def write(self, out: Tensor, label_stride: int, row_stride: int, first_label: int, stop_label: int) -> None:
        """Write the logits of the labels [first_label, stop_label).

        Args:
            out: float32; label ``l`` of row ``b`` goes to ``(l - first_label) * label_stride + b * row_stride``.
            label_stride: see ``out``.
            row_stride: see ``out``.
            first_label: a multiple of the group size.
            stop_label: likewise, or L.
        """
        plan, G = self._plan, self._layer.group_size
        first_tile = first_label // G * plan.parts
        tiles = -(-stop_label // G) * plan.parts - first_tile
        _forward_kernel[plan.programs(tiles),](
            *self._arguments,
            Tiles(tiles, 1),
            first_tile,
            first_label,
            out,
            label_stride,
            row_stride,
            FORMAT=plan.format,
            **plan.options,
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
    plan, ordered = Plan(layer, len(x)), order_is_fixed()
    per_unit = 1
    if ordered and shared is not None:
        per_unit = unit_of_clusters(layer.group_size, plan.parts, shared.cluster_size, plan.tiles)
    units = -(-plan.tiles // per_unit)
    batch, programs = plan.batch(x), plan.programs(units)
    with_gradient = layer.in_features if layer.dense_inputs is None else layer.dense_inputs
    dx = dx_copies(with_gradient, batch.stride, programs, x.device, ordered=ordered)
    programs = len(dx) if ordered else programs
    losses = torch.empty(programs, dtype=torch.float64, device=x.device)
    own_shared = shared_arguments(shared, gradient=True)
    _step_kernel[programs,](
        layer_arguments(layer),
        moments.weight,
        moments.bias,
        batch,
        own_shared,
        sorted_pairs(positives, plan.first_labels(layer, units * per_unit)),
        Tiles(units, per_unit),
        dx,
        len(dx),
        with_gradient,
        losses,
        scale,
        updates.rule(update, step),
        *rounding_key(layer, step),
        FORMAT=plan.format,
        LOSS=LOSS_NUMBER[loss],
        UPDATE=updates.kind(update),
        ORDERED=ordered,
        **plan.options,
    )
    return scale * losses.sum(), sum_of_copies(dx, len(x), layer.in_features), own_shared and own_shared.grad
