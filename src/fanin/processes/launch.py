"""The processes that torchrun has started, found by what it leaves in the environment."""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from fanin.errors import ConfigError
from fanin.processes.group import ALONE, Processes

if TYPE_CHECKING:
    from collections.abc import Iterator

# One process may wait long for another that reads data or writes a model. One that has died is noticed at once by its
# broken connection, and a machine that is gone by the lifeline.
_PATIENCE = timedelta(days=7)
_NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class OwnPlace(NamedTuple):
    """One of several processes among those on its machine.

    Attributes:
        number: from 0.
        of: how many of them run there.
    """

    number: int
    of: int


@contextlib.contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the other processes that torchrun has started with this one; without any, nothing of it is loaded.

    Yields:
        All of them, connected; :data:`fanin.processes.group.ALONE` where there is but one.

    Raises:
        ConfigError: the environment is damaged, or the other processes cannot be reached.
    """
    found = _told()
    if found is None:
        yield ALONE
        return
    from torch import distributed

    from fanin.processes.lifeline import Lifeline
    from fanin.processes.torch_transport import TorchTransport

    try:
        rank, size = int(found["RANK"]), int(found["WORLD_SIZE"])
        distributed.init_process_group("gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        told = ", ".join(f"{name}={value}" for name, value in found.items())
        raise ConfigError(
            f"cannot join the other processes of this run ({error}); the environment says {told}: start fanin by "
            "torchrun, or without these variables to train in one process"
        ) from error
    with TorchTransport(_PATIENCE) as transport:
        processes = Processes(rank, size, transport)
        with Lifeline(processes, _address_of_first(found)):
            yield processes


def own_place() -> OwnPlace | None:
    """The place of this process among those on its machine; None where there is but one process in all.

    Raises:
        ConfigError: the environment is damaged.
    """
    if _told() is None:
        return None
    try:
        number = int(os.environ.get("LOCAL_RANK") or 0)
        return OwnPlace(number, int(os.environ.get("LOCAL_WORLD_SIZE") or number + 1))
    except ValueError as error:
        raise ConfigError(
            f"the environment should number this process among those of its machine, and {error}; start fanin by "
            "torchrun, which sets LOCAL_RANK and LOCAL_WORLD_SIZE"
        ) from error


def machine_name() -> str:
    """What the processes on one machine have in common: torchrun's number of it, without that its name."""
    return os.environ.get("GROUP_RANK") or os.uname().nodename


def first_on_machine() -> bool:
    """Whether this process is the first of those on its machine, the one that fills the machine's cache."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _address_of_first(told: dict[str, str]) -> str:
    """How the first process is reached: inside the machine where all processes are on it."""
    return "127.0.0.1" if os.environ.get("LOCAL_WORLD_SIZE") == told["WORLD_SIZE"] else told["MASTER_ADDR"]


def _told() -> dict[str, str] | None:
    """What torchrun says of all processes; None where there is but one."""
    found = {name: os.environ.get(name, "") for name in _NAMES}
    return found if all(found.values()) and found["WORLD_SIZE"] != "1" else None
