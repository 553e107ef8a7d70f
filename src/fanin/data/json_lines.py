"""JSON lines: ``{"text": ..., "labels": [...]}`` a line, with label names as strings."""

from __future__ import annotations

import json
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from fanin.data.dataset import SPLITS, Dataset
from fanin.data.label_rows import make_label_rows
from fanin.data.lines import decode, read_blocks
from fanin.errors import DataError
from fanin.labels.vocabulary import LabelVocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fanin.data.label_rows import LabelRows

_BLOCK_RECORDS = 16_384
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

    def row_count(self, split: str) -> int:
        """How many records the split's file has."""
        self.check_split(split)
        return self._scanned[1][split]

    def label_names(self) -> Iterator[str]:
        """The training labels, sorted, and then the others; see :meth:`Dataset.label_names`."""
        return iter(self._scanned[0])

    def label_blocks(self, split: str) -> Iterator[LabelRows]:
        """Stream the labels of the split's records; see :meth:`Dataset.label_blocks`."""
        self.check_split(split)
        records = (labels for _, labels in read_records(self._file_of[split]))
        while block := list(islice(records, _BLOCK_RECORDS)):
            ids = self.vocabulary.ids(chain.from_iterable(block))
            if len(ids) and ids.min() < 0:
                raise DataError(f"{self._file_of[split]}: the file changed while it was read; try again")
            rows = np.repeat(np.arange(len(block)), [len(labels) for labels in block])
            yield make_label_rows(rows, ids, len(block), len(self.vocabulary))

    @cached_property
    def vocabulary(self) -> LabelVocabulary:
        """The names of the labels, kept."""
        return self._scanned[0]

    @cached_property
    def _scanned(self) -> tuple[LabelVocabulary, dict[str, int]]:
        """The vocabulary and each split's number of records; the names are held one by one meanwhile."""
        ordered: list[str] = []
        known: set[str] = set()
        rows = {}
        for split, path in self._file_of.items():
            before = len(known)
            rows[split] = 0
            for _, labels in read_records(path):
                known.update(labels)
                rows[split] += 1
            if not rows[split]:
                raise DataError(f"{path}: every line is blank; write an object a line, like {_EXAMPLE}")
            if not known:
                raise DataError(f"{path}: no text has a label; training needs at least one")
            if not before:
                ordered = sorted(known)
        return LabelVocabulary(chain(ordered, sorted(known.difference(ordered))), source=str(self.path)), rows


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
