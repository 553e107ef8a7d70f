"""What the suites of the backends share: shapes, the layer as a dense matrix, closeness, top-k by sorting."""

import math
from dataclasses import replace

import torch

# L, D, F, G, B: one of everything, F = D, F = 1, short last groups, the edge of uint16, int32, more than a chunk.
SHAPES = [
    (1, 1, 1, 1, 1),
    (7, 5, 5, 1, 1),
    (37, 19, 1, 1, 3),
    (29, 16, 16, 16, 15),
    (100, 33, 8, 3, 17),
    (130, 64, 32, 16, 31),
    (67, 48, 16, 32, 5),
    (64, 40, 12, 32, 300),
    (33, 128, 65, 1, 129),
    (4099, 24, 5, 1, 2),
    (4111, 24, 5, 16, 16),
    (50, 65_536, 9, 16, 17),
    (50, 65_537, 9, 1, 4),
    (45, 70_001, 20, 16, 17),
]


def random_input(B, D, seed=1):
    return torch.randn(B, D, generator=torch.Generator().manual_seed(seed))


def emphasised(positives, L, weights=True, margins=True, seed=3):
    """The positives with a random weight and margin a label."""
    generator = torch.Generator().manual_seed(seed)
    weight, margin = 0.25 + 4 * torch.rand(L, generator=generator), torch.randn(L, generator=generator)
    return positives._replace(
        weights=weight[positives.indices] if weights else None, margins=margin[positives.indices] if margins else None
    )


def clone(layer):
    bias = None if layer.bias is None else layer.bias.clone()
    return replace(layer, weight=layer.weight.clone(), index=layer.index.clone(), bias=bias)


def densify(layer, columns, dtype=torch.float64):
    """The layer as a dense matrix (L, D)."""
    empty = torch.zeros(len(layer.weight), layer.in_features, dtype=dtype)
    return empty.scatter(1, columns, layer.weight.to(dtype))


def assert_close(actual, truth, tolerance=2e-6):
    """Agreement to a share of the truth's largest value (one float32 rounding is 6e-8 of a value)."""
    assert actual.shape == truth.shape
    scale = float(truth.abs().max()) if truth.numel() else 0.0
    torch.testing.assert_close(actual.double(), truth.double(), rtol=1e-5, atol=tolerance * scale + 1e-9)


def integer_layer(make_layer, L, D, F, G, bias=True):
    """A layer whose logits of integer inputs are exact, so that order and ties are certain."""
    layer = make_layer(L, D, F, G, bias=bias)
    for tensor in (layer.weight, layer.bias):
        if tensor is not None:
            tensor.mul_(2).round_()
    return layer


def assert_topk(backend, layer, x, k, exclude, shared=None):
    """The backend's top-k is what sorting all of its logits gives."""
    logits = backend.forward(layer, x, shared).tolist()
    scores, labels = backend.topk(layer, x, k, exclude, shared)
    assert labels.dtype == torch.int64
    for row, found in enumerate(logits):
        barred = set()
        if exclude is not None:
            barred = set(exclude.indices[exclude.indptr[row] : exclude.indptr[row + 1]].tolist())
        expected = _best(found, k, barred)
        assert list(zip(scores[row].tolist(), labels[row].tolist(), strict=True)) == expected


def _best(logits, k, barred):
    """The k best (score, label) pairs of a row by sorting all of them."""
    ranked = sorted((-z, label) for label, z in enumerate(logits) if not math.isnan(z) and z > -math.inf)
    kept = [(-negated, label) for negated, label in ranked if label not in barred][:k]
    return kept + [(-math.inf, -1)] * (k - len(kept))
