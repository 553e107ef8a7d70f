"""Which inputs grow, for given scores: the best unused ones, shares held, the rest at random."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fanin.classifier.growth import Growth
from fanin.errors import ConfigError


class Fixed:
    """A measure that knows its scores."""

    def __init__(self, scores):
        self._scores = scores

    def observe(self, x, positives, ahead):
        raise AssertionError("nothing to learn")

    def scores(self, layer, sets):
        return self._scores[sets].clone()

    def forget(self):
        raise AssertionError("nothing was learned")


def drawn_sets(S, D, F, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(D, generator=generator)[:F] for _ in range(S)])


def rows(new, count):
    return [row[:n] for row, n in zip(new.tolist(), count.tolist(), strict=True)]


@given(
    st.integers(1, 30),
    st.integers(1, 16),
    st.sampled_from(["one", "shares", "two", "random"]),
    st.integers(0, 9),
    st.data(),
)
def test_new_inputs_are_unused_and_each_once(S, D, kind, seed, data):
    F, inputs = data.draw(st.integers(1, D)), data.draw(st.integers(1, D))
    used = drawn_sets(S, D, F, seed)
    free = inputs - (used < inputs).sum(1)
    generator = torch.Generator().manual_seed(seed)
    count = (torch.rand(S, generator=generator) * (free + 1)).long()
    sparse_scores = torch.rand(S, inputs, generator=generator) * (torch.rand(S, inputs, generator=generator) < 0.5)
    gradient, separating = Fixed(sparse_scores), Fixed(torch.rand(S, inputs, generator=generator))
    growth = {
        "random": Growth(inputs),
        "one": Growth(inputs, {"gradient": 1.0}, {"gradient": gradient}),
        "shares": Growth(inputs, {"random": 0.3, "separating": 0.7}, {"separating": separating}),
        "two": Growth(
            inputs,
            {"gradient": 0.25, "separating": 0.25, "random": 0.5},
            {"gradient": gradient, "separating": separating},
        ),
    }[kind]
    new, grown = growth.choose(0, torch.arange(S), used, count, seed)
    for row, (before, after) in enumerate(zip(used.tolist(), rows(new, count), strict=True)):
        assert len(after) == len(set(after)) == count[row]
        assert not set(before) & set(after)
        assert all(0 <= i < inputs for i in after)
    assert sum(grown.values()) == int(count.sum())


def test_the_best_unused_inputs_grow_best_first():
    scores = torch.rand(50, 20, generator=torch.Generator().manual_seed(1))
    used, count = drawn_sets(50, 20, 6), torch.arange(50) % 5
    new, grown = Growth(20, {"gradient": 1.0}, {"gradient": Fixed(scores)}).choose(0, torch.arange(50), used, count, 0)
    for s, after in enumerate(rows(new, count)):
        unused = sorted(set(range(20)) - set(used[s].tolist()), key=lambda i, s=s: -float(scores[s, i]))
        assert after == unused[: int(count[s])]
    assert grown == {"gradient": int(count.sum())}


def test_inputs_that_nothing_speaks_for_give_way_to_chance():
    scores = torch.zeros(10, 20)
    scores[:, 3], scores[:, 4] = 1.0, torch.nan
    used, count = torch.arange(5, 10).repeat(10, 1), torch.full((10,), 4)
    new, grown = Growth(20, {"gradient": 1.0}, {"gradient": Fixed(scores)}).choose(0, torch.arange(10), used, count, 0)
    assert new[:, 0].tolist() == [3] * 10
    assert grown == {"gradient": 10, "random": 30}
    assert len({tuple(row) for row in new.tolist()}) > 1


@pytest.mark.parametrize("count", [1, 2, 7])
def test_shares_hold_over_many_sets(count):
    S, shares = 4000, {"random": 0.2, "gradient": 0.5, "separating": 0.3}
    scores = torch.rand(S, 30, generator=torch.Generator().manual_seed(1))
    growth = Growth(30, shares, {"gradient": Fixed(scores), "separating": Fixed(1 - scores)})
    _, grown = growth.choose(0, torch.arange(S), drawn_sets(S, 30, 5), torch.full((S,), count), 3)
    for mode, share in shares.items():
        assert abs(grown[mode] / (S * count) - share) < 4 * (share / S / count) ** 0.5


def test_a_set_chooses_the_same_among_others_and_alone():
    scores = torch.rand(40, 30, generator=torch.Generator().manual_seed(1))
    used, count = drawn_sets(40, 30, 5), torch.full((40,), 3)
    growth = Growth(30, {"random": 0.5, "gradient": 0.5}, {"gradient": Fixed(scores)})
    new, _ = growth.choose(0, torch.arange(40), used, count, 3)
    alone, _ = growth.choose(0, torch.tensor([17]), used[17:18], count[17:18], 3)
    assert torch.equal(new[17:18], alone)
    other, _ = growth.choose(0, torch.arange(40), used, count, 4)
    assert not torch.equal(new, other)


def test_what_chance_adds_is_uniform_over_what_is_left():
    S = 20_000
    scores = torch.zeros(S, 12)
    scores[:, 0] = 1.0
    used = torch.tensor([[9, 5, 2, 100]]).repeat(S, 1)
    growth = Growth(12, {"random": 0.5, "gradient": 0.5}, {"gradient": Fixed(scores)})
    new, _ = growth.choose(0, torch.arange(S), used, torch.full((S,), 2), 3)
    assert (new[:, 0] == 0).all()
    counts = np.bincount(new[:, 1].numpy(), minlength=12)
    left = [1, 3, 4, 6, 7, 8, 10, 11]
    assert counts[left].sum() == S
    assert stats.chisquare(counts[left]).pvalue > 1e-3


@pytest.mark.parametrize("shares", [{}, {"random": 0.5}, {"random": 1.5, "gradient": -0.5}, {"random": float("nan")}])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ConfigError, match=r"rewiring\.grow"):
        Growth(10, shares, {mode: Fixed(None) for mode in shares if mode != "random"})
