"""Balanced clusters: sizes, permutations, determinism, and whether planted clusters are found."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fanin.errors import ConfigError, DataError
from fanin.labels import two_means
from fanin.labels.clustering import LabelOrder, balanced_clusters, grouped_labels


def random_features(L, dim=8, seed=0):
    return np.random.default_rng(seed).normal(size=(L, dim)).astype(np.float32)


def grouped_order(features, group_size, seed=0):
    """All labels in groups, as an order with its bounds."""
    L = len(features)
    order = grouped_labels(features, np.arange(L), group_size, seed)
    return LabelOrder(order, np.append(np.arange(0, L, group_size), L))


def planted(clusters, size, dim=24, noise=0.25, seed=0):
    """Features around random directions, and the planted cluster of every label, in random order."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(clusters), size))
    centres = rng.normal(size=(clusters, dim))
    return (centres[truth] + noise * rng.normal(size=(len(truth), dim))).astype(np.float32), truth


def purity(clusters, truth):
    """Share of the labels that are of their cluster's most frequent planted cluster."""
    table = np.zeros((clusters.max() + 1, truth.max() + 1))
    np.add.at(table, (clusters, truth), 1)
    return table.max(1).sum() / len(truth)


def check(order, L):
    assert order.outer_of_inner.dtype == order.bounds.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order.outer_of_inner), np.arange(L))
    np.testing.assert_array_equal(order.inner_of_outer[order.outer_of_inner], np.arange(L))
    assert order.bounds[0] == 0
    assert order.bounds[-1] == L
    for k in range(order.n_clusters):
        members = order.outer_of_inner[order.bounds[k] : order.bounds[k + 1]]
        assert set(order.cluster_of_outer[members]) == {k}


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 150), st.integers(0, 5), st.booleans())
def test_balanced_sizes(data, L, seed, zeros):
    count = data.draw(st.integers(1, L))
    features = random_features(L, seed=seed)
    if zeros:
        features[:: 1 + seed] = 0
    order = balanced_clusters(features, count, seed)
    check(order, L)
    sizes = np.diff(order.bounds)
    assert len(sizes) == count
    assert sizes.max() - sizes.min() <= 1


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 150), st.integers(1, 200), st.integers(0, 5), st.booleans())
def test_group_sizes(L, group_size, seed, zeros):
    features = random_features(L, seed=seed)
    if zeros:
        features[:: 1 + seed] = 0
    order = grouped_order(features, group_size, seed)
    check(order, L)
    sizes = np.diff(order.bounds)
    assert len(sizes) == -(-L // group_size)
    assert (sizes[:-1] == group_size).all()
    assert 1 <= sizes[-1] <= group_size


@pytest.mark.parametrize("block", [64, 32768])  # with 64 the upper nodes are split by a sample
def test_planted_clusters_are_found(monkeypatch, block):
    monkeypatch.setattr(two_means, "NODE_ROWS", block)
    monkeypatch.setattr(two_means, "BLOCK_ROWS", min(block, two_means.BLOCK_ROWS))
    features, truth = planted(clusters=40, size=16)
    assert purity(balanced_clusters(features, 40).cluster_of_outer, truth) > 0.8
    assert purity(grouped_order(features, 16).cluster_of_outer, truth) > 0.8
    random = np.random.default_rng(1).permutation(len(truth)) // 16
    assert purity(random, truth) < 0.2


def test_runs_of_groups_are_clusters_too():
    # 16 planted clusters of 64 labels, each of 4 planted clusters of 16, and 5 groups more that are not in runs of 4.
    rng = np.random.default_rng(0)
    fine = np.arange(16 * 64 + 80) // 16
    coarse = fine // 4
    centres = rng.normal(size=(coarse.max() + 1, 32))[coarse] + 0.5 * rng.normal(size=(fine.max() + 1, 32))[fine]
    features = (centres + 0.1 * rng.normal(size=centres.shape)).astype(np.float32)
    groups = grouped_order(features, 16).cluster_of_outer
    assert purity(groups, fine) > 0.8
    assert purity(groups // 4, coarse) > 0.8


def test_only_directions_count():
    features, truth = planted(clusters=8, size=16)
    scale = np.exp(np.random.default_rng(1).normal(size=(len(truth), 1)) * 3).astype(np.float32)
    assert purity(balanced_clusters(features * scale, 8).cluster_of_outer, truth) > 0.8


def test_zero_rows_leave_the_others_together():
    features, truth = planted(clusters=8, size=16)
    known = np.ones(len(truth) + 64, bool)
    known[::3] = False
    known[np.flatnonzero(known)[len(truth) :]] = False
    padded = np.zeros((len(known), features.shape[1]), np.float32)
    padded[known] = features[: known.sum()]
    order = grouped_order(padded, 16)
    assert purity(order.cluster_of_outer[known], truth[: known.sum()]) > 0.8


def test_seed_decides_and_threads_do_not():
    features = random_features(5000, dim=16)
    threads = torch.get_num_threads()
    first = grouped_order(features, 16, seed=1)
    try:
        torch.set_num_threads(3)
        again = grouped_order(features, 16, seed=1)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(first.outer_of_inner, again.outer_of_inner)
    assert not np.array_equal(first.outer_of_inner, grouped_order(features, 16, seed=2).outer_of_inner)


def test_features_are_left_as_they_are():
    features = random_features(100)
    kept = features.copy()
    balanced_clusters(features, 10)
    np.testing.assert_array_equal(features, kept)


@pytest.mark.parametrize("count", [0, 6])
def test_impossible_count(count):
    with pytest.raises(ConfigError, match=rf"cannot make {count} clusters of 5 labels"):
        balanced_clusters(random_features(5), count)


def test_impossible_group_size():
    with pytest.raises(ConfigError, match="group size 0"):
        grouped_order(random_features(5), 0)


@pytest.mark.parametrize("shape", [(0, 3), (4,), (3, 0)])
def test_features_of_the_wrong_shape(shape):
    with pytest.raises(DataError, match="must be a matrix"):
        grouped_order(np.zeros(shape, np.float32), 2)


def test_features_of_the_wrong_type():
    with pytest.raises(DataError, match="float64"):
        grouped_order(np.zeros((3, 2)), 2)


def test_features_that_are_not_finite():
    features = random_features(10)
    features[7, 2] = np.inf
    with pytest.raises(DataError, match="label 7"):
        balanced_clusters(features, 2)


def test_order_of_one_cluster():
    order = LabelOrder(np.array([1, 0]), np.array([0, 2]))
    assert (len(order), order.n_clusters, order.cluster_of_outer.tolist()) == (2, 1, [0, 0])


def test_some_labels_are_grouped_as_if_there_were_no_others():
    features = random_features(200)
    labels = np.flatnonzero(np.arange(200) % 3 > 0)
    kept = labels.copy()
    found = grouped_labels(features, labels, 8, seed=2)
    np.testing.assert_array_equal(found, labels[grouped_labels(features[labels], np.arange(len(labels)), 8, seed=2)])
    np.testing.assert_array_equal(labels, kept)


def test_a_byte_a_feature_is_enough():
    features, truth = planted(16, 32)
    in_bytes = np.rint(127 * features / np.abs(features).max(1, keepdims=True)).astype(np.int8)
    assert purity(balanced_clusters(in_bytes, 16).cluster_of_outer, truth) > 0.95
