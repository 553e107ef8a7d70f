"""The internal order: a permutation there and back, and nothing else is taken for one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fanin.classifier.internal_order import InternalOrder
from fanin.errors import CheckpointError, ConfigError
from fanin.kernels.spec import Positives

NO_PERMUTATIONS = [
    torch.tensor([0, 1, 1]),
    torch.tensor([0, 1, 3]),
    torch.tensor([0, 1, -1]),
    torch.tensor([0, 1]),
    torch.tensor([[0, 1, 2]]),
    torch.tensor([0.0, 1.0, 2.0]),
]


@given(st.permutations(range(7)))
def test_places_and_labels(permutation):
    order = InternalOrder(7)
    order.assign(torch.tensor(permutation))
    places = torch.tensor([[0, 6, -1], [3, -1, 3]])
    expected = [[permutation[0], permutation[6], -1], [permutation[3], -1, permutation[3]]]
    assert order.labels(places).tolist() == expected
    indptr, labels = torch.tensor([0, 2, 2, 3]), torch.tensor([5, 0, 5])
    inner = order.positives(Positives(indptr, labels))
    assert torch.equal(inner.indptr, indptr)
    assert inner.indices.tolist() == [permutation.index(label) for label in labels.tolist()]
    assert torch.equal(order.labels(inner.indices), labels)


def test_it_starts_as_the_order_of_the_ids():
    order = InternalOrder(4)
    assert order.labels(torch.arange(4)).tolist() == [0, 1, 2, 3]
    assert list(order.state_dict()) == ["outer"]
    assert order.outer.dtype == torch.int32


@pytest.mark.parametrize("wrong", NO_PERMUTATIONS, ids=str)
def test_what_is_no_permutation_is_refused(wrong):
    order = nn.Sequential(InternalOrder(3))
    order[0].assign(torch.tensor([2, 0, 1]))
    with pytest.raises(ConfigError, match="each of the labels 0 to 2 once"):
        order[0].assign(wrong)
    with pytest.raises(CheckpointError, match=r"0\.outer does not hold each of the labels 0 to 2 once"):
        order.load_state_dict({"0.outer": wrong})
    assert order[0].labels(torch.arange(3)).tolist() == [2, 0, 1]


def test_a_missing_order_is_missed():
    with pytest.raises(RuntimeError, match="Missing key"):
        InternalOrder(3).load_state_dict({})
