"""Top-k in the kernels: ties, exclusions, scores that are never chosen, and a k too large for registers."""

import math

import pytest
import torch

from fanin.kernels.spec import SharedScores
from kernel_checks import assert_topk, integer_layer, random_input


@pytest.mark.parametrize("G", [1, 16])
@pytest.mark.parametrize("k", [1, 3, 200])
def test_ties_go_to_the_lower_label(triton, make_layer, make_positives, G, k):
    layer, x = integer_layer(make_layer, 203, 20, 5, G), random_input(6, 20).round()
    shared = SharedScores(random_input(-(-203 // 7), 6).round(), 7)
    assert_topk(triton, layer, x, k, None)
    assert_topk(triton, layer, x, k, make_positives(6, 203), shared)


def test_several_chunks(triton, make_layer, make_positives, monkeypatch):
    from fanin.kernels.triton import topk

    for G, chunk_bytes in ((1, 4 * 6 * 50), (16, 4 * 6 * 16)):
        monkeypatch.setattr(topk, "CHUNK_BYTES", chunk_bytes)
        layer, x = integer_layer(make_layer, 203, 20, 5, G), random_input(6, 20).round()
        assert_topk(triton, layer, x, 4, make_positives(6, 203))


def test_what_is_never_chosen(triton, make_layer):
    layer = integer_layer(make_layer, 9, 6, 3, 1)
    layer.weight[[0, 3, 4]] = math.nan
    layer.bias[5], layer.bias[7] = -math.inf, math.inf
    layer.weight[1], layer.bias[1], layer.weight[2], layer.bias[2] = 0, -0.0, 0, 0.0  # equal, though not in their bits
    assert_topk(triton, layer, torch.ones(3, 6), 9, None)
