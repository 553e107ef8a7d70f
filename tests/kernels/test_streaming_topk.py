"""The k best labels from chunks, against sorting everything."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from fanin.kernels.spec import Positives
from fanin.kernels.streaming_topk import StreamingTopK

SCORES = st.sampled_from([-math.inf, -2.0, -1.0, 0.0, 1.0, 2.0, math.inf, math.nan])


@given(st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=40), st.integers(1, 45), st.data())
def test_any_chunking_finds_the_same(entries, k, data):
    logits = torch.tensor([[score for score, _ in entries], [-score for score, _ in entries]])
    barred = [label for label, (_, excluded) in enumerate(entries) if excluded]
    exclude = Positives(torch.tensor([0, len(barred), len(barred)]), torch.tensor(barred, dtype=torch.int64))
    best, start = StreamingTopK(2, k, logits), 0
    while start < len(entries):
        width = data.draw(st.integers(1, 15))
        best.add(logits[:, start : start + width], start, exclude)
        start += width
    for row, banned in ((0, barred), (1, [])):
        values = logits[row].tolist()
        candidates = [label for label, z in enumerate(values) if z > -math.inf and label not in banned]
        expected = sorted(candidates, key=lambda label, values=values: (-values[label], label))[:k]
        padding = k - len(expected)
        assert best.labels[row].tolist() == expected + [-1] * padding
        assert best.scores[row].tolist() == [values[label] for label in expected] + [-math.inf] * padding


def test_mistake_10_labels_beyond_the_reach_of_float32():
    best = StreamingTopK(1, 2, torch.empty(0))
    best.add(torch.tensor([[1.0, 3.0, 2.0]]), 2**24, None)
    best.add(torch.tensor([[2.5]]), 2**40 + 1, None)
    assert best.labels.tolist() == [[2**24 + 1, 2**40 + 1]]
