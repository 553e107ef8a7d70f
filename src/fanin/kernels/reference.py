"""The reference backend: plain torch on any device and float dtype. It defines the result of every other backend."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from fanin.kernels import drawing
from fanin.kernels.losses import loss_and_gradient
from fanin.kernels.positives import dense_block
from fanin.kernels.rounding import round_stochastically
from fanin.kernels.spec import DEFAULT_CHUNK_SIZE, StepResult, compute_dtype, index_dtype
from fanin.kernels.streaming_topk import StreamingTopK
from fanin.kernels.updates import apply_update

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from fanin.kernels.chosen_clusters import ChosenClusters, SharedVectors
    from fanin.kernels.spec import Loss, Moments, Positives, Prune, SharedScores, SparseWeights, Update


class _Block:
    """A range of whole groups of a layer: labels [start, stop), with the weights padded to (s, G, F) and widened."""

    def __init__(self, layer: SparseWeights, first_set: int, last_set: int) -> None:
        G = layer.group_size
        self.start, self.stop = first_set * G, min(last_set * G, len(layer.weight))
        self.index = layer.index[first_set:last_set].to(torch.int64)  # (s, F)
        padding = (last_set - first_set) * G - (self.stop - self.start)
        stored = layer.weight[self.start : self.stop]
        weight = functional.pad(stored.to(compute_dtype(stored.dtype)), (0, 0, 0, padding))
        self.weight = weight.reshape(last_set - first_set, G, -1)  # (s, G, F)

    def gather(self, x: Tensor) -> Tensor:
        """The inputs that each set reads, (B, s, F)."""
        return x[:, self.index]

    def logits(self, layer: SparseWeights, x: Tensor, shared: SharedScores | None) -> Tensor:
        """Logits (B, C) of the block's labels."""
        z = torch.einsum("bsf,sgf->bsg", self.gather(x), self.weight).flatten(1)[:, : self.stop - self.start]
        if shared is not None:
            z = z + shared.scores[self.clusters(shared)].T
        return z if layer.bias is None else z + layer.bias[self.start : self.stop]

    def clusters(self, shared: SharedScores) -> Tensor:
        """The cluster of each of the block's labels, (C,) int64."""
        return torch.arange(self.start, self.stop, device=shared.scores.device) // shared.cluster_size

    def by_group(self, grad: Tensor) -> Tensor:
        """A gradient (B, C) padded to (B, s, G)."""
        s, G, _ = self.weight.shape
        return functional.pad(grad, (0, s * G - grad.shape[1])).reshape(-1, s, G)

    def add_grad_input(self, grad: Tensor, out: Tensor) -> None:
        """Add the block's share of the input gradient to ``out`` (B, D)."""
        share = torch.einsum("bsg,sgf->bsf", self.by_group(grad), self.weight)
        out.index_add_(1, self.index.flatten(), share.flatten(1))

    def grad_weight(self, grad: Tensor, x: Tensor) -> Tensor:
        """Gradient (C, F) of the block's weights."""
        dw = torch.einsum("bsg,bsf->sgf", self.by_group(grad), self.gather(x))
        return dw.flatten(0, 1)[: self.stop - self.start]


