"""Encoders of given features, against plain arithmetic."""

import pytest
import torch
from torch.nn.functional import layer_norm

from fanin.encoders.features import FeatureEncoder, SparseFeatureEncoder
from fanin.errors import ConfigError


def test_dense_features_are_normed_and_projected():
    features = torch.randn(5, 6) * 3 + 1
    encoder = FeatureEncoder(6, 4, dropout=0.5).eval()
    expected = layer_norm(features, (6,)) @ encoder.project.weight.T + encoder.project.bias
    torch.testing.assert_close(encoder(features), expected)
    assert torch.equal(FeatureEncoder(6, layer_norm=False).eval()(features), features)


def test_without_a_projection_there_is_nothing_to_train():
    encoder = FeatureEncoder(6)
    assert encoder.parameter_groups() == {"projection": []}
    assert not encoder(torch.randn(2, 6)).requires_grad
    assert encoder.out_features == 6
    assert len(FeatureEncoder(6, 3).parameter_groups()["projection"]) == 2


def test_dropout_is_for_training_alone():
    encoder, features = FeatureEncoder(1000, layer_norm=False, dropout=0.4), torch.ones(1, 1000)
    zeros = int((encoder(features) == 0).sum())
    assert 300 < zeros < 500
    assert torch.equal(encoder.eval()(features), features)


@pytest.mark.parametrize("sizes", [(0, None), (4, 0), (4, -1)])
def test_sizes_are_positive(sizes):
    with pytest.raises(ConfigError, match="out_features"):
        FeatureEncoder(*sizes)
    with pytest.raises(ConfigError, match="dropout"):
        FeatureEncoder(4, dropout=1.0)


def test_sparse_features_are_a_scaled_product_with_the_table():
    encoder = SparseFeatureEncoder(10, 4).eval()
    dense = torch.zeros(3, 10)
    dense[0, 3], dense[0, 9], dense[2, 1] = 2.0, -1.0, 0.5
    indices, offsets = torch.tensor([3, 9, 1]), torch.tensor([0, 2, 2, 3])
    bags = dense / dense.norm(dim=1, keepdim=True).clamp_min(1e-30) @ encoder.table
    found = encoder(indices, offsets, torch.tensor([2.0, -1.0, 0.5]))
    torch.testing.assert_close(found, encoder.final_norm(encoder.norm(bags)))


def test_only_the_features_of_a_batch_are_updated():
    encoder = SparseFeatureEncoder(10, 4, dropout=0.0)
    before = encoder.table.clone()
    x = encoder(torch.tensor([3, 9, 3]), torch.tensor([0, 2, 3]), torch.ones(3))
    x.backward(torch.randn(2, 4))
    encoder.table_step(0.1)
    assert (encoder.table != before).any(1).nonzero().flatten().tolist() == [3, 9]
