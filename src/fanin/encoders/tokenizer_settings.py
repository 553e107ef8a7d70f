"""The settings of a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from fanin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_TOKENS = 2**31
"""Tokens are numbers of 32 bits."""


@dataclass(frozen=True)
class TokenizerSettings:
    """How a tokenizer is trained.

    Tokens are numbered in this order: units, frequent pairs, pair buckets, character buckets.

    Attributes:
        unit: "word", or "subword" for byte-pair encoding.
        vocabulary_size: most units with a token of their own.
        min_count: least occurrences of such a unit, and of a frequent pair.
        unknown_buckets: hash buckets of the words outside the vocabulary (unit "word").
        frequent_pairs: most pairs of adjacent units with a token of their own.
        pair_buckets: hash buckets of the other pairs; 0 leaves them out.
        character_buckets: hash buckets of the character 3- and 4-grams of words outside the vocabulary (unit "word");
            0 leaves them out.
        max_length: units of a text, the rest is cut off; pairs and n-grams are made of what is left.
    """

    unit: Literal["word", "subword"] = "word"
    vocabulary_size: int = 30_000
    min_count: int = 2
    unknown_buckets: int = 1024
    frequent_pairs: int = 50_000
    pair_buckets: int = 0
    character_buckets: int = 0
    max_length: int = 64

    def __post_init__(self) -> None:
        if self.unit not in {"word", "subword"}:
            raise ConfigError(f"tokenizer.unit is {self.unit!r}; choose 'word' or 'subword'")
        for name in ("vocabulary_size", "min_count", "unknown_buckets", "max_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"tokenizer.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("frequent_pairs", "pair_buckets", "character_buckets"):
            if getattr(self, name) < 0:
                raise ConfigError(f"tokenizer.{name} is {getattr(self, name)}; it must be 0 or more")
        sizes = ("vocabulary_size", "unknown_buckets", "frequent_pairs", "pair_buckets", "character_buckets")
        if max(sum(getattr(self, name) for name in sizes), self.max_length) >= MOST_TOKENS:
            raise ConfigError(
                f"tokenizer: {', '.join(sizes)} together, and max_length, must be below {MOST_TOKENS}; lower them"
            )
        if self.character_buckets and self.unit != "word":
            raise ConfigError("tokenizer.character_buckets works with tokenizer.unit 'word' only; set it to 0")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> TokenizerSettings:
        """Settings from a mapping of the fields that differ from their defaults.

        Raises:
            ConfigError: if a setting is unknown, of the wrong type or out of its range.
        """
        known = {field.name: field for field in fields(cls)}
        for name, value in settings.items():
            if name not in known:
                raise ConfigError(f"tokenizer.{name} is not a setting; the settings are {', '.join(known)}")
            expected = type(known[name].default)
            if type(value) is not expected:
                raise ConfigError(f"tokenizer.{name} is {value!r}; it must be of type {expected.__name__}")
        return cls(**settings)
