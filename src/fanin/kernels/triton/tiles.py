"""How tiles of labels are shared among programs, and where these add up the gradient of the inputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor

_COPIES = 8  # of dx: fewer programs that add to the same place at the same time, and shorter sums
_COPIES_BYTES = 1 << 26


class Tiles(NamedTuple):
    """Units of consecutive tiles; program p takes units p, p + programs, p + 2 programs, ...

    Attributes:
        units: how many units there are.
        per_unit: tiles in a unit.
    """

    units: int
    per_unit: int


@triton.jit
def tiles_of_program(tiles):
    """How many tiles this program works on."""
    return tl.cdiv(tiles.units - tl.program_id(0), tl.num_programs(0)) * tiles.per_unit


@triton.jit
def tile_of_program(tiles, i):
    """The number of this program's i-th tile; it may lie behind the last one where units are not full."""
    unit = tl.program_id(0) + (i // tiles.per_unit) * tl.num_programs(0)
    return unit * tiles.per_unit + i % tiles.per_unit


def unit_of_clusters(block: int, tiles_per_block: int, cluster_size: int, tiles: int) -> int:
    """The fewest tiles that hold whole blocks of labels and whole clusters; never more than all tiles.

    Args:
        block: labels in a block that begins where a cluster may begin.
        tiles_per_block: tiles in it.
        cluster_size: labels in a cluster.
        tiles: how many tiles there are.

    >>> unit_of_clusters(block=32, tiles_per_block=1, cluster_size=48, tiles=1000)
    3
    """
    return min(math.lcm(block, cluster_size) // block * tiles_per_block, tiles)


def dx_copies(rows: int, stride: int, programs: int, device: torch.device, *, ordered: bool) -> Tensor:
    """Zeros (copies, rows, stride) to add up a gradient in, one copy a program where the order must be fixed.

    Args:
        rows: inputs that get a gradient.
        stride: of the batch.
        programs: that may add; with ``ordered`` no more than there are copies may run.
        device: where.
        ordered: whether every program needs a copy of its own.
    """
    fitting = max(1, _COPIES_BYTES // max(1, 4 * rows * stride))
    copies = min(programs, fitting, programs if ordered else _COPIES)
    return torch.zeros(copies, rows, stride, device=device)


def sum_of_copies(copies: Tensor, batch_rows: int, in_features: int) -> Tensor:
    """The gradient (B, D) from its copies; zero for the inputs that got none."""
    dx = copies.sum(0)[:, :batch_rows].T
    return torch.nn.functional.pad(dx, (0, in_features - dx.shape[1])).contiguous()


def order_is_fixed() -> bool:
    """Whether sums must not depend on the order in which programs happen to run.

    That is what ``torch.use_deterministic_algorithms(True)`` asks for.
    """
    return torch.are_deterministic_algorithms_enabled()
