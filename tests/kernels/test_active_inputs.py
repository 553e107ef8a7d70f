"""x by its active columns is the same x, and index sets narrowed to them read the same values."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fanin.kernels.active_inputs import ActiveInputs


@st.composite
def active_inputs(draw):
    D = draw(st.integers(1, 30))
    columns = sorted(draw(st.sets(st.integers(0, D - 1), max_size=D)))
    values = torch.randn(draw(st.integers(0, 5)), len(columns), generator=torch.Generator().manual_seed(D))
    return ActiveInputs(values, torch.tensor(columns, dtype=torch.int64), D)


@given(active_inputs())
def test_dense(x):
    dense = x.dense()
    assert dense.shape == (len(x.values), x.in_features)
    for column in range(x.in_features):
        where = (x.columns == column).nonzero()
        expected = x.values[:, int(where)] if len(where) else torch.zeros(len(x.values))
        assert torch.equal(dense[:, column], expected)


@given(active_inputs(), st.data())
def test_narrowed_index_sets_read_the_same_values(x, data):
    shape = (data.draw(st.integers(0, 6)), data.draw(st.integers(1, 4)))
    index = torch.randint(x.in_features, shape).to(torch.uint16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fanin.kernels.active_inputs._SETS_AT_A_TIME", 2)
        narrowed = x.narrowed(index)
    assert narrowed.shape == index.shape
    assert torch.equal(x.padded()[:, narrowed.long()], x.dense()[:, index.long()])


@pytest.mark.parametrize(
    ("D", "A", "before", "after"),
    [
        (65_536, 65_535, torch.uint16, torch.uint16),
        (65_536, 65_536, torch.uint16, torch.int32),
        (70_000, 65_535, torch.int32, torch.uint16),
        (70_000, 65_536, torch.int32, torch.int32),
        (70_000, 3, torch.int32, torch.uint16),
    ],
)
def test_the_dtype_is_what_the_active_inputs_need(D, A, before, after):
    columns = torch.arange(D - A, D)  # the last ones
    x = ActiveInputs(torch.randn(2, A), columns, D)
    index = torch.tensor([[0, D - 1, D - A, D // 2]]).to(before)
    narrowed = x.narrowed(index)
    assert narrowed.dtype == after
    assert torch.equal(x.padded()[:, narrowed.long()], x.dense()[:, index.long()])
