"""The words that say how a classifier is rewired; recipes know them without loading torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fanin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

PruneScope = Literal["set", "layer"]
"""Prune the same share of every index set, or as many in total, the weakest of the whole layer."""

GroupScore = Literal["mean", "max"]
"""How the labels of a group speak for their common set: by the mean of their values, or by the largest."""

GrowthMode = Literal["random", "gradient", "separating"]
"""SET's uniform draw; the largest dense gradient (RigL); what separates a label's positives from the rest."""


def check_shares(shares: Mapping[GrowthMode, float]) -> None:
    """Refuse shares of modes that are no shares.

    Raises:
        ConfigError: they do not add up to 1, or one is not positive.

    >>> check_shares({"random": 0.5, "gradient": 0.5})
    """
    if not all(share > 0 for share in shares.values()) or not abs(sum(shares.values()) - 1) < 1e-6:
        raise ConfigError(f"rewiring.grow={dict(shares)}: the shares must be positive and add up to 1")
