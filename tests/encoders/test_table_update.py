"""Sparse table gradients and updates against dense torch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fanin.encoders.table_update import RowGradient, RowwiseAdam, row_gradient
from fanin.errors import CheckpointError

V, E = 7, 5


@given(st.lists(st.lists(st.integers(0, V - 1), max_size=6), min_size=1, max_size=5), st.integers(0, 99))
def test_row_gradient_is_the_dense_gradient_of_the_touched_rows(bags_of_tokens, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.tensor([token for bag in bags_of_tokens for token in bag], dtype=torch.int64)
    lengths = torch.tensor([len(bag) for bag in bags_of_tokens])
    bags = torch.repeat_interleave(lengths)
    weights = torch.rand(len(tokens), generator=generator, dtype=torch.float64)
    table = torch.randn(V, E, generator=generator, dtype=torch.float64, requires_grad=True)
    grad_bag = torch.randn(len(lengths), E, generator=generator, dtype=torch.float64)
    pooled = torch.zeros(len(lengths), E, dtype=torch.float64).index_add(0, bags, table[tokens] * weights[:, None])
    pooled.backward(grad_bag)

    rows, values = row_gradient(tokens, bags, weights, grad_bag)

    assert rows.tolist() == sorted(set(tokens.tolist()))
    dense = torch.zeros(V, E, dtype=torch.float64).index_copy(0, rows, values)
    torch.testing.assert_close(dense, table.grad)


def dense_rowwise_adam(table, gradients, rate, beta2, eps):
    """The rule of RowwiseAdam in float64, row by row, from a list of {row: gradient} a step."""
    table, moment, touches = table.double().clone(), [0.0] * len(table), [0] * len(table)
    for step in gradients:
        for row, g in step.items():
            touches[row] += 1
            moment[row] = beta2 * moment[row] + (1 - beta2) * float(g.double().square().mean())
            root = (moment[row] / (1 - beta2 ** touches[row])) ** 0.5
            table[row] -= rate * g.double() / (root + eps)
    return table


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_rowwise_adam_follows_its_rule_and_touches_no_other_row(scale):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(V, E, generator=generator)
    table, update, history = start.clone(), RowwiseAdam(V, beta2=0.9), []
    for step in range(20):
        rows = torch.randperm(V - 1, generator=generator)[: step % 3 + 1].sort().values  # the last row is never touched
        values = torch.randn(len(rows), E, generator=generator) * 10.0 ** (step % 4 - 2)
        update.step(table, RowGradient(rows, values), 0.1, scale)
        history.append({row: values[i] * scale for i, row in enumerate(rows.tolist())})
    expected = dense_rowwise_adam(start, history, 0.1, 0.9, update.eps)
    torch.testing.assert_close(table.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(table[-1], start[-1])


def test_first_step_of_a_row_has_the_size_of_the_learning_rate_however_late():
    table, update = torch.zeros(2, E), RowwiseAdam(2)
    for _ in range(100):
        update.step(table, RowGradient(torch.tensor([0]), torch.full((1, E), 3.0)), 0.01)
    update.step(table, RowGradient(torch.tensor([1]), torch.full((1, E), 1e-3)), 0.01)
    torch.testing.assert_close(table[1], torch.full((E,), -0.01), rtol=1e-3, atol=0)


def test_empty_gradient_changes_nothing():
    table, update = torch.ones(V, E), RowwiseAdam(V)
    empty = row_gradient(
        torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), torch.empty(0), torch.ones(2, E)
    )
    update.step(table, empty, 0.1)
    assert torch.equal(table, torch.ones(V, E))


def test_state_taken_back_continues_the_same_run():
    generator = torch.Generator().manual_seed(1)
    steps = [RowGradient(torch.tensor([1, 4]), torch.randn(2, E, generator=generator)) for _ in range(6)]
    whole, first, second = torch.zeros(V, E), RowwiseAdam(V), RowwiseAdam(V)
    for gradient in steps:
        first.step(whole, gradient, 0.1)
    halves, before = torch.zeros(V, E), RowwiseAdam(V)
    for gradient in steps[:3]:
        before.step(halves, gradient, 0.1)
    second.load_state({name: tensor.clone() for name, tensor in before.state().items()})
    for gradient in steps[3:]:
        second.step(halves, gradient, 0.1)
    assert torch.equal(halves, whole)


def test_state_is_made_where_the_table_is_and_not_where_the_update_was_made():
    with torch.device("meta"):
        update = RowwiseAdam(V)
    update.step(torch.zeros(V, E), RowGradient(torch.tensor([2]), torch.ones(1, E)), 0.1)
    assert update.state()["touches"].tolist() == [0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("broken", [{}, {"second_moment": torch.zeros(V + 1), "touches": torch.zeros(V)}])
def test_foreign_state_is_refused(broken):
    with pytest.raises(CheckpointError, match="second_moment"):
        RowwiseAdam(V).load_state(broken)
