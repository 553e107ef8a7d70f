"""What a kernel backend provides: the names, shapes, dtypes and the meaning of every operation.

The words of the shapes: L labels, D input features, B rows of a batch, F fan-in, G group size, P positives,
S = ceil(L / G) index sets, K clusters. A group of G consecutive labels shares one index set, so label ``l`` reads
``x[:, index[l // G]]``; G = 1 is the plain fixed fan-in layer. A cluster of consecutive labels, of a size that has
nothing to do with G, may share a dense part of the score on top (:class:`SharedScores`).

:mod:`fanin.kernels.reference` implements the whole specification in plain torch and defines the result of
every other backend.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fanin.kernels.chosen_clusters import ChosenClusters, SharedVectors

INDEX_UINT16_LIMIT = 65_536
"""Largest number of input features whose indices are stored in 16 bits."""

DEFAULT_CHUNK_SIZE = 4096
"""Labels worked on at a time where a backend materialises a (B, C) block."""


class Loss(StrEnum):
    """Losses of one logit z with target y: summed over labels, averaged over the batch by the caller's scale."""

    BCE = "bce"
    """softplus(z) - y z, y in {0, 1}."""
    SQUARED_HINGE = "squared_hinge"
    """max(0, 1 - s z)^2 with s = 2 y - 1."""


class Positives(NamedTuple):
    """The relevant labels of a batch, as CSR. A label that stands twice in a row counts once; rows may be empty.

    A pair's weight w and margin m change its loss from loss(z) to w loss(z - m); nothing else reads them. A label that
    stands twice in a row has the same twice.
    """

    indptr: Tensor  # (B + 1,) int64
    indices: Tensor  # (P,) int64, each in [0, L)
    weights: Tensor | None = None  # (P,) of x's dtype, at least 0; None for 1 everywhere
    margins: Tensor | None = None  # (P,) of x's dtype; None for 0 everywhere


@dataclass(frozen=True)
class SparseWeights:
    """The tensors of one fixed fan-in layer; operations update them in place.

    Weights may be stored in fewer bits than everything is computed in (:func:`compute_dtype`). Every operation widens
    them to float32 (on a GPU products may take both operands in bfloat16, with sums in float32); a step rounds the
    updated weights stochastically to what is stored, where (label, slot) is element ``label * F + slot``
    (:func:`fanin.kernels.rounding.round_stochastically`). Nothing keeps a float32 copy.

    Attributes:
        weight: (L, F) float32, bfloat16 or float8_e4m3fn (float64 on the reference backend).
        index: (S, F), uint16 where D <= 65,536 and int32 beyond; no input stands twice in a row.
        bias: (L,) of the dtype that is computed in, or None.
        group_size: G, labels that share an index set. The last group may be short.
        in_features: D.
        dense_inputs: inputs behind the first so many are mostly zero, as words of texts are: a training step and top-k
            may skip them where x is zero, and the step's dx is zero there. None: all inputs are dense.
        rounding_seed: of the stochastic rounding, 63 bits; read only where weights are stored in fewer bits.
        first_label: number of the first label in the layer that these are a part of, a multiple of G: set s and element
            e here draw their random numbers as set ``first_label // G + s`` and element ``first_label * F + e`` there.
    """

    weight: Tensor
    index: Tensor
    bias: Tensor | None
    group_size: int
    in_features: int
    dense_inputs: int | None = None
    rounding_seed: int = 0
    first_label: int = 0


@dataclass(frozen=True)
class SharedScores:
    """A score of each cluster and row that every label of the cluster adds to its own logit.

    Clusters are consecutive: label ``l`` belongs to cluster ``l // cluster_size``, and the last one may be short. With
    shared cluster weights C (K, D) the scores are ``C @ x.T``; those products are left to a matrix library.

    Attributes:
        scores: (K, B) with K = ceil(L / cluster_size), of x's dtype: a cluster's scores lie together.
        cluster_size: labels in a cluster, at least 1.

    >>> import torch
    >>> C, x = torch.ones(2, 3), torch.ones(5, 3)  # two clusters: labels 0 to 3, and the rest
    >>> SharedScores(C @ x.T, cluster_size=4).scores.shape
    torch.Size([2, 5])
    """

    scores: Tensor
    cluster_size: int


class StepResult(NamedTuple):
    """What a training step gives back, all from the weights before the step.

    Attributes:
        loss: ``scale * sum of losses`` over all rows and labels.
        dx: (B, D) gradient of the loss by x, without the part that flows through shared scores.
        shared_grad: (K, B) gradient of the loss by the shared scores, None where there are none. For scores
            ``C @ x.T`` the rest of the gradients is ``dx += shared_grad.T @ C`` and ``dC = shared_grad @ x``.
    """

    loss: float
    dx: Tensor
    shared_grad: Tensor | None


