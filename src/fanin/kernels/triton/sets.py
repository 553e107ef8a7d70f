"""Index sets: draw, prune and regrow, bit for bit as :mod:`fanin.kernels.drawing` and the reference define it.

A program works on a few sets at a time; all slots of a set lie in one tile. Sorting is counting: the rank of a slot is
how many others come before it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from fanin.kernels.spec import index_dtype
from fanin.kernels.triton.arguments import layer_arguments, program_count, stored_format
from fanin.kernels.triton.products import INTERPRETED
from fanin.kernels.triton.storage import widened

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.kernels.spec import Moments, Prune, SparseWeights

_TILE_SLOTS = 4096 if INTERPRETED else 512  # the interpreter takes the same time for a small tile as for a large one
_PROGRAMS = 16  # a multiprocessor


@triton.jit
def _mix(value):
    """:func:`fanin.kernels.drawing.mix`, of uint64."""
    value = value + 0x9E3779B97F4A7C15
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB
    return value ^ (value >> 31)


@triton.jit
def _draw(keys, i, bound):
    """Draw number ``i`` of each set, uniform in [0, bound), from the keys (N,) of the sets; int64."""
    high = _mix(keys + i.to(tl.uint64)) >> 32
    return ((high * bound.to(tl.uint64)) >> 32).to(tl.int64)


@triton.jit
def _keys(seed, sets):
    """The keys of some sets (N,) int64 for a seed."""
    return _mix(seed.to(tl.uint64) + _mix(sets.to(tl.uint64)))


@triton.jit
def _column(tile, columns, i):
    """Column ``i`` of a tile of integers (N, W), (N,)."""
    return tl.sum(tl.where(columns[None, :] == i, tile, 0), axis=1)


@triton.jit
def _draw_subset(keys, size, population, most, columns):
    """Floyd's subsets (N, W) int64, as :func:`fanin.kernels.drawing.draw_subset`; -1 behind the size.

    Args:
        keys: (N,) of :func:`_keys`.
        size: (N,) int64, how many to draw for each set.
        population: (N,) int64, how many to draw from.
        most: no size is larger.
        columns: (W,), 0 to W - 1, at least ``most`` of them.
    """
    chosen = tl.full((keys.shape[0], columns.shape[0]), -1, tl.int64)
    for number in range(most):
        i = tl.cast(number, tl.int64)
        last = population - size + i
        value = _draw(keys, i, last + 1)
        taken = tl.max((chosen == value[:, None]).to(tl.int32), axis=1) > 0
        value = tl.where(i < size, tl.where(taken, last, value), -1)
        chosen = tl.where(columns[None, :] == number, value[:, None], chosen)
    return chosen


@triton.jit(do_not_specialize=["seed", "first_set"])
def _draw_kernel(out, sets, fan_in, in_features, seed, first_set, WIDTH: tl.constexpr, SETS: tl.constexpr):
    columns = tl.arange(0, WIDTH)
    for tile in range(tl.program_id(0), tl.cdiv(sets, SETS), tl.num_programs(0)):
        own = tl.cast(tile, tl.int64) * SETS + tl.arange(0, SETS)
        size = tl.full((SETS,), 0, tl.int64) + fan_in
        population = tl.full((SETS,), 0, tl.int64) + in_features
        keys = _keys(tl.full((), 0, tl.int64) + seed, own + first_set)
        chosen = _draw_subset(keys, size, population, fan_in, columns)
        there = (own < sets)[:, None] & (columns < fan_in)[None, :]
        tl.store(out + own[:, None] * fan_in + columns[None, :], chosen.to(out.dtype.element_ty), mask=there)


@triton.jit
def _scores(layer, own, there, slots, FORMAT: tl.constexpr):
    """The mean of |w| over each group's labels, (N, W) float64; infinite where it is no number."""
    first = own * layer.group_size
    members = tl.minimum(layer.labels - first, layer.group_size)  # (N,)
    total = tl.zeros(there.shape, tl.float64)
    for member in range(layer.group_size):
        present = there & (member < members)[:, None]
        places = (first + member)[:, None] * layer.fan_in + slots[None, :]
        total += tl.abs(widened(tl.load(layer.bits + places, mask=present, other=0), FORMAT)).to(tl.float64)
    mean = total / tl.maximum(members, 1).to(tl.float64)[:, None]
    return tl.where(mean >= 0, mean, float("inf"))


@triton.jit
def _ranks(values, slots, count):
    """How many of the first ``count`` columns come before each column, (N, W): smaller, or equal and before it."""
    rank = tl.zeros(values.shape, tl.int32)
    for i in range(count):
        # Subtraction would round or meet infinities; a masked maximum takes the column out unchanged.
        other = tl.max(tl.where((slots == i)[None, :], values, _least(values)), axis=1)[:, None]
        rank += ((other < values) | ((other == values) & (i < slots)[None, :])).to(tl.int32)
    return rank


