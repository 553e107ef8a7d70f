"""Recognising the format of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fanin.data.bag_of_words import BAG_OF_WORDS_FILES, BagOfWordsDataset
from fanin.data.json_lines import JsonLinesDataset
from fanin.data.raw_text import FEATURE_FILES, OPTIONAL_FILES, REQUIRED_FILES, RawTextDataset
from fanin.errors import DataError

if TYPE_CHECKING:
    from fanin.data.dataset import Dataset

_LOOKED_FOR = (
    f"a raw-text folder ({', '.join(REQUIRED_FILES)}), a folder with train.jsonl and test.jsonl, a .jsonl file, or a "
    f"folder with {' and '.join(BAG_OF_WORDS_FILES)} in the Extreme Classification Repository's bag-of-words format"
)


def open_dataset(path: Path | str) -> Dataset:
    """Open a folder or file, in the format that its file names tell.

    Files are only looked for here; their content is read, and its faults found, by the calls on the data set.

    Args:
        path: a raw-text folder, a folder of JSON-lines files or of two bag-of-words files, or one ``.jsonl`` file (a
            training set alone).

    Raises:
        DataError: nothing is there, it is of no known format, or files of its format are missing.
    """
    path = Path(path)
    if path.is_dir():
        try:
            names = sorted(entry.name for entry in path.iterdir())
        except OSError as error:
            raise DataError(f"{path}: cannot be listed ({error.strerror}); check the permissions") from error
        if all(name in names for name in BAG_OF_WORDS_FILES):
            return BagOfWordsDataset(path)
        if any(name in (*REQUIRED_FILES, *OPTIONAL_FILES, *FEATURE_FILES) for name in names):
            return RawTextDataset(path)
        if any(name in ("train.jsonl", "dev.jsonl", "test.jsonl") for name in names):
            return JsonLinesDataset(path)
        found = f"found {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}" if names else "it is empty"
        raise DataError(f"{path}: no data set in this folder ({found}); expected {_LOOKED_FOR}")
    if not path.exists():
        raise DataError(f"{path}: there is no such folder or file; expected {_LOOKED_FOR}")
    if path.suffix.lower() != ".jsonl":
        raise DataError(f"{path}: a data set in one file must be named .jsonl; expected {_LOOKED_FOR}")
    return JsonLinesDataset(path)
