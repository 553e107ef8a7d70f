"""Failed allocations as an error that names what was too large."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from fanin.errors import MemoryPlanError

if TYPE_CHECKING:
    from collections.abc import Iterator

# torch has no type of its own for these; sizes whose product overflows would not fit into any memory.
_TORCH_MEMORY_ERRORS = ("can't allocate memory", "DefaultCPUAllocator", "not enough memory", "overflow")


@contextmanager
def enough_memory(part: str, settings: str) -> Iterator[None]:
    """Turn a failed allocation inside into an error about a part of the model.

    Args:
        part: what is made.
        settings: the recipe's settings that make it smaller.

    Raises:
        MemoryPlanError: there is too little memory for it.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in _TORCH_MEMORY_ERRORS):
            raise
        raise MemoryPlanError(f"there is too little memory for {part}; lower {settings}") from error
