"""Ranking metrics over all test points, gathered batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fanin.errors import ConfigError, DataError
from fanin.evaluation.pairs import as_predictions, find_pairs, pair_keys
from fanin.labels.frequency import GROUP_NAMES, label_groups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

SCORES = ("P", "nDCG", "R", "PSP", "PSnDCG", "coverage")


@dataclass(frozen=True)
class Metrics:
    """The result of an evaluation; all scores are shares in [0, 1], 0 where there was nothing to score.

    Attributes:
        points: points scored.
        left_out: points left out because they have no relevant label.
        scores: by name, for instance ``"P@1"`` or ``"PSnDCG@5"``; defined in :class:`MetricAccumulator`.
        groups: for head, middle and tail the number of ``"labels"`` and its contributions to each ``"P@k"``;
            the three add up to P@k.
    """

    points: int
    left_out: int
    scores: Mapping[str, float]
    groups: Mapping[str, Mapping[str, float]]

    def __getitem__(self, name: str) -> float:
        return self.scores[name]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the points, every score by its name, and ``"groups"``."""
        return {
            "points": self.points,
            "left_out": self.left_out,
            **self.scores,
            "groups": {name: dict(group) for name, group in self.groups.items()},
        }


class MetricAccumulator:
    """Gathers metrics over batches of predictions; the result does not depend on how the points are batched.

    For a point with n >= 1 relevant labels, y_j = 1 if the label at rank j is relevant, p the propensity of that label:

    - ``P@k``: mean over points of (1/k) sum of y_j, j <= k. An empty place counts as a miss.
    - ``nDCG@k``: mean of [sum of y_j / log2(j + 1)] / [the same for a perfect ranking, min(k, n) hits].
    - ``R@k``, recall: mean of (1/n) sum of y_j.
    - ``PSP@k``: sum over points of the sum of y_j / p_j, over the same sum for the ideal ranking, which ranks the
      relevant labels by 1 / p (Jain, Prabhu and Varma, KDD 2016).
    - ``PSnDCG@k``: as PSP@k, each point's sum being that of y_j / (p_j log2(j + 1)) divided by the sum of
      1 / log2(j + 1) over j <= min(k, n).
    - ``coverage@k``: of the labels relevant for some point, the share correctly predicted at k for some point.

    Points without relevant labels are left out and counted.

    Args:
        train_counts: (L,) training points of each label; 0 for labels of the test points that training never saw.
        inverse_propensities: (L,) 1 / p of each label.
        ks: the ranks k to report.

    Raises:
        ConfigError: if ``ks`` is empty or holds a number below 1.
        DataError: if the two arrays have different lengths.

    Example:
        >>> metrics = MetricAccumulator(train_counts=[5, 2, 1], inverse_propensities=[1.0, 2.0, 4.0], ks=(1,))
        >>> metrics.update([[0], [1], [2]], indptr=[0, 2, 3, 3], indices=[0, 2, 1])
        >>> result = metrics.result()
        >>> result["P@1"], result["PSP@1"], result["coverage@1"].__round__(2), result.left_out
        (1.0, 0.5, 0.67, 1)
    """

    def __init__(self, train_counts: ArrayLike, inverse_propensities: ArrayLike, ks: Sequence[int] = (1, 3, 5)) -> None:
        if not ks or min(ks) < 1:
            raise ConfigError(f"metrics: ks is {list(ks)}; give ranks of 1 or more, for instance 1, 3, 5")
        self._ks = np.unique(np.asarray(ks, np.int64))  # (R,)
        self._gain = np.asarray(inverse_propensities, np.float64)  # (L,)
        self._group = label_groups(train_counts)  # (L,)
        if self._gain.shape != self._group.shape:
            raise DataError(
                f"metrics: {len(self._group)} training counts but {self._gain.size} propensities; "
                "give one of each for every label"
            )
        ranks, labels = len(self._ks), len(self._group)
        self._points = 0
        self._left_out = 0
        self._sums = {name: np.zeros(ranks) for name in ("P", "nDCG", "R", "PSP", "PSnDCG")}
        self._ideal = {name: np.zeros(ranks) for name in ("PSP", "PSnDCG")}
        self._group_hits = np.zeros((len(GROUP_NAMES), ranks), np.int64)
        self._best_rank = np.full(labels, np.iinfo(np.int64).max)  # (L,) best rank of a correct prediction, from 1
        self._relevant = np.zeros(labels, bool)  # (L,)

    def update(self, predicted: ArrayLike, indptr: ArrayLike, indices: ArrayLike) -> None:
        """Adds a batch of points.

        Args:
            predicted: (B, K) ints, the labels predicted for each point, best first, -1 for an empty place. Places
                beyond K count as empty.
            indptr: (B + 1,) ints, with ``indices`` the relevant labels of each point as CSR.
            indices: (P,) ints; a label that stands twice for a point counts once.

        Raises:
            DataError: if shapes disagree, a label is out of range, or a label is predicted twice for a point.
        """
        labels = len(self._gain)
        keys = pair_keys(indptr, indices, labels)  # (P,)
        ranked = as_predictions(predicted, len(np.asarray(indptr)) - 1, labels)[:, : self._ks[-1]]
        counted, row = np.unique(keys // labels, return_inverse=True)  # rows with relevant labels; row of each pair
        hits = find_pairs(ranked, keys, labels)[counted]  # (b, K)
        ranked = ranked[counted]
        relevant = keys % labels  # (P,)
        number = np.bincount(row, minlength=len(counted))  # (b,)
        self._points += len(counted)
        self._left_out += len(np.asarray(indptr)) - 1 - len(counted)
        self._relevant[relevant] = True
        np.minimum.at(self._best_rank, ranked[hits], np.nonzero(hits)[1] + 1)
        self._add_scores(hits, ranked, number)
        self._add_ideal(row, relevant, number)

    def result(self) -> Metrics:
        """The metrics of all points so far."""
        names = [int(k) for k in self._ks]
        means = {name: total / max(self._points, 1) for name, total in self._sums.items()}
        for name, ideal in self._ideal.items():
            means[name] = self._sums[name] / np.where(ideal > 0, ideal, 1.0)
        correct = (self._best_rank[:, None] <= self._ks).sum(0)
        means["coverage"] = correct / max(int(self._relevant.sum()), 1)
        contributions = self._group_hits / (self._ks * max(self._points, 1))
        groups: dict[str, Mapping[str, float]] = {}
        for number, name in enumerate(GROUP_NAMES):
            shares = {f"P@{k}": float(contributions[number, i]) for i, k in enumerate(names)}
            groups[name] = {"labels": int((self._group == number).sum()), **shares}
        scores = {f"{name}@{k}": float(means[name][i]) for name in SCORES for i, k in enumerate(names)}
        return Metrics(self._points, self._left_out, scores, groups)

    def _add_scores(self, hits: NDArray[np.bool_], ranked: NDArray[np.int64], number: NDArray[np.int64]) -> None:
        discount = _discounts(max(hits.shape[1], int(self._ks[-1])))
        perfect = np.cumsum(discount)
        gain = np.where(hits, self._gain[ranked], 0.0)
        for i, k in enumerate(self._ks):
            top = hits[:, :k]
            weight = discount[: top.shape[1]]
            norm = perfect[np.minimum(number, k) - 1]
            self._sums["P"][i] += top.sum() / k
            self._sums["nDCG"][i] += (top @ weight / norm).sum()
            self._sums["R"][i] += (top.sum(1) / number).sum()
            self._sums["PSP"][i] += gain[:, :k].sum()
            self._sums["PSnDCG"][i] += (gain[:, :k] @ weight / norm).sum()
            self._group_hits[:, i] += np.bincount(self._group[ranked[:, :k][top]], minlength=len(GROUP_NAMES))

    def _add_ideal(self, row: NDArray[np.int64], relevant: NDArray[np.int64], number: NDArray[np.int64]) -> None:
        """Adds the propensity-scored sums of the ideal ranking: relevant labels by descending 1 / p."""
        order = np.lexsort((-self._gain[relevant], row))
        rank = np.arange(len(row)) - np.repeat(np.cumsum(number) - number, number)  # (P,) from 0, within the point
        gain = self._gain[relevant[order]]
        discount = _discounts(int(number.max(initial=1)))
        perfect = np.cumsum(discount)
        for i, k in enumerate(self._ks):
            top = rank < k
            norm = perfect[np.minimum(number, k) - 1][row]
            self._ideal["PSP"][i] += gain[top].sum()
            self._ideal["PSnDCG"][i] += (gain * discount[rank] / norm)[top].sum()


def _discounts(ranks: int) -> NDArray[np.float64]:
    """1 / log2(j + 1) for j = 1..ranks."""
    return 1.0 / np.log2(np.arange(2, ranks + 2))
