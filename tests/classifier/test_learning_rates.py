"""Learning rates of their own: every layer's at R / F times the rate, the clusters' vectors' at a multiple."""

import pytest
import torch

from fanin.classifier.banded import BandedLinear
from fanin.classifier.dense import DenseLinear
from fanin.classifier.head_tail import HeadTailLinear
from fanin.classifier.sparse import SparseLinear
from fanin.errors import ConfigError
from fanin.kernels.spec import SGD, AdamW, Loss, Positives

D, L, R = 12, 30, 6
LAYERS = {
    "sparse": lambda **o: SparseLinear(D, L, 4, cluster_size=5, **o),
    "dense": lambda **o: DenseLinear(D, L, **o),
    "bands": lambda **o: BandedLinear(D, L, [(3, 12), (8, 6), (19, 2)], cluster_size=4, **o),
    "head/tail": lambda **o: HeadTailLinear(D, L, 3, head_labels=7, head_inputs=8, cluster_size=4, **o),
}
UPDATES = [SGD(0.2, 0.9, 0.1), AdamW(0.05, eps=1e-4, weight_decay=0.1)]


@pytest.mark.parametrize("update", UPDATES, ids=str)
@pytest.mark.parametrize("reference", [None, R])
@pytest.mark.parametrize("kind", LAYERS)
def test_each_layer_learns_at_its_own_rate(kind, reference, update, make_positives):
    """Parameter by parameter as where all have one rate, at the rate of that parameter."""
    clusters = {} if kind == "dense" else {"cluster_rate": 0.25}
    layer = LAYERS[kind](dtype=torch.float64, reference_fan_in=reference, **clusters)
    start = {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}
    x, positives = torch.randn(9, D, dtype=torch.float64), make_positives(9, L)
    value, dx = layer.train_step(x, positives, Loss.BCE, update)
    for name, parameter in layer.named_parameters():
        weight = name.removesuffix("bias") + "weight" if name.endswith("bias") else name
        own = 1.0 if reference is None else reference / start[weight].shape[1]
        factor = 0.25 if "clusters" in name else own
        twin = LAYERS[kind](dtype=torch.float64)
        same_value, same_dx = twin.train_step(x, positives, Loss.BCE, update.scaled(factor))
        assert value == same_value
        assert torch.equal(dx, same_dx)
        torch.testing.assert_close(parameter, dict(twin.named_parameters())[name], rtol=1e-12, atol=0, msg=name)
        assert not torch.equal(parameter, start[name])


@pytest.mark.parametrize("update", [SGD(0.01), SGD(0.01, 0.9), AdamW(0.001)], ids=str)
def test_a_step_moves_scores_as_far_at_any_fan_in(update):
    """The claim itself, on dense features: without the reference the largest fan-in would move them 64 times as far."""
    x = torch.randn(1, 1024, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    positives = Positives(torch.tensor([0, 1]), torch.tensor([0]))
    moved = []
    for fan_in in (16, 128, 1024):
        layer = SparseLinear(1024, 200, fan_in, bias=False, initial_scale=0.0, reference_fan_in=16, dtype=torch.float64)
        layer.train_step(x, positives, Loss.BCE, update)
        moved.append(layer(x)[0, 1:].mean().item())
    assert moved[0] < 0
    assert moved == pytest.approx([moved[0]] * 3, rel=0.1)


@pytest.mark.parametrize("reference", [0, -3])
def test_a_reference_of_nothing_is_refused(reference):
    with pytest.raises(ConfigError, match=f"reference_fan_in={reference} must be at least 1 input"):
        SparseLinear(D, L, 3, reference_fan_in=reference)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_of_nothing_is_refused(rate):
    with pytest.raises(ConfigError, match=f"cluster_rate={rate} must be above 0"):
        SparseLinear(D, L, 3, cluster_size=5, cluster_rate=rate)
