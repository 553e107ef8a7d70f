"""Unstructured dynamic sparsity by a mask over dense weights: the baseline that a fixed fan-in is measured by."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fanin.classifier.dense import DENSE_CHUNK_SIZE, DenseLinear
from fanin.classifier.topology import check_shape
from fanin.errors import CheckpointError, ConfigError
from fanin.kernels import dispatch
from fanin.kernels.drawing import mix_seed
from fanin.kernels.updates import apply_update

if TYPE_CHECKING:
    from fanin.kernels.spec import Prune, Update

_MOST_WEIGHTS = 10**9  # NumPy's hypergeometric draws go no further, and a baseline of 13 GB is large enough
_COLUMN_BYTES, _POINTER_BYTES = 4, 8


class MaskedLinear(DenseLinear):
    """A layer with L x F connections that may lie anywhere: one label can have many, another none.

    The arithmetic and the memory in training are those of the dense layer and its mask; this layer says what
    unstructured sparsity reaches, not what it would cost. :meth:`nbytes` gives the bytes of the same layer stored as
    compressed sparse rows: four for each value, four for each column, eight for each row's pointer. The tensors here,
    and in a model's files, are dense.

    It starts from the index sets that :class:`fanin.classifier.sparse.SparseLinear` draws from the same seed, so the
    two differ in what rewiring may do: here it prunes the smallest weights of the whole layer and regrows as many at
    random anywhere (Mocanu et al., 2018: sparse evolutionary training).

    Args:
        in_features: D.
        out_features: L; L x D is at most 10^9.
        fan_in: F, connections a label in the mean, and each label's at the start.
        bias: whether each label has a bias.
        seed: of connections and weights.
        initial_scale: weights and bias start uniform within initial_scale / sqrt(F); 0 starts at zero.
        device: where the tensors lie.
        dtype: of weights and bias, float32 by default.
        chunk_size: labels worked on at a time; never changes the result.

    Attributes:
        weight: (L, D), zero where the mask is false.
        mask: (L, D) bool, true in L x F places.
        bias: (L,) or None.

    Raises:
        ConfigError: fan_in cannot be, or the layer is too large for a mask.

    >>> layer = MaskedLinear(16, 1000, fan_in=4)
    >>> layer.nbytes()
    {'values': 16000, 'columns': 16000, 'pointers': 8008, 'bias': 4000}
    """

    fewer_bits = False
    mask: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        fan_in: int,
        *,
        bias: bool = True,
        seed: int = 0,
        initial_scale: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        chunk_size: int = DENSE_CHUNK_SIZE,
    ) -> None:
        if in_features * out_features > _MOST_WEIGHTS:
            raise ConfigError(
                f"a masked layer of {out_features:,} labels and {in_features:,} inputs would hold more than "
                f"{_MOST_WEIGHTS:,} weights; it is a baseline for smaller sets of labels: use classifier.kind sparse"
            )
        super().__init__(
            in_features,
            out_features,
            bias=bias,
            seed=seed,
            # The bound that DenseLinear makes of it is initial_scale / sqrt(F).
            initial_scale=initial_scale * (in_features / max(fan_in, 1)) ** 0.5,
            device=device,
            dtype=dtype,
            chunk_size=chunk_size,
        )
        check_shape(in_features, fan_in, 1)
        self.fan_in = fan_in
        mask = torch.zeros(out_features, in_features, dtype=torch.bool, device=self.weight.device)
        if not self.weight.is_meta:
            drawer = dispatch.choose(torch.device("cpu"), torch.float32).backend
            index = drawer.draw_index(out_features, fan_in, in_features, mix_seed(seed, 0))
            mask.scatter_(1, index.long().to(mask.device), True)  # noqa: FBT003 - the value
            with torch.no_grad():
                self.weight.mul_(mask)
        self.register_buffer("mask", mask)

    @property
    def connections(self) -> int:
        """How many weights tie features to labels, L x F."""
        return self.out_features * self.fan_in

    @torch.no_grad()
    def rewire(self, prune: Prune, seed: int, inputs: int | None = None) -> Tensor:
        """Prune the smallest weights of the whole layer and regrow as many anywhere at random, with weights of zero.

        At most ``min(floor(fraction * L * F), free places)`` connections are pruned, those with the smallest weights,
        the first in memory among equals; with a threshold only those of them below it. A free place is one without
        a connection before, so none is regrown where it was pruned. The update's state there becomes zero.

        Args:
            prune: how many and which.
            seed: a fresh one for every rewiring.
            inputs: regrown connections read one of the first so many inputs; by default any.

        Returns:
            How many connections each label has gained, (L,) int32.

        Raises:
            ConfigError: the layer has fewer inputs.
        """
        inputs = self.in_features if inputs is None else inputs
        if not 1 <= inputs <= self.in_features:
            raise ConfigError(f"inputs={inputs} must lie in 1..{self.in_features}, the layer's inputs")
        free = (inputs - self.mask[:, :inputs].sum(1)).cpu()  # (L,) free places of each label
        limit = min(math.floor(prune.fraction * self.connections), int(free.sum()))
        places = self.mask.flatten().nonzero().squeeze(1)  # (L * F,)
        size = self.weight.flatten()[places].abs()
        weakest = size.argsort(stable=True)[:limit]
        if prune.threshold is not None:
            weakest = weakest[size[weakest] < prune.threshold]
        gained = self._regrow(free, len(weakest), inputs, seed)
        pruned = places[weakest]
        moments = () if self._moments is None else self._moments.weight
        for tensor in (self.mask, self.weight, *moments):
            tensor.view(-1)[pruned] = 0
        return gained

    def _regrow(self, free: Tensor, count: int, inputs: int, seed: int) -> Tensor:
        """Connect ``count`` of the free places, uniformly chosen, chunk by chunk of labels; how many in each label."""
        rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(seed)
        gained = torch.zeros(self.out_features, dtype=torch.int32, device=self.mask.device)
        left, ahead = count, int(free.sum())
        for start in range(0, self.out_features, self.chunk_size):
            inside = slice(start, start + self.chunk_size)
            here = int(free[inside].sum())
            share = int(rng.hypergeometric(here, ahead - here, left))
            left, ahead = left - share, ahead - here
            rows, columns = (~self.mask[inside, :inputs]).nonzero(as_tuple=True)
            chosen = torch.randperm(here, generator=generator)[:share].to(rows.device)
            self.mask[start + rows[chosen], columns[chosen]] = True
            gained[inside] = torch.bincount(rows[chosen], minlength=len(gained[inside]))
        return gained

    def nbytes(self) -> dict[str, int]:
        """Bytes of the layer as compressed sparse rows; the tensors in memory are dense."""
        parts = {
            "values": self.weight.element_size() * self.connections,
            "columns": _COLUMN_BYTES * self.connections,
            "pointers": _POINTER_BYTES * (self.out_features + 1),
        }
        return parts if self.bias is None else parts | {"bias": self.bias.nbytes}

    def settings(self) -> dict[str, Any]:
        """Constructor arguments that fix the shapes."""
        return super().settings() | {"fan_in": self.fan_in}

    def _update_weights(
        self, chunk: Tensor, inside: slice, grad: Tensor, x: Tensor, update: Update, moments: tuple[Tensor, ...]
    ) -> None:
        # Zero weights with zero gradients and zero moments stay zero under every update.
        gradient = (grad.T @ x).mul_(self.mask[inside])  # (C, D)
        apply_update(update, chunk, gradient, moments, self.steps)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        mask, weight = state_dict.get(f"{prefix}mask"), state_dict.get(f"{prefix}weight")
        if mask is not None and weight is not None and not mask.is_meta:
            _check_mask(mask, weight, self.connections)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _check_mask(mask: Tensor, weight: Tensor, connections: int) -> None:
    """Refuse what is not a layer of so many connections; other shapes than the layer's are for torch to refuse."""
    if mask.dtype != torch.bool or mask.shape != weight.shape:
        raise CheckpointError(f"the mask must be torch.bool of shape {tuple(weight.shape)}, as the weights are")
    if int(mask.sum()) != connections:
        raise CheckpointError(f"the mask has {int(mask.sum())} connections; this layer needs {connections}")
    if torch.count_nonzero(weight) != torch.count_nonzero(weight[mask]):
        raise CheckpointError("there are weights where the mask has no connection")
