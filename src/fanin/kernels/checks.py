"""What a compiled backend is given, checked before it sees a pointer: dtype, shape, device and layout, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.errors import BackendError
from fanin.kernels.spec import compute_dtype, index_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.kernels.spec import Moments, Positives, SharedScores, SparseWeights


class ArrayChecks:
    """The checks of one call. All of them raise BackendError.

    Args:
        backend: its name.
        device: where all tensors must lie.
    """

    def __init__(self, backend: str, device: torch.device) -> None:
        self._backend, self._device = backend, device

    def layer(self, layer: SparseWeights) -> None:
        """Weights, index and bias."""
        self.tensor("the weights", layer.weight, layer.weight.dtype)
        self.tensor("the index", layer.index, index_dtype(layer.in_features))
        L, G = len(layer.weight), layer.group_size
        if G < 1 or layer.index.shape != (-(-L // max(G, 1)), *layer.weight.shape[1:]):
            raise BackendError(
                f"layer: weights of shape {tuple(layer.weight.shape)} in groups of {G} do not go with an index of "
                f"shape {tuple(layer.index.shape)}"
            )
        if layer.bias is not None:
            self.tensor("the bias", layer.bias, compute_dtype(layer.weight.dtype))
            if layer.bias.shape != (L,):
                raise BackendError(f"layer: the bias has shape {tuple(layer.bias.shape)}; {L} labels need ({L},)")

    def matrix(self, name: str, matrix: Tensor, columns: int, rows: int | None = None) -> None:
        """A float32 matrix of so many columns, and rows if they are given."""
        self.tensor(name, matrix, torch.float32)
        if matrix.dim() != 2 or matrix.shape[1] != columns or rows not in {None, len(matrix)}:
            wanted = f"({'B' if rows is None else rows}, {columns})"
            raise BackendError(f"{name} has shape {tuple(matrix.shape)}; the layer needs {wanted}")

    def moments(self, moments: Moments, layer: SparseWeights, count: int | None = None) -> None:
        """The update's state; ``count`` tensors of the weights' shape, and of the bias's if there is one."""
        parts = [("the weights", moments.weight, layer.weight)]
        parts += [] if layer.bias is None else [("the bias", moments.bias, layer.bias)]
        for name, tensors, parameter in parts:
            if count not in {None, len(tensors)}:
                raise BackendError(f"the update needs {count} moments of {name} and got {len(tensors)}")
            for tensor in tensors:
                self.tensor(f"a moment of {name}", tensor, torch.float32)
                if tensor.shape != parameter.shape:
                    shapes = f"{tuple(tensor.shape)}; the parameter has {tuple(parameter.shape)}"
                    raise BackendError(f"a moment of {name} has shape {shapes}")

    def positives(self, name: str, positives: Positives, rows: int) -> None:
        """Pairs of a batch of so many rows, with their weights and margins."""
        for array in (positives.indptr, positives.indices):
            self.tensor(name, array, torch.int64)
        if positives.indptr.shape != (rows + 1,) or positives.indices.dim() != 1:
            shape = tuple(positives.indptr.shape)
            raise BackendError(f"{name}: indptr has shape {shape}; a batch of {rows} rows needs ({rows + 1},)")
        for part, values in (("weights", positives.weights), ("margins", positives.margins)):
            if values is None:
                continue
            self.tensor(f"the {name}' {part}", values, torch.float32)
            if values.shape != positives.indices.shape:
                raise BackendError(
                    f"the {name}' {part} have shape {tuple(values.shape)}; {len(positives.indices)} pairs need one each"
                )

    def shared(self, shared: SharedScores | None, layer: SparseWeights, rows: int) -> None:
        """Scores that clusters share."""
        if shared is None:
            return
        labels, cluster_size = len(layer.weight), shared.cluster_size
        if cluster_size < 1:
            raise BackendError(f"shared scores: cluster_size is {cluster_size}; a cluster has at least one label")
        self.tensor("the shared scores", shared.scores, torch.float32)
        wanted = (-(-labels // cluster_size), rows)
        if shared.scores.shape != wanted:
            raise BackendError(
                f"the shared scores have shape {tuple(shared.scores.shape)}; "
                f"{labels} labels in clusters of {cluster_size} and {rows} rows need (K, B) = {wanted}"
            )

    def tensor(self, name: str, tensor: Tensor, dtype: torch.dtype) -> None:
        """A contiguous tensor of a dtype."""
        if tensor.dtype is not dtype or tensor.device != self._device or not tensor.is_contiguous():
            layout = "" if tensor.is_contiguous() else "non-contiguous "
            place = "the CPU" if self._device.type == "cpu" else str(self._device)
            raise BackendError(
                f"the {self._backend} backend needs {name} as contiguous {_short(dtype)} on {place}, "
                f"not {layout}{_short(tensor.dtype)} on {tensor.device}"
            )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
