"""Names of a classifier made of several parts: ``part.name``, joined and split again."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from fanin.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_Value = TypeVar("_Value")


def joined(parts: Mapping[str, Mapping[str, _Value]]) -> dict[str, _Value]:
    """The values of all parts, each by its part and its name.

    >>> joined({"head": {"bias": 4}, "tail": {"bias": 8}})
    {'head.bias': 4, 'tail.bias': 8}
    """
    return {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}


def split_by_part(what: str, state: Mapping[str, Tensor], *parts: str) -> list[dict[str, Tensor]]:
    """A state made by :func:`joined`, a mapping for each of the parts; ``what`` it is, errors say.

    Raises:
        CheckpointError: a tensor belongs to none of them.
    """
    found: dict[str, dict[str, Tensor]] = {part: {} for part in parts}
    for name, tensor in state.items():
        part, dot, rest = name.partition(".")
        if not dot or part not in found:
            raise CheckpointError(f"{what}: {name!r} is of none of these parts: {', '.join(parts)}")
        found[part][rest] = tensor
    return list(found.values())
