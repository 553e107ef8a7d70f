"""The score to start from where nothing of a label is known but its frequency."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_PRIOR_COUNT = 0.1  # added to every count, so that labels without training points have a finite score


def log_odds(train_counts: ArrayLike, train_points: int) -> NDArray[np.float64]:
    """The constant score of every label that has the least binary cross-entropy, (L,).

    >>> log_odds([0, 5, 10], 10).round(2).tolist()
    [-4.62, 0.0, 4.62]

    Args:
        train_counts: (L,) training points of each label.
        train_points: N.
    """
    share = (np.asarray(train_counts) + _PRIOR_COUNT) / (train_points + 2 * _PRIOR_COUNT)
    return np.asarray(np.log(share / (1 - share)))