@dataclass(frozen=True)
class SGD:
    """w <- w - lr * v, with v <- momentum * v + (g + weight_decay * w); v = g + weight_decay * w if momentum is 0."""

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0

    def scaled(self, factor: float) -> SGD:
        """The same rule at ``factor`` times its learning rate."""
        return replace(self, learning_rate=factor * self.learning_rate)

    def without_decay(self) -> SGD:
        """The same rule for parameters that are never decayed."""
        return replace(self, weight_decay=0.0)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), bias-corrected by the step number.

    ``m <- b1 m + (1 - b1) g``, ``v <- b2 v + (1 - b2) g^2``,
    ``w <- w (1 - lr * weight_decay) - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)``.
    """

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def scaled(self, factor: float) -> AdamW:
        """The same rule at ``factor`` times its learning rate."""
        return replace(self, learning_rate=factor * self.learning_rate)

    def without_decay(self) -> AdamW:
        """The same rule for parameters that are never decayed."""
        return replace(self, weight_decay=0.0)


Update = SGD | AdamW


class Moments(NamedTuple):
    """The update's state, of the same shapes as weight and bias and the dtype that is computed in, zero at the start.

    Empty tuples for SGD without momentum, (v,) with momentum, (m, v) for AdamW. ``bias`` is empty without a bias.
    """

    weight: tuple[Tensor, ...] = ()
    bias: tuple[Tensor, ...] = ()


class Prune(NamedTuple):
    """Which connections a rewiring removes from each index set.

    A slot's score is |w|, or for G > 1 the mean of |w| over the group's labels. At most ``floor(fraction * F)`` slots
    with the smallest scores are removed, and no more than there are unused inputs to regrow, the lower slot first among
    equals; with a threshold only those of them whose score is below it.
    """

    fraction: float
    threshold: float | None = None


class Backend(Protocol):
    """The operations. All tensors are contiguous and on the backend's device.

    x, gradients, biases, moments and scores are of the dtype that is computed in, ``compute_dtype(weight.dtype)``.

    ``index`` values are valid and free of duplicates within a set (the classifier guarantees it), but for an input that
    is zero in all rows (:meth:`fanin.kernels.active_inputs.ActiveInputs.narrowed`). Results do not
    depend on chunks; on several threads the order of floating-point sums may differ from one thread's, and is the
    same again for the same number of threads.
    """

    name: str

    def forward(self, layer: SparseWeights, x: Tensor, shared: SharedScores | None = None) -> Tensor:
        """Logits (B, L): z[b, l] = bias[l] + sum_f weight[l, f] * x[b, index[l // G, f]].

        Shared scores add ``shared.scores[l // cluster_size, b]``, here and in every other operation that takes them.
        """

    def grad_input(self, layer: SparseWeights, grad: Tensor) -> Tensor:
        """Gradient of the input (B, D) from that of the logits (B, L)."""

    def grad_weight(self, layer: SparseWeights, grad: Tensor, x: Tensor) -> Tensor:
        """Gradient of the weights (L, F) from that of the logits (B, L)."""

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
        """Forward, backward and update in one pass over the labels; no (B, L) array exists.

        Args:
            layer: updated in place; the bias is updated like the weights but never decayed.
            moments: the update's state, updated in place.
            x: (B, D).
            positives: the batch's relevant labels.
            loss: which loss.
            update: the update rule with its learning rate for this step.
            step: number of this step, from 1 (bias correction of Adam, stream of the stochastic rounding).
            scale: factor of the summed loss and of all gradients, usually 1 / B.
            shared: what clusters of labels add to their logits; not updated here.
            chunk_size: labels at a time, for backends that materialise a block; never changes the result.

        Returns:
            The loss and its gradients by x and by the shared scores.
        """

    def topk(
        self, layer: SparseWeights, x: Tensor, k: int, exclude: Positives | None, shared: SharedScores | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k best labels a row: scores (B, k) descending and labels (B, k) int64.

        ``1 <= k <= L``. Among equal scores the lower label comes first. Pairs in ``exclude`` are passed over; places
        left empty hold score -inf and label -1. A logit of NaN or -inf is never chosen.
        """

    def topk_among(
        self,
        layer: SparseWeights,
        x: Tensor,
        k: int,
        chosen: ChosenClusters,
        exclude: Positives | None,
        shared: SharedVectors | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`topk`, among the labels of the clusters that each row has chosen."""

    def widen_into(self, stored: Tensor, out: Tensor) -> None:
        """Write the float32 values of ``stored``, bfloat16 or float8, into ``out`` of the same shape."""

    def round_into(self, values: Tensor, out: Tensor, seed: int, step: int, first_element: int = 0) -> None:
        """Round ``values``, float32, stochastically into ``out``, bfloat16 or float8 of the same shape.

        The values are the elements ``first_element``, ``first_element + 1``, ... in row-major order, bit for bit as
        :func:`fanin.kernels.rounding.round_stochastically` defines it.
        """

    def draw_index(self, sets: int, fan_in: int, in_features: int, seed: int, first_set: int = 0) -> Tensor:
        """Index sets (sets, F), each a uniform random subset of [0, D) as defined by ``drawing.draw_subset``.

        They are numbered from ``first_set`` on.
        """

    def rewire(
        self, layer: SparseWeights, moments: Moments, prune: Prune, seed: int, inputs: int | None = None
    ) -> Tensor:
        """Prune, then regrow at random among the inputs that were not in use before (``drawing.regrow``).

        Regrown slots keep their places; their weights and moments become zero for every label of the group. They read
        one of the first ``inputs`` inputs, in [1, D], by default any; those that stay may read others.

        Returns:
            The number of connections replaced in each set, (S,) int32.
        """


def index_dtype(in_features: int) -> torch.dtype:
    """The dtype of index tensors for D inputs: uint16 up to 65,536, int32 beyond."""
    import torch

    return torch.uint16 if in_features <= INDEX_UINT16_LIMIT else torch.int32


def compute_dtype(stored: torch.dtype) -> torch.dtype:
    """The dtype of x, bias, moments and all arithmetic for weights stored in a dtype.

    float32 for bfloat16 and float8_e4m3fn, which are formats of storage only; every other dtype is its own.

    >>> import torch
    >>> compute_dtype(torch.bfloat16), compute_dtype(torch.float64)
    (torch.float32, torch.float64)
    """
    import torch

    return torch.float32 if stored in {torch.bfloat16, torch.float8_e4m3fn} else stored


def moment_count(update: Update) -> int:
    """How many state tensors of the weight's shape an update keeps: 0, 1 or 2."""
    if isinstance(update, AdamW):
        return 2
    return 1 if update.momentum else 0
