"""How forked processes of a run meet without a port, which could be somebody else's by the time they listen on it."""

import functools
import os

from torch import distributed


def meet_by(file, rank, size):
    """Have ``joined_processes`` join so many processes by a file that none of them has made yet."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "none"}
    join = functools.partial(distributed.init_process_group, init_method=f"file://{file}", rank=rank, world_size=size)
    distributed.init_process_group = join