def _blocks(layer: SparseWeights, chunk_size: int = DEFAULT_CHUNK_SIZE) -> Iterator[_Block]:
    sets = len(layer.index)
    step = max(1, chunk_size // layer.group_size)
    for first in range(0, sets, step):
        yield _Block(layer, first, min(first + step, sets))


class ReferenceBackend:
    """Plain torch; see :class:`fanin.kernels.spec.Backend` for every operation."""

    name = "reference"

    def forward(self, layer: SparseWeights, x: Tensor, shared: SharedScores | None = None) -> Tensor:
        """Logits (B, L)."""
        return torch.cat([block.logits(layer, x, shared) for block in _blocks(layer)], dim=1)

    def grad_input(self, layer: SparseWeights, grad: Tensor) -> Tensor:
        """Input gradient (B, D)."""
        dx = grad.new_zeros(len(grad), layer.in_features)
        for block in _blocks(layer):
            block.add_grad_input(grad[:, block.start : block.stop], dx)
        return dx

    def grad_weight(self, layer: SparseWeights, grad: Tensor, x: Tensor) -> Tensor:
        """Weight gradient (L, F)."""
        return torch.cat([block.grad_weight(grad[:, block.start : block.stop], x) for block in _blocks(layer)])

    def train_step(
        self,
        layer: SparseWeights,
        moments: Moments,
        x: Tensor,
        positives: Positives,
        *,
        loss: Loss,
        update: Update,
        step: int,
        scale: float,
        shared: SharedScores | None = None,
        chunk_size: int = DEFAULT_CHUNK_SIZE,
    ) -> StepResult:
        """Logits, loss gradient, dx and update, chunk by chunk."""
        total = torch.zeros((), dtype=torch.float64, device=x.device)
        dx = torch.zeros_like(x)
        shared_grad = None if shared is None else torch.zeros_like(shared.scores)
        for block in _blocks(layer, chunk_size):
            logits = block.logits(layer, x, shared)
            inside = block.start, block.stop, x.dtype
            target = dense_block(positives, *inside)
            weights, margins = positives.weights, positives.margins
            value, grad = loss_and_gradient(
                loss,
                logits,
                target,
                None if weights is None else dense_block(positives, *inside, weights, elsewhere=1),
                None if margins is None else dense_block(positives, *inside, margins),
            )
            total += value
            grad *= scale
            block.add_grad_input(grad, dx)
            if shared is not None and shared_grad is not None:
                shared_grad.index_add_(0, block.clusters(shared), grad.T)
            labels = slice(block.start, block.stop)
            dw = block.grad_weight(grad, x)
            stored = layer.weight[labels]
            weight = stored.to(dw.dtype)  # stored itself, where it is of this dtype
            apply_update(update, weight, dw, tuple(m[labels] for m in moments.weight), step)
            if weight.dtype != stored.dtype:
                first = (layer.first_label + labels.start) * layer.weight.shape[1]
                self.round_into(weight, stored, layer.rounding_seed, step, first)
            if layer.bias is not None:
                apply_update(
                    update.without_decay(),
                    layer.bias[labels],
                    grad.sum(0),
                    tuple(m[labels] for m in moments.bias),
                    step,
                )
        if layer.dense_inputs is not None:
            dx[:, layer.dense_inputs :] = 0
        return StepResult(scale * total.item(), dx, shared_grad)

    def topk(
        self, layer: SparseWeights, x: Tensor, k: int, exclude: Positives | None, shared: SharedScores | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k best labels a row, chunk by chunk."""
        best = StreamingTopK(len(x), k, x)
        for block in _blocks(layer):
            best.add(block.logits(layer, x, shared), block.start, exclude)
        return best.scores, best.labels

    def topk_among(
        self,
        layer: SparseWeights,
        x: Tensor,
        k: int,
        chosen: ChosenClusters,
        exclude: Positives | None,
        shared: SharedVectors | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The k best labels of each row's clusters, row by row."""
        index = layer.index.to(torch.int64)  # (S, F)
        scores = x.new_full((len(x), k), -math.inf)
        labels = torch.full((len(x), k), -1, dtype=torch.int64, device=x.device)
        for row, values in enumerate(x):
            own = chosen.labels(row, len(layer.weight))  # (n,)
            if exclude is not None:
                barred = exclude.indices[exclude.indptr[row] : exclude.indptr[row + 1]]
                own = own[~torch.isin(own, barred)]
            z = (layer.weight[own].to(x.dtype) * values[index[own // layer.group_size]]).sum(1)
            if shared is not None:
                vectors = shared.weight[own // shared.cluster_size].to(x.dtype)
                z += vectors @ values[: vectors.shape[1]]
            if layer.bias is not None:
                z += layer.bias[own]
            valid = z > -math.inf  # not NaN either
            best = z[valid].argsort(descending=True, stable=True)[:k]
            scores[row, : len(best)], labels[row, : len(best)] = z[valid][best], own[valid][best]
        return scores, labels

    def widen_into(self, stored: Tensor, out: Tensor) -> None:
        """Float32 values of bfloat16 or float8."""
        out.copy_(stored)

    def round_into(self, values: Tensor, out: Tensor, seed: int, step: int, first_element: int = 0) -> None:
        """Stochastic rounding by the exact definition."""
        out.copy_(round_stochastically(values, out.dtype, seed, step, first_element))

    def draw_index(self, sets: int, fan_in: int, in_features: int, seed: int, first_set: int = 0) -> Tensor:
        """Index sets (sets, F) by the exact definition."""
        chosen = drawing.draw_subset(seed, first_set + np.arange(sets), np.full(sets, fan_in), in_features)
        return torch.from_numpy(chosen).to(index_dtype(in_features))

    def rewire(
        self, layer: SparseWeights, moments: Moments, prune: Prune, seed: int, inputs: int | None = None
    ) -> Tensor:
        """Prune and regrow every index set."""
        inputs = layer.in_features if inputs is None else inputs
        limit = math.floor(prune.fraction * layer.weight.shape[1])
        replaced = torch.zeros(len(layer.index), dtype=torch.int32)
        for block in _blocks(layer):
            sets = torch.arange(block.start // layer.group_size, -(-block.stop // layer.group_size))  # (s,)
            sizes = (len(layer.weight) - sets * layer.group_size).clamp_max(layer.group_size)  # labels in each group
            score = block.weight.abs().sum(1, dtype=torch.float64).cpu() / sizes[:, None]  # (s, F)
            smallest = score.argsort(dim=1, stable=True)[:, :limit]  # (s, n)
            below = score.gather(1, smallest) < (math.inf if prune.threshold is None else prune.threshold)
            index = block.index.cpu()  # (s, F)
            spare = inputs - (index < inputs).sum(1)  # (s,)
            below &= torch.arange(limit) < spare[:, None]
            count = below.sum(1)
            numbers = sets.numpy() + layer.first_label // layer.group_size
            new = drawing.regrow(seed, numbers, index.numpy(), count.numpy(), inputs)
            rows, places = below.nonzero(as_tuple=True)
            slots = smallest[rows, places]
            index[rows, slots] = torch.from_numpy(new[rows.numpy(), places.numpy()])
            here = slice(int(sets[0]), int(sets[-1]) + 1)
            layer.index[here] = index.to(layer.index)
            replaced[here] = count.to(torch.int32)
            for member in range(layer.group_size):
                present = member < sizes[rows]
                labels = sets[rows[present]] * layer.group_size + member
                for tensor in (layer.weight, *moments.weight):
                    tensor[labels, slots[present]] = 0
        return replaced
