"""Tensors spread over processes: written as one file, handed out to any number of them."""

import pytest
import torch
from safetensors.torch import load_file

from fanin.errors import CheckpointError
from fanin.processes import spread
from fanin.processes.spread import SpreadTensors, handed_out
from fanin.tensor_files import write_tensors
from process_threads import run_together

DTYPES = (torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.uint16, torch.int32, torch.int64, torch.float64)
WHOLE = {str(dtype): (torch.arange(33).view(11, 3) % 7).to(dtype) for dtype in DTYPES} | {"bias": torch.arange(11.0)}
CUTS = {1: (0, 11), 2: (0, 4, 11), 3: (0, 4, 4, 11)}


def same(one, other):
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


@pytest.fixture(autouse=True)
def _many_chunks(monkeypatch):
    monkeypatch.setattr(spread, "CHUNK_BYTES", 30)


@pytest.mark.parametrize("size", [2, 3])
def test_the_first_one_writes_what_all_hold(size, tmp_path):
    def work(processes):
        part = slice(*CUTS[size][processes.rank : processes.rank + 2])
        own = {name: tensor[part] for name, tensor in WHOLE.items()}
        if processes.first:
            own["order"] = torch.tensor([3, 1, 2])
        tensors = SpreadTensors(own, processes)
        if processes.first:
            write_tensors(tensors, tmp_path / "all.safetensors")
        else:
            tensors.send()

    run_together(size, work)
    found = load_file(tmp_path / "all.safetensors")
    assert found.pop("order").tolist() == [3, 1, 2]
    assert found.keys() == WHOLE.keys()
    assert all(same(found[name], tensor) for name, tensor in WHOLE.items())


@pytest.mark.parametrize("size", [1, 2, 3])
def test_each_gets_its_rows_and_the_rest_whole(size):
    everything = WHOLE | {
        "moment.0": torch.arange(22.0).view(11, 2),
        "step": torch.tensor(3.0),
        "random": torch.arange(5),
    }

    def work(processes):
        start, stop = CUTS[size][processes.rank : processes.rank + 2]
        rows = dict.fromkeys([*WHOLE, "moment"], stop - start)
        found = handed_out(lambda: everything, rows, processes)
        for name, tensor in everything.items():
            whole = name in {"step", "random"} or size == 1
            assert same(found[name].reshape(-1), (tensor if whole else tensor[start:stop]).reshape(-1)), name

    run_together(size, work)


def test_what_is_handed_out_goes_straight_into_memory_that_fits():
    def work(processes):
        start, stop = CUTS[2][processes.rank : processes.rank + 2]
        own = {name: torch.zeros_like(tensor[start:stop]) for name, tensor in WHOLE.items()}
        own |= {"order": torch.zeros(3), "bias": torch.zeros(stop - start, dtype=torch.int64)}  # the bias does not fit
        everything = WHOLE | {"order": torch.tensor([3.0, 1.0, 2.0])}
        found = handed_out(lambda: everything, dict.fromkeys(WHOLE, stop - start), processes, own)
        for name, tensor in everything.items():
            expected = tensor if name == "order" else tensor[start:stop]
            assert same(found[name], expected), name
            there = found[name].data_ptr() == own[name].data_ptr()
            assert there == (not processes.first and name != "bias"), name

    run_together(2, work)


def test_blocks_of_others_are_received_in_one_place():
    def work(processes):
        part = slice(*CUTS[2][processes.rank : processes.rank + 2])
        tensors = SpreadTensors({name: tensor[part] for name, tensor in WHOLE.items()}, processes)
        if not processes.first:
            return tensors.send()
        places = set()
        for name in tensors.whole:
            own = WHOLE[name][part].data_ptr()
            places |= {block.data_ptr() for block in tensors.blocks(name) if not own <= block.data_ptr() < own + 300}
        return places

    assert len(run_together(2, work)[0]) == 1


def test_too_few_rows_are_refused_by_all():
    def work(processes):
        with pytest.raises(CheckpointError, match="tensor 'bias' has 11 rows; the processes hold 10 of it"):
            handed_out(lambda: WHOLE, {"bias": 5}, processes)

    run_together(2, work)
