"""Propensities: how likely a relevant label is to have been recorded, modelled from its training frequency."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fanin.errors import ConfigError, DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

DEFAULT_A = 0.55
DEFAULT_B = 1.5


def inverse_propensities(
    counts: ArrayLike, points: int, a: float = DEFAULT_A, b: float = DEFAULT_B
) -> NDArray[np.float64]:
    """1 / p_l of every label: 1 + C (N_l + B)^(-A) with C = (ln N - 1) (B + 1)^A.

    The model of Jain, Prabhu and Varma (KDD 2016). With fewer than three training points ln N < 1 would make C
    negative and the weights meaningless, so C is then 0 and every inverse propensity 1.

    >>> inverse_propensities([0, 10, 1000], points=1000).round(2)
    array([8.82, 3.55, 1.22])

    Args:
        counts: (L,) training points N_l of each label, from the original training rows only.
        points: N, the number of training points.
        a: exponent A; .55 by default, .6 is usual for Amazon and .5 for Wikipedia data.
        b: offset B; 1.5 by default, 2.6 is usual for Amazon and .4 for Wikipedia data.

    Returns:
        (L,) float64, each at least 1.

    Raises:
        ConfigError: A is negative, B is not positive, or one of them is not finite.
        DataError: a count is negative, not a whole number or above N, or N is below 1.
    """
    if not (math.isfinite(a) and a >= 0):
        raise ConfigError(f"propensity A = {a} must be a finite number of at least 0 (default {DEFAULT_A})")
    if not (math.isfinite(b) and b > 0):
        raise ConfigError(f"propensity B = {b} must be a finite number above 0 (default {DEFAULT_B})")
    if points < 1:
        raise DataError(f"propensities need at least one training point, got {points}")
    n_l = np.asarray(counts, dtype=np.float64)  # (L,)
    if n_l.ndim != 1:
        raise DataError(f"training counts must be one number a label, got an array of shape {n_l.shape}")
    bad = ~((n_l >= 0) & (n_l <= points) & (n_l == np.floor(n_l)))
    if bad.any():
        label = int(np.flatnonzero(bad)[0])
        raise DataError(f"label {label} has a training count of {n_l[label]:g}; expected a whole number in 0..{points}")
    scale = max(math.log(points) - 1.0, 0.0) * (b + 1.0) ** a
    result: NDArray[np.float64] = 1.0 + scale * (n_l + b) ** -a
    return result
