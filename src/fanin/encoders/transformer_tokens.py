"""The tokens of a transformer, by its own tokenizer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer as BackendTokenizer

from fanin.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SETTINGS_FILE = "fanin_tokenizer.json"
_VERSION = 1


class TransformerTokenizer:
    """A Hugging Face tokenizer; made by :func:`fanin.encoders.transformer.load_tokenizer`.

    Args:
        tokenizer: a ``PreTrainedTokenizerFast``.
        max_length: tokens of a text, special ones included; the rest is cut off.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self._tokenizer = tokenizer
        self.max_length = max_length
        # A copy, as its truncation is ours to set and not to be saved.
        self._backend = BackendTokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.no_padding()
        self._backend.no_truncation()
        description = self._backend.to_str()
        parts = "\0".join([f"transformer {_VERSION}", str(max_length), description])
        self._key = hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()
        self._backend.enable_truncation(max_length)

    @property
    def vocabulary_size(self) -> int:
        """Every token is below it."""
        return max(self._backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @property
    def padding(self) -> int:
        """The token that fills up the rows of a batch."""
        return self._tokenizer.pad_token_id or 0

    @property
    def key(self) -> str:
        """32 hex digits of the tokenizer and the length: tokenizers of one key give the same tokens."""
        return self._key

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Tokens of each text, an int32 array a text, special tokens included."""
        return [np.array(found.ids, np.int32) for found in self._backend.encode_batch_fast(list(texts))]

    def encode_flat(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Tokens of all texts one after the other (N,) int32, and offsets (B + 1,) int64."""
        rows = self.encode_batch(texts)
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        return np.concatenate([*rows, np.empty(0, np.int32)]), offsets

    def save(self, folder: str | Path) -> None:
        """Writes the tokenizer's own files into a folder, made if missing, and beside them the length."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._tokenizer.save_pretrained(folder)
        text = json.dumps({"format": _VERSION, "kind": "transformer", "max_length": self.max_length})
        (folder / SETTINGS_FILE).write_text(text, encoding="utf-8")


def check_numbers(path: Path) -> None:
    """Refuse a ``tokenizer.json`` with tokens of higher numbers than a file of its size can hold tokens.

    The library makes room for every number below the highest one.

    Args:
        path: of the file; where there is none, there is nothing to refuse.

    Raises:
        CheckpointError: a number is too high, or the file is damaged.
    """
    if not path.exists():
        return
    try:
        text = path.read_text(encoding="utf-8")
        description = json.loads(text)
        units = description["model"]["vocab"]
        numbers = [token["id"] for token in description["added_tokens"]]
        numbers += units.values() if isinstance(units, dict) else []
        fits = all(type(number) is int and 0 <= number < len(text) for number in numbers)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({type(error).__name__}); restore the model folder") from error
    if not fits:
        raise CheckpointError(f"{path}: a token has a number that no tokenizer of this size has; restore the folder")


def saved_max_length(folder: Path) -> int:
    """The length that :meth:`TransformerTokenizer.save` wrote.

    Raises:
        CheckpointError: the file is missing or damaged, or of another version.
    """
    path = folder / SETTINGS_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        kind, max_length = (found["format"], found["kind"]), found["max_length"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({type(error).__name__}); restore the model folder") from error
    if kind != (_VERSION, "transformer") or type(max_length) is not int or not 2 <= max_length < 2**31:
        raise CheckpointError(f"{path}: not the settings of a transformer's tokenizer; restore the model folder")
    return max_length
