"""Splitting into words, and hashes that never change."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.encoders.hashing import pair_codes, string_bucket
from fanin.encoders.words import WordVocabulary, split_words
from fanin.kernels.drawing import mix


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Lincoln's Gettysburg Address, 1863", ["lincoln", "s", "gettysburg", "address", "1863"]),
        ("Café CAFE\u0301 \uff23\uff41\uff46\uff45", ["cafe"] * 3),
        ("ﬁsh STRASSE straße", ["fish", "strasse", "strasse"]),
        ("snake_case\tand\nlines", ["snake", "case", "and", "lines"]),
        ("戦争 と 平和", ["戦争", "と", "平和"]),
        ("!?… --", []),
        ("", []),
    ],
)
def test_words(text, words):
    assert split_words(text) == words


@given(st.text())
def test_any_text_splits_into_words_that_split_into_themselves(text):
    words = split_words(text)
    assert all(words)
    assert split_words(" ".join(words)) == words


def test_hashes_are_the_same_everywhere():
    """Changing one of these would silently break every saved model."""
    assert string_bucket("123456789", 2**32) == 0xCBF43926  # the check value of CRC-32
    assert [string_bucket(word, 1000) for word in ("", "sea", "été")] == [0, 223, 572]
    assert mix(np.array([0, 1, 2**63], np.uint64)).tolist() == [
        0xE220A8397B1DCDAF,  # first outputs of SplitMix64 with these states
        0x910A2DEC89025CC1,
        0x481EC0A212A9F3DB,
    ]


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5), max_size=5))
def test_pairs_stay_within_their_text(texts):
    units = np.array([unit for text in texts for unit in text], np.int32)
    codes, rows = pair_codes(units, np.array([len(text) for text in texts], np.int64))
    expected = [(row, a, b) for row, text in enumerate(texts) for a, b in pairwise(text)]
    assert [
        (int(row), int(code) >> 32, int(code) & 0xFFFFFFFF) for row, code in zip(rows, codes, strict=True)
    ] == expected


def test_vocabulary_keeps_the_most_frequent_words():
    vocabulary = WordVocabulary.train(["b b b c c a a", "once"], size=2, min_count=2, buckets=4)
    assert vocabulary.words == ("b", "a")  # a and c are as frequent: code points decide
    units, lengths = vocabulary.units([["b", "a"], [], ["c", "unseen"]])
    assert lengths.tolist() == [2, 0, 2]
    assert units[:2].tolist() == [0, 1]
    assert ((units[2:] >= 2) & (units[2:] < vocabulary.unit_count)).all()
