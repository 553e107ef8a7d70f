"""What every classifier refuses, with which words."""

import math

import pytest
import torch

from classifier_kinds import D, L, make_batches, nothing, same, state_of
from fanin.classifier.banded import BandedLinear
from fanin.classifier.bottleneck import BottleneckLinear
from fanin.classifier.dense import DenseLinear
from fanin.classifier.head_tail import HeadTailLinear
from fanin.classifier.masked import MaskedLinear
from fanin.classifier.sparse import SparseLinear
from fanin.errors import BackendError, ConfigError
from fanin.kernels.spec import SGD, AdamW, Loss, Positives


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("weights", torch.ones(3)),
        ("weights", torch.tensor([1.0, -0.1])),
        ("weights", torch.tensor([1.0, math.inf])),
        ("margins", torch.tensor([1.0, math.nan])),
        ("margins", torch.tensor([1, 2])),
        ("margins", torch.ones(2, 1)),
    ],
)
def test_wrong_weights_and_margins_are_refused(make, name, values):
    positives = Positives(torch.tensor([0, 2]), torch.tensor([3, 4]))._replace(**{name: values})
    with pytest.raises(ConfigError, match=f"positives.{name} must be"):
        make().train_step(torch.zeros(1, D), positives, Loss.BCE, SGD(0.1))


@pytest.mark.parametrize(
    ("positives", "words"),
    [
        (
            Positives(torch.tensor([0, 1, 1]), torch.tensor([L])),
            f"labels from {L} to {L}; this layer has labels 0 to {L - 1}",
        ),
        (Positives(torch.tensor([0, 1, 1]), torch.tensor([-1])), "labels from -1 to -1"),
        (Positives(torch.tensor([0, 1]), torch.tensor([1])), "indptr has 2 entries for 2 rows; it needs 3"),
        (Positives(torch.tensor([0, 2, 1]), torch.tensor([1])), "never fall"),
        (Positives(torch.tensor([1, 1, 1]), torch.tensor([1])), "start at 0"),
        (Positives(torch.tensor([0, 1, 2]), torch.tensor([1])), "end at len"),
        (Positives(torch.tensor([0, 1, 1], dtype=torch.int32), torch.tensor([1])), "must be torch.int64"),
        (Positives(torch.tensor([0, 1, 1]), torch.tensor([1.0])), "must be torch.int64"),
    ],
)
def test_mistake_11_bad_positives_get_a_message_and_change_nothing(make, positives, words):
    layer, x = make(), torch.ones(2, D)
    before = state_of(layer)
    with pytest.raises(ConfigError, match=words):
        layer.train_step(x, positives, Loss.BCE, SGD(0.1))
    with pytest.raises(ConfigError, match=words):
        layer.topk(x, 1, positives)
    assert same(layer.state_dict(), before)
    assert layer.steps == 0


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.ones(2, D + 1), rf"x has shape \(2, {D + 1}\); this layer needs {D} features"),
        (torch.ones(D), "x has shape"),
        (torch.ones(1, 2, D), "x has shape"),
        (torch.ones(2, D).double(), r"x is torch.float64 and this layer computes in torch.float32"),
        (torch.ones(2, D).long(), "x is torch.int64"),
    ],
)
def test_mistake_11_bad_inputs_get_a_message(make, x, words):
    layer = make()
    with pytest.raises(ConfigError, match=words):
        layer.train_step(x, nothing(2), Loss.BCE, SGD(0.1))
    with pytest.raises(ConfigError, match=words):
        layer.topk(x, 1)
    if x.shape[-1] != D or x.dtype != torch.float32:
        with pytest.raises(ConfigError, match=words):
            layer(x)


def test_other_refusals(make, make_positives):
    layer, (x, positives) = make(), make_batches(make_positives, 1)[0]
    with pytest.raises(ConfigError, match="no rows"):
        layer.train_step(torch.empty(0, D), nothing(0), Loss.BCE, SGD(0.1))
    with pytest.raises(ConfigError, match="k=0"):
        layer.topk(x, 0)
    layer.train_step(x, positives, Loss.BCE, SGD(0.1, 0.9))
    for update, words in ((AdamW(0.1), "1 state tensors and AdamW needs 2"), (SGD(0.1), "SGD needs 0")):
        with pytest.raises(ConfigError, match=words):
            layer.train_step(x, positives, Loss.BCE, update)
    assert layer.steps == 1
    layer.train_step(x, positives, Loss.BCE, SGD(0.01, 0.5))


@pytest.mark.parametrize(
    "kind",
    [
        lambda i, o: SparseLinear(i, o, 1),
        DenseLinear,
        lambda i, o: BottleneckLinear(i, o, 1),
        lambda i, o: HeadTailLinear(i, o, 1, head_labels=1),
        lambda i, o: BandedLinear(i, o, [(o, 1)]),
        lambda i, o: MaskedLinear(i, o, 1),
    ],
)
@pytest.mark.parametrize(("inputs", "outputs"), [(0, 3), (3, 0), (-1, 3)])
def test_a_layer_of_nothing_is_refused(kind, inputs, outputs):
    with pytest.raises(ConfigError, match=f"in_features={inputs}, out_features={outputs}"):
        kind(inputs, outputs)


def test_a_forced_backend_that_cannot_serve_is_refused():
    with pytest.raises(BackendError, match="unknown backend 'gpu'"):
        SparseLinear(4, 4, 2, backend="gpu")


def test_a_forced_core_refuses_what_it_cannot_compute(compiled_core):
    layer = SparseLinear(4, 4, 2, backend="cpu", dtype=torch.float64)
    with pytest.raises(BackendError, match="float64"):
        layer(torch.ones(1, 4).double())
