"""Counting and checking index sets."""

import pytest
import torch

from fanin.classifier.topology import check_index, check_shape, set_count
from fanin.errors import CheckpointError


@pytest.mark.parametrize(
    ("labels", "group_size", "sets"), [(1, 1, 1), (10, 4, 3), (12, 4, 3), (1, 32, 1), (2**31 + 1, 2, 2**30 + 1)]
)
def test_the_last_group_may_be_short(labels, group_size, sets):
    assert set_count(labels, group_size) == sets


def test_possible_shapes_pass():
    check_shape(16, 1, 1)
    check_shape(16, 16, 1000)


def test_a_bad_set_far_down_is_named():
    index = torch.arange(3).to(torch.uint16).repeat(70_000, 1)
    check_index(index, (70_000, 3), 3)
    spoiled = index.to(torch.int32)
    spoiled[69_999] = torch.tensor([2, 0, 2])
    with pytest.raises(CheckpointError, match="index set 69999 names an input twice"):
        check_index(spoiled.to(torch.uint16), (70_000, 3), 3)
    with pytest.raises(CheckpointError, match=r"index set 0 names an input outside 0\.\.1"):
        check_index(index, (70_000, 3), 2)
