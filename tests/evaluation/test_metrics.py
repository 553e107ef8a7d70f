"""The metrics against an oracle of plain loops."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.errors import ConfigError, DataError
from fanin.evaluation.metrics import MetricAccumulator

LABELS = 8
KS = (1, 3, 5)


def csr(positives):
    indptr = np.cumsum([0, *map(len, positives)])
    return indptr, np.array([label for row in positives for label in row], np.int64)


def evaluate(predicted, positives, counts, gains, ks=KS, cuts=()):
    accumulator = MetricAccumulator(counts, gains, ks)
    edges = [0, *sorted(cuts), len(positives)]
    for start, end in itertools.pairwise(edges):
        batch = np.array(predicted[start:end], np.int64) if end > start else np.zeros((0, 5), np.int64)
        accumulator.update(batch, *csr(positives[start:end]))
    return accumulator.result()


def thirds(counts):
    order = sorted(range(len(counts)), key=lambda label: (-counts[label], label))
    total, before, group = sum(counts), 0, {}
    for label in order:
        begins = before / total if total else 1.0
        group[label] = (
            "tail" if begins >= 2 / 3 - 1e-12 or counts[label] == 0 else "middle" if begins >= 1 / 3 - 1e-12 else "head"
        )
        before += counts[label]
    return group


def oracle(predicted, positives, counts, gains, ks):
    """Every metric from its definition, one point and one rank at a time."""
    points = [(row, set(relevant)) for row, relevant in zip(predicted, positives, strict=True) if relevant]
    group = thirds(counts)
    scores, groups = {}, {name: {} for name in ("head", "middle", "tail")}
    for k in ks:
        p = ndcg = recall = ps = ps_ideal = psn = psn_ideal = 0.0
        contribution = dict.fromkeys(groups, 0.0)
        covered, present = set(), set()
        for row, relevant in points:
            present |= relevant
            perfect = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
            for rank, label in enumerate(row[:k], start=1):
                if label in relevant:
                    p += 1 / k
                    contribution[group[label]] += 1 / k
                    ndcg += 1 / math.log2(rank + 1) / perfect
                    recall += 1 / len(relevant)
                    ps += gains[label]
                    psn += gains[label] / math.log2(rank + 1) / perfect
                    covered.add(label)
            for rank, gain in enumerate(sorted((gains[label] for label in relevant), reverse=True)[:k], start=1):
                ps_ideal += gain
                psn_ideal += gain / math.log2(rank + 1) / perfect
        n = len(points)
        scores[f"P@{k}"] = p / n if n else 0.0
        scores[f"nDCG@{k}"] = ndcg / n if n else 0.0
        scores[f"R@{k}"] = recall / n if n else 0.0
        scores[f"PSP@{k}"] = ps / ps_ideal if n else 0.0
        scores[f"PSnDCG@{k}"] = psn / psn_ideal if n else 0.0
        scores[f"coverage@{k}"] = len(covered) / len(present) if n else 0.0
        for name, total in contribution.items():
            groups[name][f"P@{k}"] = total / n if n else 0.0
    return len(points), scores, groups


@st.composite
def cases(draw):
    rows = draw(st.integers(0, 7))
    places = draw(st.integers(0, 6))
    ranking = st.permutations(range(LABELS)).flatmap(
        lambda order: st.lists(st.booleans(), min_size=places, max_size=places).map(
            lambda filled: [label if full else -1 for label, full in zip(order, filled, strict=False)]
        )
    )
    predicted = draw(st.lists(ranking, min_size=rows, max_size=rows))
    positives = draw(st.lists(st.lists(st.integers(0, LABELS - 1), max_size=9), min_size=rows, max_size=rows))
    counts = draw(st.lists(st.integers(0, 9), min_size=LABELS, max_size=LABELS))
    gains = draw(st.lists(st.floats(1, 50), min_size=LABELS, max_size=LABELS))
    cuts = draw(st.lists(st.integers(0, rows), max_size=4))
    return predicted, positives, counts, gains, cuts


@given(cases())
def test_agrees_with_the_oracle_in_any_split_into_batches(case):
    predicted, positives, counts, gains, cuts = case
    found = evaluate(predicted, positives, counts, gains, cuts=cuts)
    points, scores, groups = oracle(predicted, positives, counts, gains, KS)
    assert (found.points, found.left_out) == (points, len(positives) - points)
    assert dict(found.scores) == pytest.approx(scores, rel=1e-12, abs=1e-12)
    for name, group in groups.items():
        assert {key: found.groups[name][key] for key in group} == pytest.approx(group, rel=1e-12, abs=1e-12)
    assert sum(group["labels"] for group in found.groups.values()) == LABELS
    for k in KS:
        total = sum(group[f"P@{k}"] for group in found.groups.values())
        assert total == pytest.approx(found[f"P@{k}"], abs=1e-12)
        assert all(-1e-12 <= found[f"{name}@{k}"] <= 1 + 1e-12 for name in ("P", "nDCG", "R", "PSP", "PSnDCG"))


def test_row_5_label_3_is_not_row_3_label_5():
    positives = [[0]] * 6
    positives[3] = [5]
    predicted = np.full((6, 1), 1)
    predicted[5] = 3  # would match (3, 5) if the pair were sorted
    result = evaluate(predicted, positives, [1] * LABELS, [1.0] * LABELS, ks=(1,))
    assert result["P@1"] == 0
    predicted[3] = 5
    assert evaluate(predicted, positives, [1] * LABELS, [1.0] * LABELS, ks=(1,))["P@1"] == pytest.approx(1 / 6)


def test_ideal_ranking_scores_1_where_a_score_can():
    rng = np.random.default_rng(0)
    gains = rng.uniform(1, 20, LABELS)
    positives = [rng.choice(LABELS, size=n, replace=False).tolist() for n in (5, 6, 7, 8, 5)]
    predicted = [sorted(row, key=lambda label: -gains[label])[:5] for row in positives]
    result = evaluate(predicted, positives, rng.integers(0, 9, LABELS), gains)
    for k in KS:
        for name in ("P", "nDCG", "PSP", "PSnDCG"):
            assert result[f"{name}@{k}"] == pytest.approx(1)
    assert result["R@5"] < 1


def test_k_beyond_the_relevant_labels():
    result = evaluate([[2, 4, 0]], [[4, 2]], [1] * LABELS, [3.0] * LABELS)
    assert result["P@5"] == pytest.approx(2 / 5)
    for name in ("nDCG@5", "R@5", "PSP@5", "PSnDCG@5", "coverage@5"):
        assert result[name] == pytest.approx(1)


def test_a_positive_listed_twice_counts_once():
    once = evaluate([[2, 4, 0]], [[4, 1]], [1] * LABELS, [3.0] * LABELS)
    assert evaluate([[2, 4, 0]], [[4, 1, 4]], [1] * LABELS, [3.0] * LABELS) == once


def test_no_points_give_zeros_and_plain_json():
    result = evaluate([[1], [2]], [[], []], [1] * LABELS, [1.0] * LABELS)
    assert (result.points, result.left_out) == (0, 2)
    assert set(result.scores.values()) == {0.0}
    assert json.loads(json.dumps(result.as_dict(), allow_nan=False)) == result.as_dict()


@pytest.mark.parametrize(
    ("predicted", "indptr", "indices", "message"),
    [
        ([[1, 1]], [0, 1], [1], "row 0 holds label 1 twice"),
        ([[LABELS]], [0, 1], [1], f"label {LABELS} is not in"),
        ([[-2]], [0, 1], [1], "label -2 is not in"),
        ([[0]], [0, 1], [LABELS], "relevant labels: label"),
        ([[0]], [0, 1], [-1], "relevant labels: label -1"),
        ([[0], [1]], [0, 1], [1], r"shape \(1, k\)"),
        ([[0.5]], [0, 1], [1], "expected integers"),
        ([[0]], [0, 2], [1], "indptr must rise"),
    ],
)
def test_bad_input_is_refused(predicted, indptr, indices, message):
    accumulator = MetricAccumulator([1] * LABELS, [1.0] * LABELS)
    with pytest.raises(DataError, match=message):
        accumulator.update(predicted, indptr, indices)
    assert accumulator.result().points == 0


def test_bad_arguments_are_refused():
    with pytest.raises(ConfigError, match="ks is"):
        MetricAccumulator([1], [1.0], ks=(0, 1))
    with pytest.raises(DataError, match="2 training counts but 1"):
        MetricAccumulator([1, 2], [1.0])
