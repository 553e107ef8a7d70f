"""Small classifiers of every kind, and what their common suite does with them."""

import torch

from fanin.classifier.banded import BandedLinear
from fanin.classifier.bottleneck import BottleneckLinear
from fanin.classifier.dense import DenseLinear
from fanin.classifier.dense_autograd import AutogradDenseLinear
from fanin.classifier.head_tail import HeadTailLinear
from fanin.classifier.masked import MaskedLinear
from fanin.classifier.sparse import SparseLinear
from fanin.kernels.spec import SGD, AdamW, Positives

L, D = 83, 14
# Layers of one weight tensor, for which the suite knows the dense layer that they stand for.
PLAIN = {
    "sparse": lambda **options: SparseLinear(D, L, 5, **options),
    "grouped": lambda **options: SparseLinear(D, L, 6, 16, **options),
    "sparse reference": lambda **options: SparseLinear(D, L, 5, 3, backend="reference", **options),
    "no bias": lambda **options: SparseLinear(D, L, 5, bias=False, **options),
    "dense": lambda **options: DenseLinear(D, L, chunk_size=32, **options),
    "dense no bias": lambda **options: DenseLinear(D, L, bias=False, **options),
    "dense by autograd": lambda **options: AutogradDenseLinear(D, L, **options),
    "masked": lambda **options: MaskedLinear(D, L, 5, chunk_size=32, **options),
}
# Composed ones have suites of their own for the values of a step: test_bottleneck.py, test_label_bands.py.
KINDS = PLAIN | {
    "bottleneck": lambda **options: BottleneckLinear(D, L, 5, chunk_size=32, **options),
    "bottleneck no bias": lambda **options: BottleneckLinear(D, L, 5, bias=False, **options),
    "head/tail": lambda **options: HeadTailLinear(D, L, 5, head_labels=11, **options),
    "head/tail, shared": lambda **options: HeadTailLinear(D, L, 5, 3, head_labels=7, cluster_size=8, **options),
    "banded": lambda **options: BandedLinear(D, L, [(1, D), (11, 9), (L - 12, 5)], **options),
    "banded, shared": lambda **options: BandedLinear(D, L, [(9, 7), (L - 9, 5)], 3, cluster_size=8, **options),
    "banded no bias": lambda **options: BandedLinear(D, L, [(9, 7), (L - 9, 5)], bias=False, **options),
    "head/tail no bias": lambda **options: HeadTailLinear(D, L, 5, head_labels=11, bias=False, **options),
}
UPDATES = [SGD(0.3, weight_decay=0.1), SGD(0.2, 0.9, 0.1), AdamW(0.02, eps=1e-4, weight_decay=0.1)]


def make_batches(make_positives, count, B=9, dtype=torch.float32):
    """Rows (B, D) and their positives, ``count`` times."""
    generator = torch.Generator().manual_seed(5)
    return [(torch.randn(B, D, dtype=dtype, generator=generator), make_positives(B, L, seed=i)) for i in range(count)]


def state_of(layer):
    """A copy of a layer's parameters and buffers."""
    return {name: tensor.clone() for name, tensor in layer.state_dict().items()}


def same(one, other):
    """Whether two states have the same names and bits."""
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def nothing(B):
    """Positives of so many rows that have none."""
    return Positives(torch.zeros(B + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
