"""How much more a positive of a rare label counts in the loss: weights and margins, by training frequency."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fanin.labels.propensity import inverse_propensities

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def propensity_weights(
    train_counts: ArrayLike, points: int, strength: float, a: float, b: float
) -> NDArray[np.float32]:
    """The weight of a positive of every label: its inverse propensity to the power of ``strength``.

    Positives of rare labels are the ones most often missing in the data, so each that was recorded stands for more than
    itself (Jain, Prabhu and Varma, KDD 2016; as weights in a loss: Qaraei, Schultheis, Gupta and Babbar, WWW 2021).
    No weight is above ``(1 + (ln N - 1) ((b + 1) / b)^a)^strength``.

    >>> propensity_weights([0, 10, 1000], 1000, 0.5, a=0.55, b=1.5).round(1)
    array([3. , 1.9, 1.1], dtype=float32)

    Args:
        train_counts: (L,) training points of each label.
        points: N.
        strength: 1 for the inverse propensity, 0 for no weights.
        a: of the propensity model, as ``b``.
        b: see :func:`fanin.labels.propensity.inverse_propensities`.

    Returns:
        (L,) float32, each at least 1.

    Raises:
        ConfigError: a or b cannot be.
        DataError: a count cannot be.
    """
    weights: NDArray[np.float32] = (inverse_propensities(train_counts, points, a, b) ** strength).astype(np.float32)
    return weights


def frequency_margins(train_counts: ArrayLike, strength: float) -> NDArray[np.float32]:
    """By how much a positive of every label has to score higher: ``strength / n^(1/4)``, n its training points.

    The margin that balances the generalisation bounds of frequent and rare classes (Cao, Wei, Gaidon, Arechiga and Ma,
    label-distribution-aware margins, NeurIPS 2019).

    >>> frequency_margins([0, 1, 16, 10_000], strength=2.0)
    array([2. , 2. , 1. , 0.2], dtype=float32)

    Args:
        train_counts: (L,) training points of each label; 0 counts as 1.
        strength: the margin of a label with one training point.

    Returns:
        (L,) float32.
    """
    counts = np.maximum(np.asarray(train_counts, np.float64), 1)
    margins: NDArray[np.float32] = (strength * counts**-0.25).astype(np.float32)
    return margins
