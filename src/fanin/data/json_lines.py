"""JSON lines: ``{"text": ..., "labels": [...]}`` a line, with label names as strings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from fanin.data.dataset import SPLITS, Dataset
from fanin.data.label_rows import LabelRows, make_label_rows
from fanin.data.lines import decode, read_blocks
from fanin.errors import DataError
from fanin.labels.vocabulary import LabelVocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_TYPE_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a truth value",
    type(None): "null",
}
_EXAMPLE = '{"text": "some text", "labels": ["a label", "another"]}'


class JsonLinesDataset(Dataset):
    """A folder of ``train.jsonl``, ``test.jsonl`` and perhaps ``dev.jsonl``, or one file (a training set alone).

    Other keys of an object are ignored, and so are blank lines. The vocabulary is the training labels in sorted
    order; labels that only dev or test have stand behind them, so that metrics can count them.

    Args:
        path: the folder or file.

    Raises:
        DataError: a file is missing.
    """

    format_name = "json-lines 1"

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            missing = [name for name in ("train.jsonl", "test.jsonl") if not (path / name).exists()]
            if missing:
                raise DataError(
                    f"{path}: missing {', '.join(missing)}; a JSON-lines folder has train.jsonl, test.jsonl and "
                    "perhaps dev.jsonl (to train without a test set give the .jsonl file itself)"
                )
            file_of = {split: path / f"{split}.jsonl" for split in SPLITS if (path / f"{split}.jsonl").exists()}
        else:
            file_of = {"train": path}
        self._file_of = file_of
        super().__init__(path, tuple(file_of.values()), tuple(file_of))

    def texts(self, split: str) -> Iterator[str]:
        """Stream the texts of the split's file; see :meth:`Dataset.texts`."""
        self.check_split(split)
        return (text for text, _ in read_records(self._file_of[split]))

    def _read_labels(self) -> tuple[LabelVocabulary, dict[str, LabelRows]]:
        id_of: dict[str, int] = {}  # in order of first sight; sorted below
        seen: dict[str, int] = {}  # how many names there were after each split
        pairs = {}
        for split, path in self._file_of.items():
            pairs[split] = _read_pairs(path, id_of)
            seen[split] = len(id_of)
            if not id_of:
                raise DataError(f"{path}: no text has a label; training needs at least one")
        names = list(id_of)
        ordered = sorted(names[: seen["train"]]) + sorted(names[seen["train"] :])
        final = np.empty(len(names), dtype=np.int64)
        final[[id_of[name] for name in ordered]] = np.arange(len(names))
        positives = {
            split: make_label_rows(rows, final[ids], n_rows, len(names)) for split, (rows, ids, n_rows) in pairs.items()
        }
        return LabelVocabulary(ordered, source=str(self.path)), positives


def read_records(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Stream (text, label names) of a JSON-lines file.

    Raises:
        DataError: the file is unreadable, empty or not UTF-8, or a line is no JSON object with a string ``text`` and
            a list ``labels`` of strings that are not blank.
    """
    for first_line, block in read_blocks(path):
        lines = decode(path, first_line, block).removesuffix("\n").split("\n")
        for number, line in enumerate(lines, first_line):
            if line and not line.isspace():
                yield _parse_record(path, number, line)


def _parse_record(path: Path, number: int, line: str) -> tuple[str, list[str]]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {number}, column {error.colno}: not JSON ({error.msg}); "
            f"write an object a line, like {_EXAMPLE}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {number}: this JSON cannot be read; write {_EXAMPLE}") from error
    fault = _fault(record)
    # Only an escape can put half a surrogate pair into a string, which no tokenizer takes.
    if fault is None and "\\u" in line:
        fault = next((f for f in map(_surrogate_fault, (record["text"], *record["labels"])) if f), None)
    if fault:
        raise DataError(f"{path}, line {number}: {fault}; write an object a line, like {_EXAMPLE}")
    return record["text"], record["labels"]


def _fault(record: object) -> str | None:
    if not isinstance(record, dict):
        return f"expected an object, found {_type_name(record)}"
    for key, kind in (("text", str), ("labels", list)):
        if key not in record:
            return f'the key "{key}" is missing'
        if not isinstance(record[key], kind):
            return f'"{key}" must be {_TYPE_NAMES[kind]}, found {_type_name(record[key])}'
    for label in record["labels"]:
        if not isinstance(label, str):
            return f'"labels" must hold strings, found {_type_name(label)}'
        if not label or label.isspace():
            return '"labels" holds an empty name'
    return None


def _surrogate_fault(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"character {error.start + 1} of a string is half a surrogate pair"
    return None


def _type_name(value: object) -> str:
    return _TYPE_NAMES.get(type(value), "a number")


def _read_pairs(path: Path, id_of: dict[str, int]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """(row, label) pairs of a file, and its number of rows; new names get the next id in ``id_of``."""
    ids: list[int] = []
    lengths: list[int] = []
    for _, labels in read_records(path):
        ids.extend(id_of.setdefault(label, len(id_of)) for label in labels)
        lengths.append(len(labels))
    if not lengths:
        raise DataError(f"{path}: every line is blank; write an object a line, like {_EXAMPLE}")
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return rows, np.array(ids, dtype=np.int64), len(lengths)
