"""Counting and checking index sets."""

import pytest
import torch

from fanin.classifier.sparse import SparseLinear
from fanin.classifier.topology import check_index, check_shape, set_count
from fanin.errors import CheckpointError, ConfigError


@pytest.mark.parametrize(
    ("labels", "group_size", "sets"), [(1, 1, 1), (10, 4, 3), (12, 4, 3), (1, 32, 1), (2**31 + 1, 2, 2**30 + 1)]
)
def test_the_last_group_may_be_short(labels, group_size, sets):
    assert set_count(labels, group_size) == sets


@pytest.mark.parametrize("group_size", [1, 1000])
def test_the_border_of_the_possible(group_size):
    for fan_in in (1, 16):
        assert SparseLinear(16, 20, fan_in, group_size)(torch.ones(2, 16)).shape == (2, 20)
    for fan_in in (0, 17):
        with pytest.raises(ConfigError, match=f"fan_in={fan_in} must lie between 1 and the number of inputs, 16"):
            check_shape(16, fan_in, group_size)


def test_a_bad_set_far_down_is_named():
    index = torch.arange(3).to(torch.uint16).repeat(70_000, 1)
    check_index(index, (70_000, 3), 3)
    spoiled = index.to(torch.int32)
    spoiled[69_999] = torch.tensor([2, 0, 2])
    with pytest.raises(CheckpointError, match="index set 69999 names an input twice"):
        check_index(spoiled.to(torch.uint16), (70_000, 3), 3)
    with pytest.raises(CheckpointError, match=r"index set 0 names an input outside 0\.\.1"):
        check_index(index, (70_000, 3), 2)
