"""How the kernels for labels one by one run over a layer: tiles, chunks, and the room that a chunk needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from fanin.kernels.triton.arguments import batch_arguments, batch_sizes, power_of_two, program_count, stored_format
from fanin.kernels.triton.products import BFLOAT16_OPERANDS, INTERPRETED, product_kind, rounds_operands
from fanin.kernels.triton.tiles import Tiles, order_is_fixed, unit_of_clusters

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.kernels.spec import SparseWeights
    from fanin.kernels.triton.arguments import Batch

CHUNK_BYTES = 1 << 25
"""Of a chunk's dense block, which the caches of a large GPU hold."""
MOST_CHUNK_LABELS = 1 << 16
MOST_INPUTS_A_SLOT = 64
"""Layers of more inputs than this for every slot of a label are too sparse for dense blocks."""


class Tuning(NamedTuple):
    """How the kernels are laid out.

    Attributes:
        rows: of the batch in a tile.
        labels: in a tile that is scored.
        updated_labels: in a tile that is updated.
        slots: of a label in a tile that is updated.
        warps: of a program.
        programs: a multiprocessor.
    """

    rows: int
    labels: int
    updated_labels: int
    slots: int
    warps: int
    programs: int


# No GPU was at hand to measure these: a warp reads whole rows of x and keeps what it works on in registers. The
# interpreter takes the same time for a small tile as for a large one.
TUNING = Tuning(128, 64, 64, 8, 1, 1) if INTERPRETED else Tuning(128, 8, 1, 16, 1, 16)


class Plan:
    """The work on one layer and batch.

    Args:
        layer: the layer.
        rows: B.
        with_gradient: how many inputs get a gradient, the first ones.
        cluster_size: labels that share scores, where their gradient is wanted.

    Attributes:
        dense: whether the inputs' gradient is a product with dense blocks.
        chunk: labels in a chunk.
        per_unit: tiles that one program scores in a row.
        dtype: of x and of blocks.
        dot: how products are computed.
        format: of the stored weights.
        wide: whether places in x or dx need 64 bits.
        rows: of the batch in a tile.
        slots: in a tile that is updated.
    """

    def __init__(self, layer: SparseWeights, rows: int, with_gradient: int = 0, cluster_size: int = 1) -> None:
        L, F = layer.weight.shape
        self._device, self._labels = layer.weight.device, L
        self.dot, self.format = product_kind(layer.weight.dtype), stored_format(layer.weight.dtype)
        self.dtype = torch.bfloat16 if self.dot == BFLOAT16_OPERANDS.value else torch.float32
        self.dense = order_is_fixed() or with_gradient <= MOST_INPUTS_A_SLOT * F
        fitting = CHUNK_BYTES // (self.dtype.itemsize * max(with_gradient, 1)) if self.dense else MOST_CHUNK_LABELS
        tiles = max(1, min(fitting, MOST_CHUNK_LABELS, L + TUNING.labels - 1) // TUNING.labels)
        # Where the order is fixed a cluster belongs to one program, and to one chunk if it fits into one.
        self.per_unit = unit_of_clusters(TUNING.labels, 1, cluster_size, tiles) if order_is_fixed() else 1
        self.chunk = tiles // self.per_unit * self.per_unit * TUNING.labels
        self.wide = layer.in_features * batch_sizes(rows, 1).stride >= 2**31
        self.rows = power_of_two(rows, 16, TUNING.rows)
        self.slots = power_of_two(F, 1, TUNING.slots)

    def batch(self, x: Tensor) -> Batch:
        """X as the kernels take it."""
        return batch_arguments(x, self.dtype, rounded=rounds_operands(self.dot))

    def chunks(self) -> list[tuple[int, int]]:
        """Ranges of labels worked on at a time."""
        return [(start, min(start + self.chunk, self._labels)) for start in range(0, self._labels, self.chunk)]

    def tiles(self, count: int, labels: int, per_unit: int = 1) -> tuple[Tiles, int]:
        """Tiles of so many labels over ``count`` labels, and how many programs share them."""
        units = -(-count // (labels * per_unit))
        return Tiles(units, per_unit), program_count(self._device, units, TUNING.programs)

    def first_labels(self) -> Tensor:
        """The first label of every tile that is scored and the one behind the last, and more for units not full."""
        tiles = -(-self._labels // TUNING.labels) + self.per_unit
        return (torch.arange(tiles + 1, device=self._device) * TUNING.labels).clamp_max(self._labels)

    def block(self, columns: int) -> Tensor:
        """Room for a number a label of a chunk and column."""
        return torch.empty(min(self.chunk, self._labels), columns, dtype=self.dtype, device=self._device)

    def scoring(self) -> dict[str, int | bool]:
        """Constants of the kernels that score."""
        return {
            "FORMAT": self.format,
            "DOT": self.dot,
            "WIDE": self.wide,
            "BLOCK_L": TUNING.labels,
            "BLOCK_B": self.rows,
            "num_warps": TUNING.warps,
        }

    def updating(self) -> dict[str, int | bool]:
        """Constants of the kernel that works on the weights."""
        return {
            "FORMAT": self.format,
            "WIDE": self.wide,
            "BLOCK_L": TUNING.updated_labels,
            "BLOCK_F": self.slots,
            "BLOCK_B": self.rows,
            "num_warps": TUNING.warps,
        }
