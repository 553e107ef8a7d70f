"""Growth by gradient: towards inputs whose weights, zero now, the loss would change fastest."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import torch

from fanin.classifier.group_scores import group_scores
from fanin.classifier.part_names import split_by_part
from fanin.errors import CheckpointError
from fanin.kernels import dispatch
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.losses import loss_and_gradient_inplace
from fanin.kernels.positives import Pairs, sorted_by_label
from fanin.kernels.spec import SparseWeights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from fanin.classifier.rewiring_modes import GroupScore
    from fanin.classifier.sparse import SparseLinear
    from fanin.kernels.spec import Loss, Positives


class _Batch(NamedTuple):
    x: Tensor | ActiveInputs
    pairs: Pairs  # the positives, by places for labels


class GradientScores:
    """|dense gradient| of every input's weight, of the loss of the last batches under the weights of today.

    Nothing is accumulated while training: the last batches are kept, and at a rewiring their logits are computed again,
    block by block of labels, so that no (L, D) array ever exists. A rewiring costs as much arithmetic as ``batches``
    forward and backward passes of a dense layer over the labels that are rewired.

    Method: growth by gradient (Evci et al., RigL, ICML 2020), here over several batches.

    Args:
        layers: what is rewired.
        loss: which loss.
        inputs: the first so many inputs are scored.
        batches: how many batches are kept.
        group_score: mean or max over the labels that share a set.
    """

    def __init__(
        self,
        layers: Sequence[SparseLinear],
        loss: Loss,
        inputs: int,
        batches: int = 4,
        group_score: GroupScore = "mean",
    ) -> None:
        self._layers, self._loss, self._inputs, self._group_score = layers, loss, inputs, group_score
        self._batches: deque[_Batch] = deque(maxlen=batches)

    def observe(self, x: Tensor | ActiveInputs, positives: Positives, ahead: int) -> None:
        """Keep a batch if it will be one of the last before a rewiring."""
        if ahead < (self._batches.maxlen or 0):
            x = x._replace(values=x.values.detach()) if isinstance(x, ActiveInputs) else x.detach()
            self._batches.append(_Batch(x, sorted_by_label(positives)))

    @torch.no_grad()
    def scores(self, layer: int, sets: Tensor) -> Tensor:
        """Scores (s, inputs); 0 without a batch."""
        scored = self._layers[layer]
        before = sum(other.shard.of for other in self._layers[:layer]) + scored.shard.first

        def gradients(places: Tensor) -> Tensor:
            return self._gradients(scored, places, before)

        G, L = scored.group_size, scored.out_features
        return group_scores(sets, G, L, self._inputs, self._group_score, gradients)

    def forget(self) -> None:
        """Drop the kept batches."""
        self._batches.clear()

    def state(self) -> dict[str, Tensor]:
        """The kept batches, oldest first; see :meth:`fanin.classifier.growth.InputScores.state`."""
        found = {}
        for number, (x, pairs) in enumerate(self._batches):
            found[f"{number}.x"] = x.values if isinstance(x, ActiveInputs) else x
            if isinstance(x, ActiveInputs):
                dense_inputs = -1 if x.dense_inputs is None else x.dense_inputs
                found[f"{number}.columns"] = x.columns
                found[f"{number}.sizes"] = torch.tensor([x.in_features, dense_inputs])
            found |= {f"{number}.{name}": part for name, part in pairs._asdict().items() if part is not None}
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state of :meth:`state`; see :meth:`fanin.classifier.growth.InputScores.load_state`."""
        self._batches.clear()
        count = sum(name.endswith(".x") for name in state)
        for part in split_by_part("gradients", state, *map(str, range(count))):
            try:
                self._batches.append(_batch_of(part))
            except (KeyError, ValueError) as error:
                raise CheckpointError(f"state of growth by gradient: a batch is damaged ({error!r})") from error

    def _gradients(self, layer: SparseLinear, places: Tensor, before: int) -> Tensor:
        """|gradient| (c, inputs) of the labels at some places (c,), ascending, behind those of the layers before."""
        gradients = layer.weight.new_zeros(len(places), self._inputs, dtype=layer.dtype)
        for batch in self._batches:
            logits = _logits(layer, batch.x, places)  # (B, c)
            own = batch.pairs.labels - before
            column = torch.searchsorted(places, own).clamp_max(len(places) - 1)
            here = places[column] == own
            loss_and_gradient_inplace(self._loss, logits, batch.pairs._replace(labels=column).at(here))
            gradients.addmm_(logits.T, first_inputs(batch.x, self._inputs))
        return gradients.abs_()


def _logits(layer: SparseLinear, x: Tensor | ActiveInputs, places: Tensor) -> Tensor:
    """Logits (B, c) of the labels at some places."""
    index = layer.index[places // layer.group_size]  # (c, F)
    if not isinstance(x, ActiveInputs):
        rows, width = x, layer.in_features
    elif len(x.columns) + 1 < layer.fan_in:  # no layer reads more inputs than there are
        rows, width = x.dense(), layer.in_features
    else:
        rows, index, width = x.padded(), x.narrowed(index), len(x.columns) + 1
    bias = None if layer.bias is None else layer.bias.detach()[places]
    backend = dispatch.choose(rows.device, rows.dtype, layer.backend).backend
    logits = backend.forward(SparseWeights(layer.weight.detach()[places], index, bias, 1, width), rows.contiguous())
    if layer.clusters is not None:
        cluster = places // layer.clusters.cluster_size
        first, last = int(cluster[0]), int(cluster[-1])
        vectors = layer.clusters.rows(last + 1 - first).read(slice(first, last + 1))  # (k, D)
        logits += (first_inputs(x, vectors.shape[1]) @ vectors.T)[:, cluster - first]
    return logits


def _batch_of(part: Mapping[str, Tensor]) -> _Batch:
    """A batch as the state holds it."""
    copies = {name: tensor.clone() for name, tensor in part.items()}
    x: Tensor | ActiveInputs = copies["x"]
    if "columns" in copies:
        in_features, dense_inputs = copies["sizes"].tolist()
        x = ActiveInputs(copies["x"], copies["columns"], in_features, None if dense_inputs < 0 else dense_inputs)
    return _Batch(x, Pairs(copies["rows"], copies["labels"], copies.get("weights"), copies.get("margins")))


def first_inputs(x: Tensor | ActiveInputs, count: int) -> Tensor:
    """The first ``count`` columns of x, (B, count).

    >>> first_inputs(ActiveInputs(torch.tensor([[2.0, 3.0]]), torch.tensor([1, 4]), 5), 3).tolist()
    [[0.0, 2.0, 0.0]]
    """
    if not isinstance(x, ActiveInputs):
        return x[:, :count]
    active = int(torch.searchsorted(x.columns, count))
    if active == count:  # they are all active, as learned features before lexical ones are
        return x.values[:, :count]
    return x.values.new_zeros(len(x.values), count).index_copy(1, x.columns[:active], x.values[:, :active])
