"""The definition of random index sets, against a second one in Python integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.kernels import drawing

_MASK = 2**64 - 1
_SEEDS = st.integers(0, 2**63 - 1)


def _mix(value):
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _draw(seed, s, i, bound):
    key = _mix((seed + _mix(s)) & _MASK)
    return ((_mix((key + i) & _MASK) >> 32) * bound) >> 32


def _subset(seed, s, size, population):
    chosen = []
    for i in range(size):
        last = population - size + i
        value = _draw(seed, s, i, last + 1)
        chosen.append(last if value in chosen else value)
    return chosen


def test_mix_is_splitmix64():
    """The first outputs of the published generator with seed 0, whose state grows by the golden ratio."""
    assert drawing.mix(np.array([0], dtype=np.uint64)).tolist() == [0xE220A8397B1DCDAF]
    assert drawing.mix(np.array([0x9E3779B97F4A7C15], dtype=np.uint64)).tolist() == [0x6E789E6AA1B965F4]


@given(_SEEDS, st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 12)), min_size=1, max_size=5), st.data())
def test_draw_subset_is_floyds_sampling(seed, wanted, data):
    population = data.draw(st.integers(12, 2**31))
    sets, sizes = np.array(wanted, dtype=np.int64).T
    chosen = drawing.draw_subset(seed, sets, sizes, population)
    for row, (s, size) in zip(chosen.tolist(), wanted, strict=True):
        assert row == _subset(seed, s, size, population) + [-1] * (int(sizes.max()) - size)
        assert len(set(row[:size])) == size


@given(_SEEDS, st.integers(1, 30), st.data())
def test_regrow_draws_among_the_unused_of_the_first_inputs(seed, D, data):
    F = data.draw(st.integers(1, D))
    inputs = data.draw(st.integers(1, D))
    used = [data.draw(st.lists(st.integers(0, D - 1), min_size=F, max_size=F, unique=True)) for _ in range(2)]
    spare = [sorted(set(range(inputs)) - set(row)) for row in used]
    count = [data.draw(st.integers(0, len(row))) for row in spare]
    new = drawing.regrow(seed, np.array([4, 9]), np.array(used), np.array(count), inputs)
    for i, s in enumerate((4, 9)):
        expected = [spare[i][rank] for rank in _subset(seed, s, count[i], len(spare[i]))]
        assert new[i, : count[i]].tolist() == expected


def test_regrow_can_take_every_unused_input():
    new = drawing.regrow(1, np.arange(50), np.tile([5, 1], (50, 1)), np.full(50, 6), 8)
    assert np.array_equal(np.sort(new, axis=1), np.tile([0, 2, 3, 4, 6, 7], (50, 1)))


@given(st.integers(-(2**70), 2**70), st.integers(0, 2**40))
def test_mix_seed_makes_63_bit_seeds_that_differ_by_stream(seed, stream):
    mixed = drawing.mix_seed(seed, stream)
    assert 0 <= mixed < 2**63
    assert mixed != drawing.mix_seed(seed, stream + 1)
    assert mixed != drawing.mix_seed(seed + 1, stream)


@pytest.mark.parametrize("bound", [1, 2, 3, 1000, 2**31])
def test_draws_stay_below_the_bound(bound):
    values = drawing.draw(9, np.arange(1000), 3, np.full(1000, bound))
    assert values.min() >= 0
    assert values.max() < bound
    assert bound == 1 or len(np.unique(values)) > 1
