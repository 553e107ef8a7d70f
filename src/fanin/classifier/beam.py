"""Approximate top-k in two stages: a router chooses a few clusters of labels, whose labels are scored exactly.

The idea of label trees with a beam (Prabhu et al., Parabel, WWW 2018) for a layer that is already trained: what the
router is taught is which clusters hold the layer's own best labels (:mod:`fanin.beams.building`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import torch

from fanin.errors import ConfigError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.positives import row_range

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.classifier.interface import Classifier
    from fanin.classifier.label_clusters import LabelClusters
    from fanin.kernels.spec import Positives

_SCORES = 1 << 23  # of clusters at a time: 32 MB
_DENSE_VALUES = 1 << 24  # of an x that is written out at a time: 64 MB


@dataclass(frozen=True)
class Beam:
    """The first stage of an approximate top-k, and how many clusters it is meant to choose.

    Attributes:
        clusters: K clusters of all labels that a sparse part serves.
        weight: (R, Q) bfloat16, the router: ``x @ weight.T + bias`` scores the first R clusters. Those behind held none
            of the best labels of any text; they are chosen after all others, by their numbers.
        bias: (R,) float32.
        fold: None where the router reads all of a dense x. Else (D - D0,) int32, not 0, for inputs behind the first D0
            that are mostly zero: input D0 + i adds its value, with the sign of ``fold[i]``, to sum ``|fold[i]| - 1`` of
            Q - D0 (feature hashing: Weinberger et al., ICML 2009).
        width: clusters a row; with K or more the result is the exact one.
    """

    clusters: LabelClusters
    weight: Tensor
    bias: Tensor
    fold: Tensor | None
    width: int

    def scores(self, inputs: Tensor) -> Tensor:
        """The router's scores (B, R) float32 of what it reads (B, Q).

        Where the processor multiplies bfloat16 matrices, it is left to do so, which is four times faster than in
        float32; elsewhere the same weights are used in float32. So the last digits differ between processors.
        """
        if multiplies_bfloat16():
            return (inputs.bfloat16() @ self.weight.T).float().add_(self.bias)
        return torch.addmm(self.bias, inputs, self._wide_weight.T)

    @cached_property
    def _wide_weight(self) -> Tensor:
        return self.weight.float()

    def choose(self, x: Tensor | ActiveInputs) -> Tensor:
        """The best clusters of each row, (B, min(width, K)) int64, in no order.

        Raises:
            ConfigError: the width is below 1.
        """
        width = self.width
        if width < 1:
            raise ConfigError(f"a beam of {width} clusters: it must hold at least 1")
        R, inputs = len(self.weight), router_inputs(x, self.fold)
        routed = min(width, R)
        found = torch.empty(len(inputs), routed, dtype=torch.int64)
        step = max(1, _SCORES // max(R, 1))
        for start in range(0, len(inputs), step):
            part = slice(start, start + step)
            found[part] = self.scores(inputs[part]).topk(routed, sorted=False).indices
        rest = torch.arange(R, min(max(width, R), self.clusters.count))
        return torch.cat([found, rest.expand(len(found), -1)], dim=1)

    def topk(
        self,
        classifier: Classifier,
        x: Tensor | ActiveInputs,
        k: int,
        exclude: Positives | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The k best labels a row among those of the chosen clusters, as :meth:`Classifier.topk` gives them.

        Args:
            classifier: the layer that this was made for.
            x: (B, D), or its active columns.
            k: how many labels.
            exclude: pairs that must not be returned.

        Raises:
            ConfigError: as :meth:`Classifier.topk`, or the width is below 1.
        """
        if self.width >= self.clusters.count:
            return classifier.topk(x, k, exclude)
        parts, numbers = classifier.sparse_parts(), self.choose(x)
        size = max(1, _DENSE_VALUES // classifier.in_features)
        found = [
            classifier.topk_among(
                _dense_rows(x, part),
                k,
                self.clusters.chosen(parts, numbers[part]),
                None if exclude is None else row_range(exclude, part),
            )
            for part in (slice(start, start + size) for start in range(0, max(len(numbers), 1), size))
        ]
        return torch.cat([scores for scores, _ in found]), torch.cat([labels for _, labels in found])


@cache
def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16; without them they are slower than float32."""
    told = getattr(torch.cpu, "get_capabilities", None)  # which older torch does not have: float32 is right everywhere
    return told is not None and any(told().get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def _dense_rows(x: Tensor | ActiveInputs, part: slice) -> Tensor:
    return x._replace(values=x.values[part]).dense() if isinstance(x, ActiveInputs) else x[part]


def router_inputs(x: Tensor | ActiveInputs, fold: Tensor | None) -> Tensor:
    """What a router reads, (B, Q).

    >>> x = ActiveInputs(torch.tensor([[2.0, 3.0, 5.0]]), torch.tensor([1, 2, 4]), 5)
    >>> router_inputs(x, torch.tensor([-1, 2, -1]).int()).tolist()  # two dense inputs and two sums
    [[0.0, 2.0, -8.0, 0.0]]
    """
    if fold is None:
        return x.dense() if isinstance(x, ActiveInputs) else x
    values, columns = (x.values, x.columns) if isinstance(x, ActiveInputs) else (x, torch.arange(x.shape[1]))
    dense = (x.in_features if isinstance(x, ActiveInputs) else x.shape[1]) - len(fold)
    sums = int(fold.long().abs().max())
    signed = fold.long()[columns[columns >= dense] - dense]
    first = int(torch.searchsorted(columns, dense))
    result = values.new_zeros(len(values), dense + sums)
    result[:, columns[:first]] = values[:, :first]
    return result.index_add_(1, dense - 1 + signed.abs(), values[:, first:] * signed.sign())
