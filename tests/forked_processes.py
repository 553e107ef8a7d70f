"""Processes of a run that are forked from one without threads.

They meet without a port, which could be somebody else's by the time they listen on it.
"""

import functools
import os
import sys
import traceback

import torch
from torch import distributed


def fork_one(work, file, rank, size):
    """Fork one of so many processes, which ``joined_processes`` joins by a file that none of them has made yet.

    It does its work and ends with the exit code that this gives, or with 1 and a traceback; it cleans up nothing that
    the others still need, and nothing of its parent's.

    Returns:
        Its process id.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        torch.set_num_threads(1)
        _meet_by(file, rank, size)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _meet_by(file, rank, size):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "none"}
    join = functools.partial(distributed.init_process_group, init_method=f"file://{file}", rank=rank, world_size=size)
    distributed.init_process_group = join
