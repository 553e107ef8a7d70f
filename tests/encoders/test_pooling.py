"""Padding, pooling and chunks of rows, against loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fanin.encoders.pooling import length_chunks, pad_rows, pool

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=20)


def offsets_of(lengths):
    return torch.tensor([0, *lengths]).cumsum(0)


@given(LENGTHS)
def test_rows_keep_their_tokens(lengths):
    tokens = torch.arange(sum(lengths)) + 100
    padded = pad_rows(tokens, offsets_of(lengths), 7)
    assert padded.tokens.shape == padded.mask.shape == (len(lengths), max(1, *lengths, 1))
    found = [row[: length or 1].tolist() for row, length in zip(padded.tokens, lengths, strict=True)]
    expected = [part.tolist() or [7] for part in tokens.split(lengths)]
    assert found == expected
    assert padded.mask.sum(1).tolist() == [length or 1 for length in lengths]
    assert (padded.tokens[padded.mask == 0] == 7).all()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_each_layer_is_pooled_over_the_tokens_of_a_row(pooling):
    states = [torch.randn(3, 4, 5), torch.randn(3, 4, 5)]
    lengths = [4, 1, 2]
    mask = (torch.arange(4)[None] < torch.tensor(lengths)[:, None]).long()
    found = pool(states, mask, pooling)
    for row, length in enumerate(lengths):
        parts = [layer[row, :length].mean(0) if pooling == "mean" else layer[row, 0] for layer in states]
        torch.testing.assert_close(found[row], torch.cat(parts))


@given(LENGTHS, st.integers(1, 40))
def test_chunks_hold_every_row_once_and_few_places(lengths, places):
    chunks = [rows.tolist() for rows in length_chunks(offsets_of(lengths), places)]
    assert sorted(row for rows in chunks for row in rows) == list(range(len(lengths)))
    for rows in chunks:
        assert len(rows) == 1 or len(rows) * max(lengths[row] for row in rows) <= places
