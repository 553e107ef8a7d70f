"""Connections from label centroids, against plain loops."""

import pytest
import torch

from fanin.classifier.centroids import centroid_connections


@pytest.mark.parametrize(("C", "G"), [(7, 1), (8, 4), (7, 3), (1, 1)])
def test_each_set_reads_the_inputs_that_differ_most(C, G):
    torch.manual_seed(C)
    D, F = 11, 4
    counts = torch.randint(1, 5, (C,)).double()
    sums, mean = torch.randn(C, D, dtype=torch.float64) * 3, torch.randn(D, dtype=torch.float64)
    s = -(-C // G)
    found = centroid_connections(sums, counts, mean, 0.7, torch.zeros(s, F, dtype=torch.int64), G, gain=6.0)
    for group in range(s):
        members = range(group * G, min((group + 1) * G, C))
        differences = [sums[label] / counts[label] - mean for label in members]
        energy = sum(d**2 for d in differences)
        assert set(found.inputs[group].tolist()) == set(energy.topk(F).indices.tolist())
        assert found.inputs[group].tolist() == sorted(found.inputs[group].tolist())
        for label, difference in zip(members, differences, strict=True):
            own = difference[found.inputs[group]]
            torch.testing.assert_close(found.weight[label], 6.0 * own / (own.square().sum() + 0.05 * F * 0.7))
            # the average text scores the bias
            assert (found.weight[label] @ mean[found.inputs[group]] + found.offset[label]).item() == pytest.approx(0.0)


def test_a_label_s_own_texts_score_the_gain():
    sums, mean = torch.tensor([[40.0, 0.0, -20.0]]), torch.zeros(3)
    found = centroid_connections(sums, torch.tensor([2.0]), mean, 1.0, torch.tensor([[0, 1]]), 1, gain=6.0)
    assert (found.weight[0] @ torch.tensor([20.0, -10.0])).item() == pytest.approx(6.0, rel=1e-3)


def test_a_label_of_every_text_is_not_blown_up():
    """Its centroid is the mean but for rounding; nothing of that may be amplified."""
    mean = torch.randn(64)
    sums = mean[None] * 1000 * (1 + 1e-6)
    found = centroid_connections(sums, torch.tensor([1000.0]), mean, 1.0, torch.arange(8)[None], 1, gain=6.0)
    assert found.weight.norm() < 1e-3


def test_labels_without_texts_keep_their_index_sets():
    sums = torch.zeros(2, 5)
    sums[0, 4] = 1.0
    index = torch.tensor([[0, 1], [2, 3]])
    found = centroid_connections(sums, torch.tensor([1.0, 0.0]), torch.full((5,), 0.1), 1.0, index, 1, gain=1.0)
    assert 4 in found.inputs[0].tolist()
    assert found.inputs[1].tolist() == [2, 3]
    assert found.weight[1].tolist() == [0.0, 0.0]
    assert found.offset[1].item() == 0.0
