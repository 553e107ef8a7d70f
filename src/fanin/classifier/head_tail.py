"""The head/tail split: a dense layer for the most frequent labels, a fixed fan-in layer for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fanin.classifier.dense import DenseLinear
from fanin.classifier.label_bands import LabelBands
from fanin.classifier.sparse import SparseLinear
from fanin.classifier.storage import rounding_seed_or, storage_settings
from fanin.errors import ConfigError
from fanin.kernels.drawing import mix_seed

if TYPE_CHECKING:
    from typing import Unpack

    from fanin.classifier.label_bands import BandOptions


class HeadTailLinear(LabelBands):
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
        cluster_size: tail labels that share one dense vector, 0 for none.
        cluster_inputs: inputs that the clusters' vectors read, the first ones; None for all.
        cluster_rate: learning rate of the clusters' vectors, as in ``SparseLinear``.
        seed: of index sets and weights.
        rounding_seed: of the stochastic rounding of weights in fewer bits; None for one that ``seed`` determines.
        backend: of the tail, "reference", "cpu" or "triton" to force one; None takes FANIN_BACKEND, else the fastest.
        options: bias, reference_fan_in, initial_scale, device and dtype of both layers, as in ``SparseLinear``; for the
            head ``head_inputs`` is F there.

    Attributes:
        head: the dense layer.
        tail: the sparse layer; its label n stands at place head_labels + n of the order.

    Raises:
        ConfigError: a setting cannot be.
        BackendError: the backend asked for cannot serve.

    >>> HeadTailLinear(16, 1000, fan_in=4, head_labels=50).nbytes()  # doctest: +NORMALIZE_WHITESPACE
    {'head.weight': 3200, 'head.bias': 200, 'tail.weight': 15200, 'tail.index': 7600, 'tail.bias': 3800,
     'order.outer': 4000}
    """

    head: DenseLinear
    tail: SparseLinear

    def __init__(
        self,
        in_features: int,
        out_features: int,
        fan_in: int,
        group_size: int = 1,
        *,
        head_labels: int,
        head_inputs: int | None = None,
        cluster_size: int = 0,
        cluster_inputs: int | None = None,
        cluster_rate: float = 1.0,
        seed: int = 0,
        rounding_seed: int | None = None,
        backend: str | None = None,
        **options: Unpack[BandOptions],
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
        self.rounding_seed = rounding_seed_or(rounding_seed, seed)
        head_rounding, tail_rounding = (mix_seed(self.rounding_seed, number) for number in range(2))
        head = DenseLinear(inputs, head_labels, seed=mix_seed(seed, 1), rounding_seed=head_rounding, **options)
        tail = SparseLinear(
            in_features,
            out_features - head_labels,
            fan_in,
            group_size,
            cluster_size=cluster_size,
            cluster_inputs=cluster_inputs,
            cluster_rate=cluster_rate,
            seed=seed,
            rounding_seed=tail_rounding,
            backend=backend,
            **options,
        )
        self._set_bands(options.get("device"), head=head, tail=tail)

    def settings(self) -> dict[str, Any]:
        """Constructor arguments that fix the shapes."""
        tail = self.tail.settings()
        del tail["ordered"]  # the order is the whole classifier's
        head = {"head_labels": self.head.out_features, "head_inputs": self.head.in_features}
        storage = storage_settings(self.tail.weight.dtype, self.rounding_seed)
        return tail | {"out_features": self.out_features} | head | storage
