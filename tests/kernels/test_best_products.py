"""The largest of many products are those that sorting finds, with and without the compiled core."""

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from fanin.kernels import best_products as under_test
from fanin.kernels.best_products import best_products
from fanin.kernels.dispatch import compiled_core_obstacle

pytestmark = pytest.mark.usefixtures("poisoned_memory")
needs_core = pytest.mark.skipif(compiled_core_obstacle() is not None, reason="the compiled core is not installed")


@pytest.fixture(params=["torch", pytest.param("core", marks=needs_core)], scope="module")
def search(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":
            patch.setattr(under_test, "compiled_core_obstacle", lambda: "none")
        else:
            patch.setattr(under_test, "_PRODUCTS", 500)  # several blocks of columns
            patch.setattr(under_test, "_ROWS", 3)
        yield request.param


def _integers(shape, seed):
    """Products of which are exact in both dtypes, and many of them equal."""
    return torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).float()


@given(
    rows=st.integers(0, 7),
    columns=st.integers(1, 1500),
    k=st.integers(1, 300),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 99),
)
@example(rows=4, columns=1500, k=3, dtype=torch.bfloat16, seed=0)
@example(rows=7, columns=1472, k=1, dtype=torch.float32, seed=1)
@example(rows=2, columns=300, k=300, dtype=torch.bfloat16, seed=2)
def test_the_scores_are_those_of_sorting(search, rows, columns, k, dtype, seed):
    x, weight = _integers((rows, 8), seed), _integers((columns, 8), seed + 1)
    bias = _integers((columns,), seed + 2) / 64
    bias[torch.rand(columns, generator=torch.Generator().manual_seed(seed)) < 0.2] = -math.inf
    k = min(k, columns)
    found = best_products(x.to(dtype), weight.to(dtype), bias, k)
    scores = x @ weight.T + bias
    assert found.shape == (rows, k)
    assert found.dtype == torch.int64
    assert all(len(set(row)) == k for row in found.tolist())
    assert torch.equal(scores.gather(1, found).sort(descending=True).values, scores.sort(descending=True).values[:, :k])


@pytest.mark.usefixtures("search")
@pytest.mark.parametrize("columns", [70, 1000])
def test_not_a_number_counts_as_infinity(columns):
    bias = torch.arange(float(columns))
    bias[[3, columns - 2]] = torch.tensor([math.nan, math.inf])
    bias[5] = -math.inf
    found = best_products(torch.zeros(2, 4), torch.zeros(columns, 4), bias, 3)
    assert found.sort().values.tolist() == [[3, columns - 2, columns - 1]] * 2
    assert best_products(torch.full((1, 4), math.nan), torch.zeros(columns, 4), bias, 2).shape == (1, 2)
    hopeless = best_products(torch.zeros(1, 4), torch.zeros(columns, 4), torch.full((columns,), -math.inf), 9)
    assert len(set(hopeless[0].tolist())) == 9


@needs_core
def test_the_lower_column_of_equal_ones_on_any_number_of_threads(monkeypatch):
    x, weight, bias = _integers((300, 6), 3), _integers((900, 6), 4), torch.zeros(900)  # work for two threads
    ranked = (x @ weight.T).sort(descending=True, stable=True).indices[:, :7]
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert torch.equal(best_products(x, weight, bias, 7).sort().values, ranked.sort().values)


@needs_core
def test_the_core_refuses_what_does_not_fit():
    from fanin.kernels import _cpu

    with pytest.raises(ValueError, match="at least 1"):
        _cpu.LargestColumns(3, 0)
    largest = _cpu.LargestColumns(3, 5)
    for products, bias in (
        (torch.zeros(2, 4), torch.zeros(4)),
        (torch.zeros(3, 4), torch.zeros(5)),
        (torch.zeros(3, 4, dtype=torch.uint8), torch.zeros(4)),
    ):
        with pytest.raises(ValueError, match=r"products|biases"):
            largest.add(products, bias, 1)
    largest.add(torch.zeros(3, 4), torch.zeros(4), 1)
    with pytest.raises(ValueError, match="fewer columns"):
        largest.take(torch.empty(3, 5, dtype=torch.int64))
    largest.add(torch.ones(3, 4), torch.zeros(4), 2)
    with pytest.raises(ValueError, match=r"\[B, k\]"):
        largest.take(torch.empty(3, 4, dtype=torch.int64))
    columns = torch.empty(3, 5, dtype=torch.int64)
    largest.take(columns)
    assert columns.sort().values.tolist() == [[0, 4, 5, 6, 7]] * 3
