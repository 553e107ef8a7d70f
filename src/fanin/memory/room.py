"""What memory there is for a process and for those that train together with it on its machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fanin.memory.available import allowed_bytes, free_bytes, gpu_available_bytes
from fanin.processes.launch import machine_name
from fanin.training.process_memory import resident_bytes

if TYPE_CHECKING:
    import torch

    from fanin.processes.group import Processes


class Room(NamedTuple):
    """What there is, as one process finds it.

    Attributes:
        machine: bytes that all processes of the run on its machine can hold together, what they hold already included;
            None where the system does not tell.
        gpu: bytes that it can hold on its GPU; None where it computes on the CPU.
        on_machine: how many processes of the run are on its machine.
        own: bytes that it may hold by limits set for it alone, what it holds already included; None without any.
    """

    machine: int | None
    gpu: int | None
    on_machine: int
    own: int | None = None


def find_room(device: torch.device | None, processes: Processes) -> Room:
    """Ask the system what there is; all processes do so at the same time, when they have loaded their libraries.

    Args:
        device: where this one computes, by default on the CPU.
        processes: all of them.
    """
    gpu = gpu_available_bytes(device)
    processes.wait()  # or one would find free what another is about to take
    held, allowed = resident_bytes(), allowed_bytes()
    told = processes.told_by_all([machine_name(), free_bytes(), held])
    here = [(free, held) for name, free, held in told if name == told[processes.rank][0]]
    known = [free for free, _ in here if free is not None]
    machine = min(known) + sum(held for _, held in here) if known else None
    return Room(machine, gpu, len(here), None if allowed is None else allowed + held)
