"""What kernels take: tensors and sizes by subject, made once a call.

Triton hands a named tuple to a kernel field by field; a field that is None takes the code behind it out of the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from fanin.kernels.drawing import mix_seed
from fanin.kernels.positives import rows_of

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.kernels.spec import Positives, SharedScores, SparseWeights

_STORED_AS = {
    torch.float32: (0, torch.float32),
    torch.bfloat16: (1, torch.uint16),
    torch.float8_e4m3fn: (2, torch.uint8),
}
_ROW_PADDING = 16  # a stride of so many values keeps every row of a batch aligned for the widest loads


class Layer(NamedTuple):
    """A fixed fan-in layer.

    Attributes:
        bits: (L, F) weights as they are stored; low formats as integers (:func:`stored_format`).
        index_sets: (S, F).
        bias: (L,) float32, or None.
        labels: L.
        fan_in: F.
        group_size: G.
    """

    bits: Tensor
    index_sets: Tensor
    bias: Tensor | None
    labels: int
    fan_in: int
    group_size: int


class Batch(NamedTuple):
    """The inputs of a batch, feature by feature: what a label reads of one feature lies together.

    Attributes:
        x: (D, stride) in the dtype of the products, zero behind the rows; None where only the sizes are wanted.
        features: D.
        rows: B.
        stride: B and a padding.
    """

    x: Tensor | None
    features: int
    rows: int
    stride: int


class Shared(NamedTuple):
    """Scores that clusters share, and their gradient.

    Attributes:
        scores: (K, B) float32.
        grad: (K, B) float32, added to; None where no gradient is wanted.
        rows: B.
        cluster_size: labels in a cluster.
    """

    scores: Tensor
    grad: Tensor | None
    rows: int
    cluster_size: int


class Pairs(NamedTuple):
    """Relevant pairs in the order of the labels, with the places where tiles of labels begin.

    Attributes:
        starts: (tiles + 1,) int64, the first pair of every tile.
        labels: (P,) int64.
        rows: (P,) int64.
        weights: (P,) float32, or None.
        margins: (P,) float32, or None.
    """

    starts: Tensor
    labels: Tensor
    rows: Tensor
    weights: Tensor | None
    margins: Tensor | None


def stored_format(dtype: torch.dtype) -> int:
    """The number of a storage format in the kernels: float32 0, bfloat16 1, float8 2."""
    return _STORED_AS[dtype][0]


def as_integers(stored: Tensor) -> Tensor:
    """Stored values by their bits, in the same memory; float32 as it is."""
    return stored.detach().view(_STORED_AS[stored.dtype][1])


def stored_dtypes() -> tuple[torch.dtype, ...]:
    """What the weights can be stored in."""
    return tuple(_STORED_AS)


def layer_arguments(layer: SparseWeights) -> Layer:
    """A layer as a kernel takes it; its weights are of one of :func:`stored_dtypes`."""
    L, F = layer.weight.shape
    bias = None if layer.bias is None else layer.bias.detach()
    return Layer(as_integers(layer.weight), layer.index, bias, L, F, layer.group_size)


def rounding_key(layer: SparseWeights, step: int) -> tuple[int, int, int]:
    """:func:`halves_of_key` for a layer's update, and the number of its first weight; zeros if nothing is rounded."""
    if not stored_format(layer.weight.dtype):
        return 0, 0, 0
    return *halves_of_key(layer.rounding_seed, step), layer.first_label * layer.weight.shape[1]


def halves_of_key(seed: int, step: int) -> tuple[int, int]:
    """The lower and the upper half of the key of a step's random bits, as signed integers of 32 bits."""
    key = mix_seed(seed, step)
    low = key & 0xFFFF_FFFF
    return low - (low >> 31 << 32), key >> 32


def batch_sizes(rows: int, features: int) -> Batch:
    """The sizes of a batch of ``rows`` without its x."""
    return Batch(None, features, rows, -(-rows // _ROW_PADDING) * _ROW_PADDING)


def batch_arguments(x: Tensor, dtype: torch.dtype, *, rounded: bool = False) -> Batch:
    """X (B, D) as a kernel takes it.

    Args:
        x: float32.
        dtype: of the products.
        rounded: whether values are rounded to bfloat16 whatever the dtype.
    """
    B, D = x.shape
    sizes = batch_sizes(B, D)
    turned = torch.zeros(D, sizes.stride, dtype=dtype, device=x.device)
    turned[:, :B] = (x.detach().to(torch.bfloat16) if rounded else x.detach()).T
    return sizes._replace(x=turned)


def shared_arguments(shared: SharedScores | None, *, gradient: bool = False) -> Shared | None:
    """Shared scores as a kernel takes them, with room for their gradient where it is wanted."""
    if shared is None:
        return None
    scores = shared.scores.detach()
    grad = torch.zeros_like(scores) if gradient else None
    return Shared(scores, grad, scores.shape[1], shared.cluster_size)


def sorted_pairs(positives: Positives, first_labels: Tensor) -> Pairs:
    """The pairs of a batch by tiles of labels. A pair that stands twice stays so.

    Args:
        positives: the relevant labels.
        first_labels: (tiles + 1,) int64, ascending: the first label of every tile, and the one behind the last.
    """
    labels, order = positives.indices.sort(stable=True)
    return Pairs(
        starts=torch.searchsorted(labels, first_labels),
        labels=labels,
        rows=rows_of(positives)[order],
        weights=None if positives.weights is None else positives.weights.detach()[order],
        margins=None if positives.margins is None else positives.margins.detach()[order],
    )


def program_count(device: torch.device, most: int, per_multiprocessor: int) -> int:
    """How many programs share ``most`` pieces of work: a few a multiprocessor; three in the interpreter."""
    if device.type != "cuda":
        return max(1, min(3, most))
    multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(multiprocessors * per_multiprocessor, most))


def power_of_two(n: int, least: int, most: int) -> int:
    """The smallest power of two that is at least ``n``, within bounds that are powers of two themselves."""
    return min(max(1 << (max(n, 1) - 1).bit_length(), least), most)