@triton.jit
def _least(values):
    """Something no larger than any of the values, which are not negative."""
    return tl.zeros(values.shape, values.dtype) - 1


@triton.jit(do_not_specialize=["seed", "first_set"])
def _rewire_kernel(
    layer, moments, sets, limit, threshold, seed, first_set, inputs, replaced,
    FORMAT: tl.constexpr, WIDTH: tl.constexpr, GROWN: tl.constexpr, SETS: tl.constexpr,
):  # fmt: skip
    slots, places = tl.arange(0, WIDTH), tl.arange(0, GROWN)
    for tile in range(tl.program_id(0), tl.cdiv(sets, SETS), tl.num_programs(0)):
        own = tl.cast(tile, tl.int64) * SETS + tl.arange(0, SETS)
        there = (own < sets)[:, None] & (slots < layer.fan_in)[None, :]
        index_places = own[:, None] * layer.fan_in + slots[None, :]
        index = tl.load(layer.index_sets + index_places, mask=there, other=0).to(tl.int64)  # (N, W)
        score = _scores(layer, own, there, slots, FORMAT)
        rank = _ranks(score, slots, layer.fan_in)
        used = tl.sum((there & (index < inputs)).to(tl.int64), axis=1)  # (N,)
        most = tl.minimum(inputs - used, limit)
        pruned = there & (rank < most[:, None]) & (score < threshold)
        count = tl.sum(pruned.to(tl.int64), axis=1)
        tl.store(replaced + own, count.to(tl.int32), mask=own < sets)
        keys = _keys(tl.full((), 0, tl.int64) + seed, own + first_set)
        grown = _draw_subset(keys, count, inputs - used, limit, places)
        # Rank r among the unused inputs: step over the used ones, the smallest first.
        order = _ranks(index, slots, layer.fan_in)
        for i in range(layer.fan_in):
            next_used = tl.sum(tl.where(there & (order == i), index, 0), axis=1)  # (N,)
            grown += ((grown >= next_used[:, None]) & (grown >= 0)).to(tl.int64)
        for i in range(limit):
            index = tl.where(pruned & (rank == i), _column(grown, places, i)[:, None], index)
        tl.store(layer.index_sets + index_places, index.to(layer.index_sets.dtype.element_ty), mask=pruned)
        for member in range(layer.group_size):
            labels = own * layer.group_size + member
            gone = pruned & (labels < layer.labels)[:, None]
            weights = labels[:, None] * layer.fan_in + slots[None, :]
            tl.store(layer.bits + weights, tl.zeros(gone.shape, layer.bits.dtype.element_ty), mask=gone)
            for moment in tl.static_range(len(moments)):
                tl.store(moments[moment] + weights, tl.zeros(gone.shape, tl.float32), mask=gone)


def draw_index(sets: int, fan_in: int, in_features: int, seed: int, device: torch.device, first_set: int = 0) -> Tensor:
    """Index sets (sets, F); see :meth:`fanin.kernels.spec.Backend.draw_index`."""
    index = torch.empty(sets, fan_in, dtype=index_dtype(in_features), device=device)
    width, tile_sets = _tile_shape(fan_in)
    tiles = -(-sets // tile_sets)
    _draw_kernel[program_count(device, tiles, _PROGRAMS),](
        index,
        sets,
        fan_in,
        in_features,
        seed,
        first_set,
        WIDTH=width,
        SETS=tile_sets,
        num_warps=_warps(width * tile_sets),
    )
    return index


def rewire(layer: SparseWeights, moments: Moments, prune: Prune, seed: int, inputs: int) -> Tensor:
    """Prune and regrow; see :meth:`fanin.kernels.spec.Backend.rewire`. ``inputs`` lies in [1, D]."""
    sets, F = layer.index.shape
    device = layer.weight.device
    replaced = torch.empty(sets, dtype=torch.int32, device=device)
    limit = math.floor(prune.fraction * F)
    width, tile_sets = _tile_shape(F)
    _rewire_kernel[program_count(device, -(-sets // tile_sets), _PROGRAMS),](
        layer_arguments(layer),
        moments.weight,
        sets,
        limit,
        math.inf if prune.threshold is None else prune.threshold,
        seed,
        layer.first_label // layer.group_size,
        inputs,
        replaced,
        FORMAT=stored_format(layer.weight.dtype),
        WIDTH=width,
        GROWN=triton.next_power_of_2(max(limit, 1)),
        SETS=tile_sets,
        num_warps=_warps(width * tile_sets),
    )
    return replaced


def _tile_shape(fan_in: int) -> tuple[int, int]:
    """The padded slots of a set, and how many sets a tile holds."""
    width = triton.next_power_of_2(fan_in)
    return width, max(1, _TILE_SLOTS // width)


def _warps(values: int) -> int:
    """Warps for a tile of so many values."""
    return max(1, min(8, values // 512))
