"""The deterministic mode: sums in a fixed order, whatever clusters and tiles have to do with each other."""

import math

import pytest
import torch

from fanin.kernels.reference import ReferenceBackend
from fanin.kernels.spec import SGD, Loss, Moments, SharedScores
from kernel_checks import assert_close, clone, random_input


@pytest.fixture
def _deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_deterministic")
@pytest.mark.parametrize("G", [1, 16])
@pytest.mark.parametrize("cluster_size", [1, 6, 24, 1000])
def test_steps_are_right_and_the_same_again(triton, make_layer, make_positives, G, cluster_size):
    L, B = 150, 7
    x, positives = random_input(B, 30), make_positives(B, L)
    shared = SharedScores(random_input(-(-L // cluster_size), B), cluster_size)
    twin, update = make_layer(L, 30, 6, G), SGD(0.1)
    layers = clone(twin), clone(twin)
    options = {"loss": Loss.BCE, "update": update, "step": 1, "scale": 1.0, "shared": shared}
    first, again = (triton.train_step(layer, Moments(), x, positives, **options) for layer in layers)
    truth = ReferenceBackend().train_step(twin, Moments(), x, positives, **options)
    assert_close(first.dx, truth.dx, 5e-6)
    assert_close(first.shared_grad, truth.shared_grad, 5e-6)
    assert first.loss == again.loss
    assert torch.equal(first.dx, again.dx)
    assert torch.equal(first.shared_grad, again.shared_grad)
    assert torch.equal(layers[0].weight, layers[1].weight)


@pytest.mark.parametrize(("block", "parts"), [(16, 1), (32, 2), (1, 1), (40, 3)])
@pytest.mark.parametrize("cluster_size", [1, 5, 16, 48, 97])
def test_a_unit_holds_whole_clusters_and_blocks(triton, block, parts, cluster_size):
    from fanin.kernels.triton.tiles import unit_of_clusters

    unit = unit_of_clusters(block, parts, cluster_size, 10**9)
    labels = unit // parts * block
    assert unit % parts == 0
    assert labels % cluster_size == 0
    assert labels == math.lcm(block, cluster_size)
    assert unit_of_clusters(block, parts, cluster_size, 7) <= 7
