"""A classifier whose labels are shared by several processes, as one of them sees it."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from fanin.classifier.dense import DenseLinear
from fanin.classifier.internal_order import InternalOrder
from fanin.classifier.label_bands import LabelBands, best_pairs
from fanin.classifier.part_names import joined, split_by_part
from fanin.classifier.sharding import BandSize, shard_ranges, unit_of
from fanin.classifier.sparse import SparseLinear
from fanin.errors import ConfigError
from fanin.tensor_files import copy_into, distinct_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fanin.classifier.interface import Classifier
    from fanin.classifier.label_bands import Band
    from fanin.kernels.active_inputs import ActiveInputs
    from fanin.kernels.spec import Positives
    from fanin.processes.group import Processes

_Value = TypeVar("_Value")
_ORDER = "order.outer"


class ShardedClassifier(LabelBands):
    """One process's labels of a classifier that several processes train together.

    Every process has a range of the places of every layer of the whole classifier (:func:`shard_ranges`), with the
    weights and index sets that the whole one would start with. Each trains its own labels on all rows of the batch:
    what :meth:`train_step` gives are this process's share of the loss and of dx, to be added up over the processes.
    :meth:`topk` has all processes take part and gives each the best of all labels.

    Args:
        whole: the classifier, on the device "meta": a sparse or dense layer, or bands of such.
        processes: that share it.
        settings: what could be done about too few labels for so many processes, for the message.

    Attributes:
        whole: likewise; it knows kind, settings and sizes.
        order: label ids by place, or None where the whole has no order of its own.

    Raises:
        ConfigError: the kind cannot be shared, or there are too few labels.

    >>> from fanin.processes.group import ALONE
    >>> layer = ShardedClassifier(SparseLinear(16, 1000, fan_in=4, device="meta"), ALONE)
    >>> torch.equal(layer.bands[0].weight, SparseLinear(16, 1000, fan_in=4).weight)
    True
    """

    order: InternalOrder | None  # type: ignore[assignment]

    def __init__(self, whole: Classifier, processes: Processes, settings: str = "") -> None:
        super().__init__(whole.in_features, whole.out_features)
        layers = _layers_of(whole)
        sizes = [BandSize(layer.out_features, _unit(layer)) for layer in layers.values()]
        own = [ranges[processes.rank] for ranges in shard_ranges(sizes, processes.size, settings)]
        starts = accumulate((size.labels for size in sizes), initial=0)
        self._add_bands(
            {name: start + first for name, start, (first, _) in zip(layers, starts, own, strict=False)},
            {name: layer.part(*ends) for (name, layer), ends in zip(layers.items(), own, strict=True)},
        )
        self._whole, self._processes = (whole,), processes  # in a tuple, so that its parts are not taken for ours
        self.order = None if getattr(whole, "order", None) is None else InternalOrder(whole.out_features)

    @property
    def whole(self) -> Classifier:
        """The classifier without memory; see the class."""
        return self._whole[0]

    def forward(self, x: Tensor) -> Tensor:
        """Not there: no process has the logits of all labels.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"the logits of x {tuple(x.shape)} are spread over several processes; ask for the best by topk"
        )

    def topk(self, x: Tensor | ActiveInputs, k: int, exclude: Positives | None = None) -> tuple[Tensor, Tensor]:
        """The k best of all processes' labels a row; all processes call it with the same x.

        See :meth:`fanin.classifier.interface.Classifier.topk`.
        """
        k = self._checked_k(k)
        found, labels = super().topk(x, k, exclude)
        missing = k - found.shape[1]
        found = torch.nn.functional.pad(found, (0, missing), value=-torch.inf)
        labels = torch.nn.functional.pad(labels, (0, missing), value=-1)
        size, rows = self._processes.size, [len(found)] * self._processes.size
        scores = self._processes.concatenated(found, rows).view(size, -1, k).transpose(0, 1)  # (B, N, k)
        ids = self._processes.concatenated(labels, rows).view(size, -1, k).transpose(0, 1)
        return best_pairs(scores.flatten(1), ids.flatten(1), k)

    @property
    def connections(self) -> int:
        """How many weights tie features to labels, those of all processes."""
        return self.whole.connections

    def nbytes(self) -> dict[str, int]:
        """Bytes of what prediction needs, those of all processes."""
        return self.whole.nbytes()

    def settings(self) -> dict[str, Any]:
        """The settings of the whole."""
        return self.whole.settings()

    def own_tensors(self) -> dict[str, Tensor]:
        """The weights and index sets of the own labels, by the names that the whole has for those of all labels.

        The first process has the order besides, which all know.
        """
        own = self._as_whole({name: distinct_tensors(band) for name, band in self.named_bands()})
        if self.order is not None and self._processes.first:
            own[_ORDER] = self.order.outer
        return own

    def take_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`own_tensors` gave, and the order.

        Raises:
            CheckpointError: names, shapes or dtypes are others.
        """
        own = dict(tensors)
        if self.order is not None and _ORDER in own:
            self.order.assign(own.pop(_ORDER).long())
        parts = [own] if self._single else split_by_part("classifier", own, *self._names)
        for band, part in zip(self.bands, parts, strict=True):
            copy_into(band, part)

    def own_rows(self) -> dict[str, int]:
        """How many rows of every tensor of :meth:`own_tensors` and, by parameter, of the update's state are own."""
        held = {name: len(tensor) for name, tensor in self.own_tensors().items() if name != _ORDER}
        updated = {name: band.updated_parameters() for name, band in self.named_bands()}
        return held | {name: len(tensor) for name, tensor in self._as_whole(updated).items()}

    def optimizer_state(self) -> dict[str, Tensor]:
        """The update's state of the own labels, by the names that the whole has for that of all labels."""
        return self._as_whole({name: band.optimizer_state() for name, band in self.named_bands()})

    def load_optimizer_state(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Take up a state of :meth:`optimizer_state`; see :meth:`Classifier.load_optimizer_state`."""
        parts = [state] if self._single else split_by_part("optimizer state", state, *self._names)
        for band, own in zip(self.bands, parts, strict=True):
            band.load_optimizer_state(own, steps)
        self.steps = steps

    @property
    def _single(self) -> bool:
        return not isinstance(self.whole, LabelBands)

    def _as_whole(self, parts: dict[str, dict[str, _Value]]) -> dict[str, _Value]:
        return next(iter(parts.values())) if self._single else joined(parts)

    def _labels(self, places: Tensor) -> Tensor:
        return places if self.order is None else super()._labels(places)

    def _labels_from(self, start: int, count: int) -> Tensor:
        return torch.arange(start, start + count) if self.order is None else super()._labels_from(start, count)

    def _by_place(self, positives: Positives) -> Positives:
        return positives if self.order is None else super()._by_place(positives)


def _layers_of(whole: Classifier) -> dict[str, Band]:
    """The layers of a classifier that processes can share, by name."""
    if type(whole) in {SparseLinear, DenseLinear}:
        assert isinstance(whole, SparseLinear | DenseLinear)
        return {"layer": whole}
    if isinstance(whole, LabelBands):
        return dict(whole.named_bands())
    raise ConfigError(f"a {type(whole).__name__} is a baseline for one process; several cannot share it")


def _unit(layer: Band) -> int:
    """Labels of a layer that must stay together."""
    if not isinstance(layer, SparseLinear):
        return 1
    return unit_of(layer.group_size, 0 if layer.clusters is None else layer.clusters.cluster_size)
