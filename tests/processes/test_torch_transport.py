"""What lies on GPUs goes by their group, what lies in the machines' memories by the other one: never the wrong way."""

from datetime import timedelta

import pytest
import torch
from torch import distributed

from fanin.errors import BackendError
from fanin.processes import torch_transport
from fanin.processes.gpu_group import join_gpus
from fanin.processes.group import Processes
from fanin.processes.torch_transport import TorchTransport

PATIENCE = timedelta(seconds=20)
GPU = torch.device("meta")  # a place that is not the CPU
GPUS = object()
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


class _Distributed:
    """torch.distributed with two processes, in which nothing is sent; says by which group it would be."""

    def __init__(self):
        self.calls, self.destroyed = [], 0

    def get_world_size(self):
        return 2

    def destroy_process_group(self):
        self.destroyed += 1

    def all_gather(self, found, own, group=None):
        self._note("gather", group, *found, own)

    def all_to_all_single(self, found, own, _found_sizes, _own_sizes, group=None):
        self._note("exchange", group, found, own)

    def all_reduce(self, values, group=None):
        self._note("add", group, values)

    def broadcast(self, values, _source, group=None):
        self._note("broadcast", group, values)

    def send(self, values, _to, group=None):
        self._note("send", group, values)

    def recv(self, values, _sender, group=None):
        self._note("receive", group, values)

    def _note(self, what, group, *tensors):
        [place] = {tensor.device.type for tensor in tensors}
        self.calls.append((what, place, group))


@pytest.fixture
def fake(monkeypatch):
    found = _Distributed()
    monkeypatch.setattr(torch_transport, "distributed", found)
    monkeypatch.setattr(torch_transport, "join_gpus", lambda _device, _patience: GPUS)
    return found


def _everything(transport, device):
    values = torch.zeros(4, 3, device=device)
    transport.gather(values)
    assert transport.exchange([values[:2], values[2:]], 2).shape == (2, 2, 3)
    transport.add(values)
    transport.broadcast(values)
    transport.send(values, 1)
    transport.receive(values, 1)


NAMES = ("gather", "exchange", "add", "broadcast", "send", "receive")


def test_tensors_go_by_the_group_of_their_place(fake):
    transport = TorchTransport(PATIENCE)
    Processes(0, 2, transport).compute_on(GPU)
    for device, group in (("meta", GPUS), ("cpu", None)):
        fake.calls.clear()
        _everything(transport, device)
        assert fake.calls == [(name, device, group) for name in NAMES]


def test_nothing_on_a_gpu_is_sent_before_it_is_said(fake):
    transport = TorchTransport(PATIENCE)
    processes = Processes(0, 2, transport)
    processes.compute_on(torch.device("cpu"))
    _everything(transport, "cpu")
    with pytest.raises(AssertionError, match="nowhere that this process has said"):
        processes.add(torch.zeros(2, device=GPU))
    assert len(fake.calls) == len(NAMES)


def test_what_processes_tell_each_other_is_on_the_cpu(fake):
    """Numbers and texts never wait for a GPU."""
    processes = Processes(0, 2, TorchTransport(PATIENCE))
    processes.compute_on(GPU)
    processes.counts(3)
    processes.largest(1, 2)
    processes.told_by_first(lambda: {"a": 1})
    processes.found_by_first(lambda: torch.ones(2))
    processes.concatenated(torch.zeros(3, 2, device=GPU), [3, 1])
    places = [(what, place) for what, place, _ in fake.calls]
    assert places.pop() == ("gather", "meta")
    assert {place for _, place in places} == {"cpu"}


def _leave(fake, *, on_gpus, error):
    with TorchTransport(PATIENCE) as transport:
        if on_gpus:
            transport.use_gpu(GPU)
            transport.use_gpu(GPU)  # twice is once
        if error:
            raise KeyError(error)
    return fake.destroyed


def test_groups_are_left_unless_an_exchange_between_gpus_may_hang(fake):
    assert _leave(fake, on_gpus=False, error="") == 1
    assert _leave(fake, on_gpus=True, error="") == 2
    with pytest.raises(KeyError):
        _leave(fake, on_gpus=False, error="e")
    assert fake.destroyed == 3
    with pytest.raises(KeyError):
        _leave(fake, on_gpus=True, error="e")
    assert fake.destroyed == 3


def test_groups_are_left_as_they_are_where_gpus_may_have_met_only_half(fake, monkeypatch):
    def fail(_device, _patience):
        raise KeyError("half")

    monkeypatch.setattr(torch_transport, "join_gpus", fail)
    with pytest.raises(KeyError, match="half"):
        _leave(fake, on_gpus=True, error="")
    assert fake.destroyed == 0


def test_torch_without_nccl_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "is_nccl_available", lambda: False)
    with pytest.raises(BackendError, match=r"device cuda:1: .* by NCCL, which torch .* is built without"):
        join_gpus(torch.device("cuda", 1), PATIENCE)


def test_a_gpu_that_cannot_be_used_is_named(monkeypatch):
    def busy(_device):
        raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable")

    monkeypatch.setattr(distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", busy)
    with pytest.raises(BackendError, match=r"device cuda:1: cannot be used \(CUDA error.*nvidia-smi"):
        join_gpus(torch.device("cuda", 1), PATIENCE)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])])
def test_a_world_of_one_by_the_real_library(device):
    """On a GPU this is NCCL with itself: the calls are those of several processes."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1, timeout=PATIENCE)
    device = torch.device(device, 0) if device == "cuda" else torch.device(device)
    with TorchTransport(PATIENCE) as transport:
        if device.type == "cuda":
            transport.use_gpu(device)
        for dtype in (torch.float32, torch.int64, torch.int32, torch.float64):
            values = torch.arange(6, device=device).to(dtype).view(3, 2)
            [gathered] = transport.gather(values)
            [exchanged] = transport.exchange([values], 3)
            added = values.clone()
            transport.add(added)
            transport.broadcast(added)
            for found in (gathered, exchanged, added):
                assert torch.equal(found, values)
        assert transport.exchange([values[:0]], 0).shape == (1, 0, 2)
