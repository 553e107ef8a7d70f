"""The head/tail split: a dense layer for the most frequent labels, a fixed fan-in layer for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fanin.classifier.dense import DenseLinear
from fanin.classifier.interface import Classifier
from fanin.classifier.internal_order import InternalOrder
from fanin.classifier.part_names import joined, split_by_part
from fanin.classifier.sparse import SparseLinear, SparsePart
from fanin.errors import ConfigError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.drawing import mix_seed
from fanin.kernels.positives import kept_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fanin.kernels.spec import Loss, Positives, Update


class HeadTailLinear(Classifier):
    """One classifier of two layers: the first ``head_labels`` labels of its internal order are dense, the rest sparse.

    Frequent labels have the texts to learn many weights from, and there are few of them (HASTE, ICML 2026, serves 2 to
    10% of the labels so).

    Args:
        in_features: D.
        out_features: L.
        fan_in: F, inputs a tail label reads.
        group_size: G of the tail, as in :class:`fanin.classifier.sparse.SparseLinear`.
        head_labels: how many labels are dense, in 1..L-1. Which ones is for ``order.assign`` to say: the first ones
            of the order; groups and clusters of the tail are consecutive behind them.
        head_inputs: inputs that a head label reads, the first ones; None for all.
        bias: whether each label has a bias.
        cluster_size: tail labels that share one dense vector, 0 for none.
        cluster_inputs: inputs that the clusters' vectors read, the first ones; None for all.
        seed: of index sets and weights.
        initial_scale: weights and bias start uniform within initial_scale / sqrt(inputs of a label); 0 starts at zero.
        device: where the tensors lie.
        dtype: of weights and bias, float32 by default.
        backend: of the tail, "reference" or "cpu" to force one; None takes FANIN_BACKEND, else the fastest.

    Attributes:
        head: the dense layer.
        tail: the sparse layer; its label n stands at place head_labels + n of the order.
        order: label ids by place.

    Raises:
        ConfigError: a setting cannot be.
        BackendError: the backend asked for cannot serve.

    >>> HeadTailLinear(16, 1000, fan_in=4, head_labels=50).nbytes()  # doctest: +NORMALIZE_WHITESPACE
    {'head.weight': 3200, 'head.bias': 200, 'tail.weight': 15200, 'tail.index': 7600, 'tail.bias': 3800,
     'order.outer': 4000}
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        fan_in: int,
        group_size: int = 1,
        *,
        head_labels: int,
        head_inputs: int | None = None,
        bias: bool = True,
        cluster_size: int = 0,
        cluster_inputs: int | None = None,
        seed: int = 0,
        initial_scale: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        backend: str | None = None,
    ) -> None:
        super().__init__(in_features, out_features)
        if not 1 <= head_labels < out_features:
            raise ConfigError(
                f"head_labels={head_labels} must lie between 1 and {out_features - 1}: head and tail share "
                f"{out_features} labels, and each needs one at least"
            )
        inputs = in_features if head_inputs is None else head_inputs
        if not 1 <= inputs <= in_features:
            raise ConfigError(f"head_inputs={inputs} must lie in 1..{in_features}, the layer's inputs")
        self.head = DenseLinear(
            inputs,
            head_labels,
            bias=bias,
            seed=mix_seed(seed, 1),
            initial_scale=initial_scale,
            device=device,
            dtype=dtype,
        )
        self.tail = SparseLinear(
            in_features,
            out_features - head_labels,
            fan_in,
            group_size,
            bias=bias,
            cluster_size=cluster_size,
            cluster_inputs=cluster_inputs,
            seed=seed,
            initial_scale=initial_scale,
            device=device,
            dtype=dtype,
            backend=backend,
        )
        self.order = InternalOrder(out_features, device)

    @property
    def connections(self) -> int:
        """How many weights tie features to labels."""
        return self.head.connections + self.tail.connections

    def forward(self, x: Tensor) -> Tensor:
        """Logits (..., L) of x (..., D); differentiable once."""
        self._check_features(x)
        logits = torch.cat([self.head(x[..., : self.head.in_features]), self.tail(x)], dim=-1)
        return logits[..., self.order.inner]

    def train_step(
        self, x: Tensor | ActiveInputs, positives: Positives, loss: Loss, update: Update, *, weight: float = 1.0
    ) -> tuple[float, Tensor]:
        """One fused step; see :meth:`Classifier.train_step`."""
        x = self._checked_active(x) if isinstance(x, ActiveInputs) else self._checked_input(x)
        head, tail = self._split(positives, _row_count(x))
        read = self._head_inputs(x)
        head_value, head_dx = self.head.train_step(read, head, loss, update, weight=weight)
        value, dx = self.tail.train_step(x, tail, loss, update, weight=weight)
        self.steps += 1
        dx[:, : head_dx.shape[1]] += head_dx
        return head_value + value, dx

    def topk(self, x: Tensor | ActiveInputs, k: int, exclude: Positives | None = None) -> tuple[Tensor, Tensor]:
        """The k best labels a row; see :meth:`Classifier.topk`."""
        k = self._checked_k(k)
        x = self._checked_active(x) if isinstance(x, ActiveInputs) else self._checked_input(x)
        barred = (None, None) if exclude is None else self._split(exclude, _row_count(x))
        head_scores, head = self.head.topk(self._head_inputs(x), k, barred[0])
        tail_scores, tail = self.tail.topk(x, k, barred[1])
        scores = torch.cat([head_scores, tail_scores], dim=1)
        places = torch.cat([head, torch.where(tail >= 0, tail + self.head.out_features, -1)], dim=1)
        labels = self.order.labels(places)
        # Stable, after an order by label: among equal scores the lower label comes first.
        labels, by_label = labels.sort(dim=1)
        scores, best = scores.gather(1, by_label).sort(dim=1, descending=True, stable=True)
        return scores[:, :k], labels.gather(1, best)[:, :k]

    def set_bias(self, bias: Tensor) -> None:
        """Set the biases; see :meth:`Classifier.set_bias`."""
        placed, H = bias[self.order.outer.long()], self.head.out_features
        self.head.set_bias(placed[:H])
        self.tail.set_bias(placed[H:])

    def sparse_part(self) -> SparsePart:
        """The tail and its labels; see :meth:`Classifier.sparse_part`."""
        return SparsePart(self.tail, self.order.outer[self.head.out_features :].long())

    def nbytes(self) -> dict[str, int]:
        """Bytes of the parts of head and tail, and of the internal order."""
        parts = joined(head=self.head.nbytes(), tail=self.tail.nbytes())
        return parts | {"order.outer": self.order.outer.nbytes}

    def settings(self) -> dict[str, Any]:
        """Constructor arguments that fix the shapes."""
        tail = self.tail.settings()
        del tail["ordered"]  # the order is the whole classifier's
        head = {"head_labels": self.head.out_features, "head_inputs": self.head.in_features}
        return tail | {"out_features": self.out_features} | head

    def optimizer_state(self) -> dict[str, Tensor]:
        """The update's state by name; see :meth:`Classifier.optimizer_state`."""
        return joined(head=self.head.optimizer_state(), tail=self.tail.optimizer_state())

    def load_optimizer_state(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Take up a state of :meth:`optimizer_state`; see :meth:`Classifier.load_optimizer_state`."""
        head, tail = split_by_part(state, "head", "tail")
        self.head.load_optimizer_state(head, steps)
        self.tail.load_optimizer_state(tail, steps)
        self.steps = steps

    def extra_repr(self) -> str:
        """The settings, for print(module)."""
        return ", ".join(f"{name}={value}" for name, value in self.settings().items())

    def _split(self, positives: Positives, rows: int) -> tuple[Positives, Positives]:
        """Pairs of rows and label ids as those of the head and those of the tail, by their own places."""
        placed = self.order.positives(self._checked_positives(positives, rows))
        of_head = placed.indices < self.head.out_features  # (P,)
        of_tail = placed._replace(indices=placed.indices - self.head.out_features)
        return kept_pairs(placed, of_head), kept_pairs(of_tail, ~of_head)

    def _head_inputs(self, x: Tensor | ActiveInputs) -> Tensor | ActiveInputs:
        """What of a checked x the head reads."""
        if not isinstance(x, ActiveInputs):
            return x[:, : self.head.in_features]
        count = int((x.columns < self.head.in_features).sum())
        return ActiveInputs(x.values[:, :count], x.columns[:count], self.head.in_features)


def _row_count(x: Tensor | ActiveInputs) -> int:
    return len(x.values if isinstance(x, ActiveInputs) else x)
