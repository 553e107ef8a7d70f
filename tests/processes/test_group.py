"""What processes send to each other arrives, whatever the sizes, and is counted."""

import pytest
import torch

from fanin.processes.group import ALONE
from process_threads import run_together


@pytest.mark.parametrize("size", [2, 3])
def test_rows_of_all_come_in_order(size):
    def work(processes):
        own = torch.full((2 * processes.rank, 3), float(processes.rank))
        return processes.concatenated(own), processes.concatenated(own[:0], [0] * size)

    expected = torch.cat([torch.full((2 * rank, 3), float(rank)) for rank in range(size)])
    for found, nothing in run_together(size, work):
        assert torch.equal(found, expected)
        assert nothing.shape == (0, 3)


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_summed_rows_are_the_own_ones_of_the_sum(rows):
    values = torch.arange(3 * rows * 2, dtype=torch.float32).view(3, rows, 2)
    found = run_together(3, lambda processes: processes.summed_rows(values[processes.rank]))
    assert torch.equal(torch.cat(found), values.sum(0))
    assert [len(part) for part in found] == [len(range(rows)[rank::3]) for rank in range(3)]


def test_every_tensor_becomes_its_sum():
    def work(processes):
        tensors = [torch.full(shape, 1.0 + processes.rank) for shape in ((2, 3), (), (1,))]
        processes.add_all(tensors)
        return [tensor.unique().tolist() for tensor in tensors]

    assert run_together(2, work) == [[[3.0]] * 3] * 2


def test_what_the_first_one_knows_all_know():
    def work(processes):
        mine = torch.tensor([processes.rank + 5], dtype=torch.uint16)
        return (
            processes.told_by_first(lambda: {"name": processes.rank}),
            processes.told_by_all([processes.rank] * processes.rank),
            processes.found_by_first(lambda: mine).tolist(),
            processes.found_by_first(lambda: None),
            processes.largest(processes.rank, 1 - processes.rank),
        )

    assert run_together(2, work) == [({"name": 0}, [[], [1]], [5], None, [1, 1])] * 2


def test_alone_everything_is_what_it_was():
    values = torch.arange(4.0)
    assert ALONE.concatenated(values) is values
    assert ALONE.summed_rows(values) is values
    assert ALONE.add(values) is values
    assert ALONE.told_by_all("one") == ["one"]
    assert ALONE.found_by_first(lambda: None) is None
    ALONE.wait()
    assert ALONE.sent == 0


def test_bytes_are_counted_as_rings_send_them():
    def work(processes):
        processes.concatenated(torch.zeros(5, 4), [5, 5, 5])  # its own to two others
        gathered = processes.sent
        processes.add(torch.zeros(30))  # two thirds there, two thirds back
        added = processes.sent - gathered
        processes.summed_rows(torch.zeros(9, 2))  # the others' six rows
        return gathered, added, processes.sent - added - gathered

    assert run_together(3, work) == [(160, 160, 48)] * 3
