"""The fixed fan-in layer: every label reads F of the D inputs; which ones is learned by rewiring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from fanin.classifier.cluster_weights import ClusterWeights
from fanin.classifier.internal_order import InternalOrder
from fanin.classifier.optimizer_state import named_state
from fanin.classifier.sparse_logits import sparse_logits
from fanin.classifier.storage import rounding_seed_or, storage_settings
from fanin.classifier.topology import check_index, check_shape, draw_index, set_count
from fanin.classifier.weighted import WeightedClassifier
from fanin.errors import ConfigError
from fanin.kernels import dispatch
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.chosen_clusters import SharedVectors
from fanin.kernels.drawing import mix_seed
from fanin.kernels.spec import Moments, SparseWeights, index_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fanin.classifier.shard import Shard
    from fanin.kernels.chosen_clusters import ChosenClusters
    from fanin.kernels.spec import Backend, Loss, Positives, Prune, SharedScores, Update

_NARROWED_ROWS = 16  # from so many rows on, index sets into a batch's active columns are worth their making


class SparsePart(NamedTuple):
    """A fixed fan-in layer and the labels that it serves, for what sets or changes its connections.

    Attributes:
        layer: the layer.
        labels: (n,) int64, the classifier's label id at each place of the layer, or of the one that it is a part of.
    """

    layer: SparseLinear
    labels: Tensor

    @property
    def own_labels(self) -> Tensor:
        """The classifier's label id at each place of the layer's tensors."""
        first = self.layer.shard.first
        return self.labels[first : first + self.layer.out_features]


class SparseLinear(WeightedClassifier):
    """A linear layer whose outputs each read ``fan_in`` inputs, with real sparse storage.

    A drop-in for :class:`torch.nn.Linear` in any model (``forward`` is differentiable), and an output layer for huge
    label counts through :meth:`train_step` and :meth:`topk`, which never hold a (B, L) or (L, D) array.

    Method: fixed fan-in sparsity with SET rewiring (Schultheis and Babbar, ECML 2023; Ullah et al., NeurIPS 2024).

    Args:
        in_features: D.
        out_features: L.
        fan_in: F, inputs a label reads.
        group_size: G, consecutive labels that share one index set; 1 gives every label its own, L or more one to all.
        bias: whether each label has a bias.
        cluster_size: labels that share one dense vector under their sparse weights, consecutive in the internal order
            (:class:`fanin.classifier.cluster_weights.ClusterWeights`); 0 for none.
        cluster_inputs: inputs that the clusters' vectors read, the first ones; None for all.
        cluster_rate: learning rate of the clusters' vectors as a multiple of the update's own.
        ordered: whether labels have an internal order, given by ``order.assign``; then groups and clusters are
            consecutive in it, and weight, index and bias are by place.
        reference_fan_in: R, to update weights and bias at R / F times the learning rate
            (:class:`fanin.classifier.weighted.WeightedClassifier`); None for the whole rate.
        seed: of the index sets and weights.
        initial_scale: weights and bias start uniform within initial_scale / sqrt(F); 0 starts at zero.
        device: where the tensors lie.
        dtype: of the weights, float32 by default. bfloat16 and float8_e4m3fn are computed with in float32, which is the
            dtype of x, bias and the update's state; updates round stochastically in place, without a float32 copy.
        rounding_seed: of the stochastic rounding of weights in fewer bits; None for one that ``seed`` determines.
        backend: "reference", "cpu" or "triton" to force one; None takes FANIN_BACKEND, else the fastest.
        shard: which labels of a larger layer these are (:meth:`part`); None for a layer of its own.

    Attributes:
        weight: (L, F); a parameter without a gradient where it is float8: only :meth:`train_step` can train that.
        index: (ceil(L / G), F), uint16 up to 65,536 inputs, int32 beyond.
        bias: (L,) or None.
        clusters: the shared cluster weights, or None.
        order: the internal order, or None where it is that of the label ids.

    Raises:
        ConfigError: fan_in, group_size, cluster_size, cluster_inputs or cluster_rate cannot be.
        BackendError: the backend asked for cannot serve.

    >>> layer = SparseLinear(16, 1000, fan_in=4)
    >>> layer(torch.ones(2, 16)).shape
    torch.Size([2, 1000])
    >>> layer.nbytes()
    {'weight': 16000, 'index': 8000, 'bias': 4000}
    >>> SparseLinear(16, 1000, fan_in=4, dtype=torch.bfloat16).nbytes()
    {'weight': 8000, 'index': 8000, 'bias': 4000}
    """

    fewer_bits = True
    index: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        fan_in: int,
        group_size: int = 1,
        *,
        bias: bool = True,
        cluster_size: int = 0,
        cluster_inputs: int | None = None,
        cluster_rate: float = 1.0,
        ordered: bool = False,
        reference_fan_in: int | None = None,
        seed: int = 0,
        initial_scale: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str = torch.float32,
        rounding_seed: int | None = None,
        backend: str | None = None,
        shard: Shard | None = None,
    ) -> None:
        super().__init__(in_features, out_features, reference_fan_in, shard)
        check_shape(in_features, fan_in, group_size)
        self.fan_in = fan_in
        self.group_size = min(group_size, self.shard.of)
        self.backend = backend
        self._start = {"seed": seed, "initial_scale": initial_scale}
        self._make_parameters(
            (out_features, fan_in),
            bias=bias,
            device=device,
            dtype=dtype,
            rounding_seed=rounding_seed_or(rounding_seed, seed),
        )
        sets = set_count(out_features, group_size)
        if self.weight.is_meta:
            index = torch.empty(sets, fan_in, dtype=index_dtype(in_features), device="meta")
        else:
            index = draw_index(
                sets, fan_in, in_features, mix_seed(seed, 0), backend, self.weight.device, self.first_set
            )
            self._draw_weights(initial_scale, fan_in, seed)
        self.register_buffer("index", index)
        self.order = InternalOrder(out_features, device) if ordered else None
        self.clusters: ClusterWeights | None = None
        if cluster_size:
            inputs = in_features if cluster_inputs is None else cluster_inputs
            if not 1 <= inputs <= in_features:
                raise ConfigError(f"cluster_inputs={inputs} must lie in 1..{in_features}, the layer's inputs")
            self.clusters = ClusterWeights(
                inputs,
                out_features,
                cluster_size,
                device,
                self.weight.dtype,
                rounding_seed=mix_seed(self.rounding_seed, 1),
                backend=backend,
                first_cluster=self.shard.first // cluster_size,
                rate=cluster_rate,
            )

    @property
    def first_set(self) -> int:
        """Number of the first index set in the layer that this is a part of."""
        return self.shard.first // self.group_size

    def forward(self, x: Tensor) -> Tensor:
        """Logits (..., L) of x (..., D); differentiable once by x, weight, bias and the clusters' vectors.

        float8 weights and vectors get no gradient. Where weights are in fewer bits, x may be bfloat16 instead of
        float32; so are the logits then.
        """
        given, x = x.dtype, self._forward_input(x)
        rows = x.reshape(-1, self.in_features).contiguous()
        logits = sparse_logits(rows, self.weight, self.bias, self.index, self.group_size, self.backend)
        if self.clusters is not None:
            logits = logits + self.clusters(rows)
        if self.order is not None:
            logits = logits[:, self.order.inner]
        return logits.reshape(*x.shape[:-1], self.out_features).to(given)

    def train_step(
        self, x: Tensor | ActiveInputs, positives: Positives, loss: Loss, update: Update, *, weight: float = 1.0
    ) -> tuple[float, Tensor]:
        """One fused step; see :meth:`Classifier.train_step`."""
        rows, layer, own = self._kernel_inputs(x)
        positives = self._places(positives, len(rows))
        moments, own_update = self._begin_step(len(rows), update)
        scale = weight / len(rows)
        shared = self._shared(rows)
        value, dx, shared_grad = self._backend().train_step(
            layer, moments, rows, positives, loss=loss, update=own_update, step=self.steps, scale=scale, shared=shared
        )
        if self.clusters is not None and shared_grad is not None:
            self.clusters.step(rows, shared_grad, dx, update, self.steps)
        return value, dx[:, own]

    def topk(self, x: Tensor | ActiveInputs, k: int, exclude: Positives | None = None) -> tuple[Tensor, Tensor]:
        """The k best labels a row; see :meth:`Classifier.topk`."""
        rows, layer, _ = self._kernel_inputs(x)
        exclude = None if exclude is None else self._places(exclude, len(rows))
        scores, places = self._backend().topk(layer, rows, self._checked_k(k), exclude, self._shared(rows))
        return scores, places if self.order is None else self.order.labels(places)

    def topk_among(
        self, x: Tensor, k: int, chosen: Sequence[ChosenClusters], exclude: Positives | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k best labels of each row's clusters; see :meth:`Classifier.topk_among`."""
        (own,) = chosen
        x = self._checked_input(x)
        layer, clusters = self._weights(self.index, self.in_features), self.clusters
        exclude = None if exclude is None else self._places(exclude, len(x))
        shared = None if clusters is None else SharedVectors(clusters.weight.detach(), clusters.cluster_size)
        scores, places = self._backend().topk_among(layer, x, self._checked_k(k), own, exclude, shared)
        return scores, places if self.order is None else self.order.labels(places)

    def set_bias(self, bias: Tensor) -> None:
        """Set the biases from values by label id; see :meth:`Classifier.set_bias`."""
        super().set_bias(bias if self.order is None else bias[self.order.outer.long()])

    @property
    def connections(self) -> int:
        """How many weights tie features to labels, those that clusters share included."""
        shared = 0 if self.clusters is None else self.clusters.weight.numel()
        return self.weight.numel() + shared

    def sparse_parts(self) -> tuple[SparsePart, ...]:
        """This layer and its labels; see :meth:`Classifier.sparse_parts`."""
        if self.order is None:
            return (SparsePart(self, torch.arange(self.out_features, device=self.weight.device)),)
        return (SparsePart(self, self.order.outer.long()),)

    def part(self, start: int, stop: int) -> SparseLinear:
        """The layer of the labels start to stop of this one by place, as it would be if it were made whole; on the CPU.

        Groups and clusters must not be cut. The part has no internal order.
        """
        clusters = self.clusters
        return SparseLinear(
            self.in_features,
            stop - start,
            self.fan_in,
            self.group_size,
            cluster_size=0 if clusters is None else clusters.cluster_size,
            cluster_inputs=None if clusters is None else clusters.weight.shape[1],
            cluster_rate=1.0 if clusters is None else clusters.rate,
            backend=self.backend,
            **self._options_of_part(start),
        )

    def rewire(self, prune: Prune, seed: int, inputs: int | None = None) -> Tensor:
        """Prune the weakest connections and regrow as many at random (SET); weights and state there become zero.

        Args:
            prune: how many and which.
            seed: a fresh one for every rewiring.
            inputs: regrown connections read one of the first so many inputs; by default any.

        Returns:
            How many connections each index set replaced, (ceil(L / G),) int32.

        Raises:
            ConfigError: the layer has fewer inputs, or none of them would be left.
        """
        if inputs is not None and not 1 <= inputs <= self.in_features:
            raise ConfigError(f"inputs={inputs} must lie in 1..{self.in_features}, the layer's inputs")
        layer = self._weights(self.index, self.in_features)
        return self._backend().rewire(layer, self._moments or Moments(), prune, seed, inputs)

    def nbytes(self) -> dict[str, int]:
        """Bytes of weights, index sets, bias, and of the clusters' vectors and the internal order where there are."""
        parts = {"weight": self.weight.nbytes, "index": self.index.nbytes}
        if self.bias is not None:
            parts["bias"] = self.bias.nbytes
        if self.clusters is not None:
            parts["clusters"] = self.clusters.weight.nbytes
        if self.order is not None:
            parts["order"] = self.order.outer.nbytes
        return parts

    def settings(self) -> dict[str, Any]:
        """Constructor arguments that fix the shapes."""
        clusters = self.clusters
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "fan_in": self.fan_in,
            "group_size": self.group_size,
            "bias": self.bias is not None,
            "cluster_size": 0 if clusters is None else clusters.cluster_size,
            "cluster_inputs": None if clusters is None else clusters.weight.shape[1],
            "ordered": self.order is not None,
            **storage_settings(self.weight.dtype, self.rounding_seed),
        }

    def optimizer_state(self) -> dict[str, Tensor]:
        """The update's state by name, the clusters' included; the tensors are the live ones."""
        shared = () if self.clusters is None else self.clusters.moments or ()
        return super().optimizer_state() | named_state({"clusters": shared})

    def updated_parameters(self) -> dict[str, Tensor]:
        """The parameters that the update keeps a state of, by name; the clusters' vectors are "clusters"."""
        shared = {} if self.clusters is None else {"clusters": self.clusters.weight}
        return super().updated_parameters() | shared

    def _take_up(self, moments: Mapping[str, tuple[Tensor, ...] | None]) -> None:
        super()._take_up(moments)
        if self.clusters is not None:
            self.clusters.moments = moments["clusters"]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        index = state_dict.get(f"{prefix}index")
        if index is not None and not index.is_meta:
            check_index(index, tuple(self.index.shape), self.in_features)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _backend(self) -> Backend:
        return dispatch.choose(self.weight.device, self.weight.dtype, self.backend).backend

    def _kernel_inputs(self, x: Tensor | ActiveInputs) -> tuple[Tensor, SparseWeights, slice | Tensor]:
        """What a kernel reads, x and the layer, and which columns of this x are those that were given.

        The index sets are narrowed to the active columns where that pays.
        """
        if not isinstance(x, ActiveInputs):
            return self._checked_input(x), self._weights(self.index, self.in_features), slice(None)
        x = self._checked_active(x)
        whole = self._weights(self.index, self.in_features, x.dense_inputs)
        A = len(x.columns)
        # The clusters' vectors read the first columns, so these must stay the first; a kernel needs F <= D.
        needed = 0 if self.clusters is None else self.clusters.weight.shape[1]
        leading = not needed or (needed <= A and int(x.columns[needed - 1]) == needed - 1)
        if len(x.values) < _NARROWED_ROWS or not leading or self.fan_in > A + 1:
            return x.dense(), whole, x.columns
        # The zero column wants no gradient either.
        dense = A if x.dense_inputs is None else int(torch.searchsorted(x.columns, x.dense_inputs))
        return x.padded(), self._weights(x.narrowed(self.index), A + 1, dense), slice(A)

    def _weights(self, index: Tensor, in_features: int, dense_inputs: int | None = None) -> SparseWeights:
        bias = None if self.bias is None else self.bias.detach()
        weight, G = self.weight.detach(), self.group_size
        return SparseWeights(weight, index, bias, G, in_features, dense_inputs, self.rounding_seed, self.shard.first)

    def _places(self, positives: Positives, rows: int) -> Positives:
        positives = self._checked_positives(positives, rows)
        return positives if self.order is None else self.order.positives(positives)

    def _shared(self, x: Tensor) -> SharedScores | None:
        return None if self.clusters is None else self.clusters.scores(x)
