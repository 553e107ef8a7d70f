"""One of several processes that train small runs on a device: ``train_together.py DEVICE DATA FOLDER RUN...``.

The first one prints what came out, a line of JSON a run, and what one process on the CPU gives. On the device "lazy"
(see ``train_on_device.py``) gloo plays NCCL: it carries tensors of the device through the CPU, and as NCCL and gloo do,
the group for the device refuses tensors that lie elsewhere, and the other group those of the device.
"""

import sys
from pathlib import Path

import torch
from torch import distributed
from train_on_device import CPU, Display, bring_up_lazy_device, report, train

import fanin.processes.torch_transport as transport_module
from fanin.processes.group import ALONE
from fanin.processes.launch import joined_processes, own_place
from fanin.runs.run_folder import RunFolder
from fanin.training.device import resolve_device
from fanin.training.followed_run import opened_by_first
from fanin.training.resume import resume_run

HANDED_OVER = "head and tail with an auxiliary objective"


class Routed:
    """torch.distributed for a transport whose device gloo does not know; the group of that device is ``gpus``."""

    gpus = object()

    def __getattr__(self, name):
        return getattr(distributed, name)

    def all_gather(self, found, own, group=None):
        self._carry(distributed.all_gather, group, found, [own])

    def all_to_all_single(self, found, own, found_sizes, own_sizes, group=None):
        def run(to, given):
            distributed.all_to_all_single(to[0], given, found_sizes, own_sizes)

        self._carry(run, group, [found], [own])

    def all_reduce(self, values, group=None):
        self._carry(lambda staged, _: distributed.all_reduce(staged[0]), group, [values], [values])

    def broadcast(self, values, source, group=None):
        assert group is None, "weights and messages go by the machines' memories"
        distributed.broadcast(values, source)

    def send(self, values, to, group=None):
        assert group is None
        distributed.send(values, to)

    def recv(self, values, sender, group=None):
        assert group is None
        distributed.recv(values, sender)

    def _carry(self, run, group, results, given):
        assert {tensor.device.type == "cpu" for tensor in [*results, *given]} == {group is None}
        staged = [tensor.cpu() for tensor in results]
        run(staged, given[0].cpu())
        for tensor, values in zip(results, staged, strict=True):
            tensor.copy_(values)


def crashed(name, data, folder, device, processes):
    """Train until something goes wrong in all processes, after the checkpoint of step 3."""
    try:
        train(name, data, folder, device, Display(crash_after=5), processes)
    except RuntimeError as error:
        if str(error) != "crash":
            raise


def gone_on_with(folder, device, processes):
    with opened_by_first(processes, lambda: RunFolder.open(folder / "run")) as run:
        return resume_run(run, Display(), cache=folder / "cache", device=device, processes=processes)


def main(device, data, folder, names, processes):
    def told(name, path, result, how):
        if processes.first:
            report(name, result, path / "run", how=how)

    for name in {*names, HANDED_OVER}:
        if processes.first:
            path = folder / name / "alone"
            told(name, path, train(name, data, path, CPU, Display()), "alone")
    processes.wait()
    for name in names:
        path = folder / name / "together"
        told(name, path, train(name, data, path, device, Display(), processes), "together")
    path = folder / "from several"
    crashed(HANDED_OVER, data, path, device, processes)
    if processes.first:
        told(HANDED_OVER, path, gone_on_with(path, CPU, ALONE), "from several")
    path = folder / "from one"
    if processes.first:
        crashed(HANDED_OVER, data, path, CPU, ALONE)
    processes.wait()
    told(HANDED_OVER, path, gone_on_with(path, device, processes), "from one")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "lazy":
        bring_up_lazy_device()
        transport_module.distributed, transport_module.join_gpus = Routed(), lambda _device, _patience: Routed.gpus
        there = torch.device("lazy", 0)
    else:
        there = resolve_device(sys.argv[1], own_place())
    with joined_processes() as joined:
        main(there, Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:], joined)
