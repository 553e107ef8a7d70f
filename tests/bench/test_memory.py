"""The memory measurement: that the process it starts trains what was asked for."""

import sys

import pytest

from fanin.bench.memory import measure_memory

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems count memory otherwise")


def test_a_larger_classifier_takes_more_memory():
    small, large = measure_memory([1000, 400_000], in_features=64, fan_in=32, batch_size=8, steps=2)
    assert (small.out_features, small.in_features, small.fan_in, small.batch_size, small.steps) == (1000, 64, 32, 8, 2)
    assert large.classifier_gib == pytest.approx(400_000 * (32 * 4 + 32 * 2 + 4) / 2**30)
    assert 0 < small.imports_gib <= small.peak_gib
    assert large.peak_gib >= large.imports_gib + 0.9 * large.classifier_gib
