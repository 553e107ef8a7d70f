"""Tables of scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fanin.cli.output import percent
from fanin.evaluation.metrics import SCORES

if TYPE_CHECKING:
    from collections.abc import Mapping


def score_header(scores: Mapping[str, Any]) -> list[str]:
    """The columns of a table of one split's scores: a rank each."""
    return ["%", *(f"@{k}" for k in _ranks(scores))]


def score_rows(scores: Mapping[str, Any]) -> list[list[str]]:
    """A row for every metric, in percent."""
    return [[name, *(percent(scores[f"{name}@{k}"]) for k in _ranks(scores))] for name in SCORES]


def group_rows(scores: Mapping[str, Any]) -> list[list[str]]:
    """What head, middle and tail labels contribute to P@k, in percentage points."""
    return [
        [f"P of {name} labels", *(percent(group[f"P@{k}"]) for k in _ranks(scores))]
        for name, group in scores["groups"].items()
    ]


def _ranks(scores: Mapping[str, Any]) -> list[int]:
    return [int(name.removeprefix("P@")) for name in scores if name.startswith("P@")]
