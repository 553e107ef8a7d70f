"""What the classifiers have in common whose labels are split into bands, each with an output layer of its own."""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias, TypedDict, cast

import torch
from torch import Tensor

from fanin.classifier.dense import DenseLinear
from fanin.classifier.interface import Classifier
from fanin.classifier.internal_order import InternalOrder
from fanin.classifier.part_names import joined, split_by_part
from fanin.classifier.sparse import SparseLinear, SparsePart
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.positives import kept_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fanin.kernels.chosen_clusters import ChosenClusters
    from fanin.kernels.spec import Loss, Positives, Update

    _Search: TypeAlias = Callable[[Tensor | ActiveInputs, int, Positives | None], tuple[Tensor, Tensor]]

Band = DenseLinear | SparseLinear


class BandOptions(TypedDict, total=False):
    """What all layers of a classifier share, with the meaning and the defaults of ``SparseLinear``."""

    bias: bool
    reference_fan_in: int | None
    initial_scale: float
    device: torch.device | str | None
    dtype: torch.dtype | str


class LabelBands(Classifier):
    """One classifier of several layers, which serve consecutive places of one internal order of the labels.

    A kind of classifier derives from it, says which layers there are (``_set_bands``) and what its settings are. A
    layer may read only the first inputs.

    Attributes:
        order: label ids by place; a layer is an attribute by its own name.
    """

    fewer_bits = True
    order: InternalOrder

    def _set_bands(self, device: torch.device | str | None, **bands: Band) -> None:
        """Take these layers, by name and in the order of their places; together they serve all labels."""
        assert sum(band.out_features for band in bands.values()) == self.out_features
        starts = accumulate((band.out_features for band in bands.values()), initial=0)
        self._add_bands(dict(zip(bands, starts, strict=False)), bands)
        self.order = InternalOrder(self.out_features, device)

    def _add_bands(self, starts: Mapping[str, int], bands: Mapping[str, Band]) -> None:
        """Take these layers, each for the places from its start on."""
        self._names, self._starts = tuple(bands), tuple(starts[name] for name in bands)
        for name, band in bands.items():
            self.add_module(name, band)

    @property
    def bands(self) -> tuple[Band, ...]:
        """The layers, in the order of their places."""
        return tuple(cast("Band", self.get_submodule(name)) for name in self._names)

    @property
    def connections(self) -> int:
        """How many weights tie features to labels."""
        return sum(band.connections for band in self.bands)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (..., L) of x (..., D), differentiable once; in fewer bits as ``SparseLinear.forward``."""
        given, x = x.dtype, self._forward_input(x)
        logits = torch.cat([band(x[..., : band.in_features]) for band in self.bands], dim=-1)
        return logits[..., self.order.inner].to(given)

    def train_step(
        self, x: Tensor | ActiveInputs, positives: Positives, loss: Loss, update: Update, *, weight: float = 1.0
    ) -> tuple[float, Tensor]:
        """One fused step; see :meth:`Classifier.train_step`."""
        x = self._checked_active(x) if isinstance(x, ActiveInputs) else self._checked_input(x)
        values = x.values if isinstance(x, ActiveInputs) else x
        total, dx = 0.0, torch.zeros_like(values)
        for band, own in zip(self.bands, self._split(positives, len(values)), strict=True):
            value, band_dx = band.train_step(_first_inputs(x, band.in_features), own, loss, update, weight=weight)
            total += value
            dx[:, : band_dx.shape[1]] += band_dx
        self.steps += 1
        return total, dx

    def topk(self, x: Tensor | ActiveInputs, k: int, exclude: Positives | None = None) -> tuple[Tensor, Tensor]:
        """The k best labels a row; see :meth:`Classifier.topk`."""
        return self._best_of_bands([band.topk for band in self.bands], x, k, exclude)

    def topk_among(
        self, x: Tensor, k: int, chosen: Sequence[ChosenClusters], exclude: Positives | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k best labels of each row's clusters and of the dense bands; see :meth:`Classifier.topk_among`."""
        of_band = iter(chosen)
        searches: list[_Search] = [
            partial(_search_among, band, next(of_band)) if isinstance(band, SparseLinear) else band.topk
            for band in self.bands
        ]
        return self._best_of_bands(searches, x, k, exclude)

    def _best_of_bands(
        self, searches: Sequence[_Search], x: Tensor | ActiveInputs, k: int, exclude: Positives | None
    ) -> tuple[Tensor, Tensor]:
        """The best of what is found in each band."""
        k = self._checked_k(k)
        x = self._checked_active(x) if isinstance(x, ActiveInputs) else self._checked_input(x)
        rows = len(x.values if isinstance(x, ActiveInputs) else x)
        barred = [None] * len(self.bands) if exclude is None else self._split(exclude, rows)
        scores, places = [], []
        for start, band, search, own in zip(self._starts, self.bands, searches, barred, strict=True):
            band_scores, found = search(_first_inputs(x, band.in_features), k, own)
            scores.append(band_scores)
            places.append(torch.where(found >= 0, found + start, -1))
        return best_pairs(torch.cat(scores, dim=1), self._labels(torch.cat(places, dim=1)), k)

    def set_bias(self, bias: Tensor) -> None:
        """Set the biases; see :meth:`Classifier.set_bias`."""
        for start, band in zip(self._starts, self.bands, strict=True):
            band.set_bias(bias[self._labels_from(start, band.out_features)])

    def sparse_parts(self) -> tuple[SparsePart, ...]:
        """The fixed fan-in layers with their labels; see :meth:`Classifier.sparse_parts`."""
        return tuple(
            SparsePart(band, self._labels_from(start - band.shard.first, band.shard.of))
            for start, band in zip(self._starts, self.bands, strict=True)
            if isinstance(band, SparseLinear)
        )

    def nbytes(self) -> dict[str, int]:
        """Bytes of the parts of every layer, and of the internal order."""
        parts = joined({name: band.nbytes() for name, band in self.named_bands()})
        return parts | {"order.outer": self.order.outer.nbytes}

    def optimizer_state(self) -> dict[str, Tensor]:
        """The update's state by name; see :meth:`Classifier.optimizer_state`."""
        return joined({name: band.optimizer_state() for name, band in self.named_bands()})

    def load_optimizer_state(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Take up a state of :meth:`optimizer_state`; see :meth:`Classifier.load_optimizer_state`."""
        for band, own in zip(self.bands, split_by_part("optimizer state", state, *self._names), strict=True):
            band.load_optimizer_state(own, steps)
        self.steps = steps

    def named_bands(self) -> list[tuple[str, Band]]:
        """The layers with their names, in the order of their places."""
        return list(zip(self._names, self.bands, strict=True))

    def _labels(self, places: Tensor) -> Tensor:
        """Label ids of places; -1 stays -1."""
        return self.order.labels(places)

    def _labels_from(self, start: int, count: int) -> Tensor:
        """Label ids of consecutive places, (count,) int64."""
        return self.order.outer[start : start + count].long()

    def _by_place(self, positives: Positives) -> Positives:
        """Pairs of rows and label ids as pairs of rows and places."""
        return self.order.positives(positives)

    def _split(self, positives: Positives, rows: int) -> list[Positives]:
        """Pairs of rows and label ids as those of every band, by its own places."""
        placed = self._by_place(self._checked_positives(positives, rows))
        parts = []
        for start, band in zip(self._starts, self.bands, strict=True):
            own = placed.indices - start
            inside = (own >= 0) & (own < band.out_features)  # (P,)
            parts.append(kept_pairs(placed._replace(indices=own), inside))
        return parts


def _search_among(
    band: SparseLinear, chosen: ChosenClusters, x: Tensor | ActiveInputs, k: int, exclude: Positives | None
) -> tuple[Tensor, Tensor]:
    assert isinstance(x, Tensor)
    return band.topk_among(x, k, [chosen], exclude)


def best_pairs(scores: Tensor, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of some candidates (B, n) a row, or all of fewer; among equal scores the lower label comes first.

    >>> best_pairs(torch.tensor([[1.0, 3.0, 3.0]]), torch.tensor([[4, 9, 6]]), 2)
    (tensor([[3., 3.]]), tensor([[6, 9]]))
    """
    labels, by_label = labels.sort(dim=1)
    best_scores, best = scores.gather(1, by_label).sort(dim=1, descending=True, stable=True)
    return best_scores[:, :k], labels.gather(1, best)[:, :k]


def _first_inputs(x: Tensor | ActiveInputs, count: int) -> Tensor | ActiveInputs:
    """The first ``count`` inputs of a checked x."""
    if not isinstance(x, ActiveInputs):
        return x[:, :count]
    if count == x.in_features:
        return x
    active = int(torch.searchsorted(x.columns, count))
    return ActiveInputs(x.values[:, :active], x.columns[:active], count)
