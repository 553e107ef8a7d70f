"""JSON files in folders that a user names: read, or refused with what to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fanin.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path


def read_json(path: Path, *, unreadable: str, damaged: str) -> Any:
    """The value that a JSON file (UTF-8) holds.

    Args:
        path: the file.
        unreadable: what to do where it is missing or cannot be read, for the message.
        damaged: likewise where it is not JSON.

    Raises:
        CheckpointError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); {unreadable}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged, not JSON ({error}); {damaged}") from error
