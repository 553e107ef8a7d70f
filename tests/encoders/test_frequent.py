"""Counting in bounded memory: exact while everything fits, and right about what is frequent beyond that."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fanin.encoders.frequent import FrequentCodes, count_words

WORDS = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=9), max_size=20)


@given(WORDS)
def test_exact_while_all_fit(texts):
    expected = Counter(word for text in texts for word in text)
    assert count_words(texts, most=8) == expected
    codes = FrequentCodes(most=8)
    for text in texts:
        codes.add(np.array([ord(word) for word in text], np.uint64))
    found = dict(zip(*(array.tolist() for array in codes.finish()), strict=True))
    assert found == {ord(word): count for word, count in expected.items()}


def test_the_frequent_survive_any_number_of_rare_ones():
    random = np.random.default_rng(0)
    frequent = 10 + np.arange(5)
    texts = [[*random.permutation(frequent)[:3], *range(1000 + 20 * i, 1020 + 20 * i)] for i in range(400)]
    expected = Counter(number for text in texts for number in text)
    counts = count_words([[str(number) for number in text] for text in texts], most=100)
    codes = FrequentCodes(most=100)
    for text in texts:
        codes.add(np.array(text, np.uint64))
    numbers, found = codes.finish()
    assert (np.diff(numbers.astype(np.int64)) > 0).all()
    by_code = dict(zip(numbers.tolist(), found.tolist(), strict=True))
    assert max(len(counts), len(by_code)) < 300
    for number in frequent:  # at least 200 each; all that is forgotten was seen once
        assert counts[str(number)] == by_code[number] == expected[number]
    assert set(sorted(counts, key=counts.__getitem__)[-5:]) == set(map(str, frequent))


def test_nothing_to_count():
    assert count_words([]) == Counter()
    codes, counts = FrequentCodes().finish()
    assert (len(codes), len(counts)) == (0, 0)
