"""Random layers and batches, made where they are used and without temporary arrays of their size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.kernels.spec import Positives, SparseWeights

if TYPE_CHECKING:
    from fanin.kernels.triton.backend import TritonBackend

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
_ROWS = 1 << 18


def random_weights(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(rows, columns) small normal values."""
    weights = torch.empty(rows, columns, dtype=dtype, device=device)
    for start in range(0, rows, _ROWS):
        part = weights[start : start + _ROWS]
        part.copy_(0.05 * torch.randn(part.shape, device=device))
    return weights


def random_layer(
    backend: TritonBackend, labels: int, features: int, fan_in: int, group: int, dtype: torch.dtype
) -> SparseWeights:
    """A layer with random weights and index sets, and biases of labels that are rare."""
    index = backend.draw_index(-(-labels // group), fan_in, features, seed=1)
    return SparseWeights(
        weight=random_weights(labels, fan_in, dtype, index.device),
        index=index,
        bias=torch.full((labels,), -5.0, device=index.device),
        group_size=group,
        in_features=features,
        rounding_seed=7,
    )


def random_batch(
    rows: int, features: int, labels: int, device: torch.device, a_row: int = 36
) -> tuple[torch.Tensor, Positives]:
    """X (B, D), and ``a_row`` relevant labels a row, frequent as Zipf's law has it, in no order of their frequency."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(rows, features, generator=generator)
    rank = torch.exp(torch.rand(rows * a_row, generator=generator) * torch.tensor(float(labels)).log()).long() - 1
    found = (rank * 2_654_435_761) % labels  # an odd factor scatters the ranks over the labels
    indptr = torch.arange(rows + 1) * a_row
    return x.to(device), Positives(indptr.to(device), found.clamp(0, labels - 1).to(device))
