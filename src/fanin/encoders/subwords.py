"""Text to byte-pair units, through the `tokenizers` library."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Pipeline

from fanin.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_UNKNOWN = "[UNK]"
_RESTORE = "restore the model folder or train the model again"


class SubwordVocabulary:
    """Byte-pair encoding (Sennrich et al., 2016) of the letters and digits of NFKD, lower-cased text without accents.

    The same corpus always gives the same vocabulary. (WordPiece does not: its trainer in the `tokenizers` library
    breaks ties in the order of a randomly seeded hash map.)

    Args:
        pipeline: a pipeline of the `tokenizers` library, as :meth:`train` makes it.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    @classmethod
    def train(cls, texts: Iterable[str], size: int, min_count: int) -> SubwordVocabulary:
        """Trains a vocabulary of at most ``size`` pieces, merging pairs that occur ``min_count`` times or more."""
        pipeline = _untrained()
        trainer = trainers.BpeTrainer(
            vocab_size=size, min_frequency=min_count, special_tokens=[_UNKNOWN], show_progress=False
        )
        pipeline.train_from_iterator(texts, trainer)
        return cls(pipeline)

    @classmethod
    def load(cls, path: Path) -> SubwordVocabulary:
        """Reads what :meth:`save` wrote.

        Raises:
            CheckpointError: if the file is missing or no such pipeline.
        """
        try:
            text = path.read_text(encoding="utf-8")
            # First of all: the library makes room for every number below the highest one.
            numbered = _is_numbered(json.loads(text))
            pipeline = Pipeline.from_str(text) if numbered else None
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"{path}: cannot be read as a tokenizer ({error}); {_RESTORE}") from error
        if pipeline is None or not _is_ours(pipeline):
            raise CheckpointError(f"{path}: a tokenizer of another form than fanin's; {_RESTORE}")
        return cls(pipeline)

    def save(self, path: Path) -> None:
        """Writes the pipeline in the library's own JSON."""
        path.write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """The pipeline in the library's own JSON."""
        return str(self._pipeline.to_str())

    @property
    def unit_count(self) -> int:
        """Pieces in the vocabulary."""
        return int(self._pipeline.get_vocab_size())

    def units(self, texts: Sequence[str], max_length: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Units of texts, each cut to ``max_length``: all units (N,) and how many each text has (B,)."""
        rows = [encoding.ids[:max_length] for encoding in self._pipeline.encode_batch_fast(list(texts))]
        flat = [unit for row in rows for unit in row]
        return np.array(flat, np.int32), np.array([len(row) for row in rows], np.int64)


def _untrained() -> Pipeline:
    pipeline = Pipeline(models.BPE(unk_token=_UNKNOWN))
    pipeline.normalizer = normalizers.Sequence(
        [
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[^\p{L}\p{N}]+"), " "),
            normalizers.Strip(),
        ]
    )
    pipeline.pre_tokenizer = pre_tokenizers.Metaspace()
    return pipeline


def _is_numbered(description: Any) -> bool:
    """Whether there is a unit for each number below that of the units, and added tokens are among them."""
    units = description["model"]["vocab"]
    known = all(units.get(token["content"]) == token["id"] for token in description["added_tokens"])
    return known and set(units.values()) == set(range(len(units)))


def _is_ours(pipeline: Pipeline) -> bool:
    """Whether a pipeline takes texts apart as ours do."""
    found, ours = map(_without_units, (pipeline, _untrained()))
    return found == ours


def _without_units(pipeline: Pipeline) -> dict[str, Any]:
    """A pipeline's description, but for what training adds."""
    description: dict[str, Any] = json.loads(pipeline.to_str())
    for part, name in (
        (description, "added_tokens"),
        (description["model"], "vocab"),
        (description["model"], "merges"),
    ):
        part.pop(name, None)  # models of other kinds have no merges
    return description
