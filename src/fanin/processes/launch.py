"""The processes that torchrun has started, found by what it leaves in the environment."""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta
from typing import TYPE_CHECKING

from fanin.errors import ConfigError
from fanin.processes.group import ALONE, Processes

if TYPE_CHECKING:
    from collections.abc import Iterator

# One process may wait long for another that reads data or writes a model. One that has died is noticed at once by its
# broken connection, and a machine that is gone by torchrun, which then ends all processes.
_PATIENCE = timedelta(days=7)
_NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextlib.contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the other processes that torchrun has started with this one; without any, nothing of it is loaded.

    Yields:
        All of them, connected; :data:`fanin.processes.group.ALONE` where there is but one.

    Raises:
        ConfigError: the environment is damaged, or the other processes cannot be reached.
    """
    found = {name: os.environ.get(name, "") for name in _NAMES}
    if not all(found.values()) or found["WORLD_SIZE"] == "1":
        yield ALONE
        return
    from torch import distributed

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
    try:
        yield Processes(rank, size, TorchTransport())
    finally:
        distributed.destroy_process_group()


def first_on_machine() -> bool:
    """Whether this process is the first of those on its machine, the one that fills the machine's cache."""
    return os.environ.get("LOCAL_RANK", "0") == "0"
