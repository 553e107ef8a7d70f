"""Index sets: which inputs the labels of a fixed fan-in layer read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.errors import CheckpointError, ConfigError
from fanin.kernels import dispatch
from fanin.kernels.spec import index_dtype

if TYPE_CHECKING:
    from torch import Tensor

_CHECK_ROWS = 65_536


def set_count(out_features: int, group_size: int) -> int:
    """How many index sets L labels in groups of G have; the last group may be short.

    >>> set_count(10, 4)
    3
    """
    return -(-out_features // group_size)


def draw_index(
    sets: int,
    fan_in: int,
    inputs: int,
    seed: int,
    backend: str | None = None,
    device: torch.device | None = None,
    first_set: int = 0,
) -> Tensor:
    """Random index sets (S, F). A seed means the same sets on every backend.

    Args:
        sets: S.
        fan_in: F.
        inputs: each set is a uniform random subset of [0, inputs).
        seed: 63 bits.
        backend: "reference", "cpu" or "triton" to force one.
        device: where they are wanted, by default on the CPU.
        first_set: number of the first one; with the seed, a set's number decides what it holds.

    Returns:
        uint16 up to 65,536 inputs, int32 beyond.
    """
    device = device or torch.device("cpu")
    drawer = dispatch.choose(device, torch.float32, backend).backend
    return drawer.draw_index(sets, fan_in, inputs, seed, first_set).to(device)


def check_shape(in_features: int, fan_in: int, group_size: int) -> None:
    """Refuse a fan-in or group size that cannot be.

    Raises:
        ConfigError: naming the setting.
    """
    if not 1 <= fan_in <= in_features:
        raise ConfigError(
            f"fan_in={fan_in} must lie between 1 and the number of inputs, {in_features}: a label cannot read more "
            "inputs than there are; lower classifier.fan_in or widen the encoder"
        )
    if group_size < 1:
        raise ConfigError(f"group_size={group_size} must be at least 1 (1: every label has an index set of its own)")


def check_index(index: Tensor, shape: tuple[int, ...], in_features: int) -> None:
    """Refuse index sets that a kernel must not see.

    Args:
        index: the sets that were read.
        shape: (S, F) of the layer that they are meant for.
        in_features: D.

    Raises:
        CheckpointError: wrong shape or dtype, an input out of range, or one that stands twice in a set.
    """
    if tuple(index.shape) != shape:
        raise CheckpointError(f"index sets have shape {tuple(index.shape)}; this layer needs {shape}")
    if index.dtype != index_dtype(in_features):
        raise CheckpointError(
            f"index sets are {index.dtype}; for {in_features} inputs they must be {index_dtype(in_features)}"
        )
    for start in range(0, len(index), _CHECK_ROWS):
        rows = index[start : start + _CHECK_ROWS].to(torch.int32).sort(dim=1).values  # (n, F)
        bad = (rows[:, 0] < 0) | (rows[:, -1] >= in_features)
        if bool(bad.any()):
            raise CheckpointError(
                f"index set {start + int(bad.nonzero()[0])} names an input outside 0..{in_features - 1}"
            )
        twice = (rows[:, 1:] == rows[:, :-1]).any(dim=1)
        if bool(twice.any()):
            raise CheckpointError(f"index set {start + int(twice.nonzero()[0])} names an input twice")
