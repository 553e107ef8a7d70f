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
    found = centroid_connections(sums, counts, mean, torch.zeros(s, F, dtype=torch.int64), G, gain=6.0)
    for group in range(s):
        members = range(group * G, min((group + 1) * G, C))
        differences = [sums[label] / counts[label] - mean for label in members]
        energy = sum(d**2 for d in differences)
        assert set(found.inputs[group].tolist()) == set(energy.topk(F).indices.tolist())
        assert found.inputs[group].tolist() == sorted(found.inputs[group].tolist())
        for label, difference in zip(members, differences, strict=True):
            own = difference[found.inputs[group]]
            # a label's own texts score the gain above the average text, which scores the bias
            centroid = (sums[label] / counts[label])[found.inputs[group]]
            assert (found.weight[label] @ centroid + found.offset[label]).item() == pytest.approx(6.0)
            assert (found.weight[label] @ mean[found.inputs[group]] + found.offset[label]).item() == pytest.approx(0.0)
            torch.testing.assert_close(found.weight[label], 6.0 * own / own.square().sum())


def test_labels_without_texts_keep_their_index_sets():
    sums = torch.zeros(2, 5)
    sums[0, 4] = 1.0
    index = torch.tensor([[0, 1], [2, 3]])
    found = centroid_connections(sums, torch.tensor([1.0, 0.0]), torch.full((5,), 0.1), index, 1, gain=1.0)
    assert 4 in found.inputs[0].tolist()
    assert found.inputs[1].tolist() == [2, 3]
    assert found.weight[1].tolist() == [0.0, 0.0]
    assert found.offset[1].item() == 0.0
