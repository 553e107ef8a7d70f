"""Where labels are cut: whole groups and clusters, balanced, nothing lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.classifier.sharding import BandSize, shard_ranges, unit_of
from fanin.errors import ConfigError

UNITS = st.integers(1, 12)


@st.composite
def cuts(draw):
    processes = draw(st.integers(1, 9))
    bands = []
    for _ in range(draw(st.integers(1, 4))):
        unit = draw(UNITS)
        bands.append(BandSize(draw(st.integers((processes - 1) * unit + 1, processes * unit + 300)), unit))
    return bands, processes


@given(cuts())
def test_every_label_is_served_once_by_whole_units(drawn):
    bands, processes = drawn
    for (labels, unit), ranges in zip(bands, shard_ranges(bands, processes), strict=True):
        assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]
        assert ranges[-1][1] == labels
        assert all(start < stop and start % unit == 0 for start, stop in ranges)


@given(cuts())
def test_processes_have_as_much_of_every_band_and_in_all(drawn):
    bands, processes = drawn
    found = shard_ranges(bands, processes)
    units = [
        [-(-(stop - start) // unit) for start, stop in ranges] for (_, unit), ranges in zip(bands, found, strict=True)
    ]
    assert all(max(counts) - min(counts) <= 1 for counts in [*units, [sum(own) for own in zip(*units, strict=True)]])


@given(UNITS, st.integers(0, 12))
def test_a_unit_cuts_no_group_and_no_cluster(group, cluster):
    unit = unit_of(group, cluster)
    assert unit % group == 0
    assert cluster == 0 or unit % cluster == 0


def test_fewer_units_than_processes_are_refused():
    with pytest.raises(
        ConfigError, match="3 processes cannot share 8 outputs that are cut in 2 runs of 4.*processes or so"
    ):
        shard_ranges([BandSize(100, 1), BandSize(8, 4)], 3, " or so")
