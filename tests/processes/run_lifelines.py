"""Processes that are joined by a lifeline, each of which does what a word says: ``run_lifelines.py "WORD ..." ...``.

For every argument the processes' exit codes and what they wrote, a line of JSON. "wait" is what waiting for a GPU looks
like from outside: nothing else is done, for ever. They are forked by a process of their own, which has no threads.
"""

import json
import os
import signal
import sys
import tempfile
import time
import traceback

import torch
from torch import distributed

from fanin.processes import lifeline
from fanin.processes.lifeline import Lifeline

lifeline._GRACE_SECONDS = 0.2


def work(what, ready):
    if what == "fail":
        lifeline._GRACE_SECONDS = 60  # it ends by itself, however late
    line = Lifeline("127.0.0.1")
    distributed.barrier()
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "fail":
        line.end(farewell=False)
        return 3
    if what == "wait":
        time.sleep(100)
    if what == "finish-later":
        os.read(ready, 1)  # after the end of those that are done
        time.sleep(3 * lifeline._GRACE_SECONDS)  # and of whatever they might have set off
    line.end(farewell=True)
    distributed.destroy_process_group()
    return 0


def become(rank, size, what, ready, store):
    """Do this and end, without what the parent cleans up: the others still need the folder."""
    code = 1
    try:
        torch.set_num_threads(1)
        # A file, as a port of its own could be somebody else's by then.
        distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
        code = work(what, ready)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def run(works):
    wait_for, tell = os.pipe()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
        children = []
        for rank, what in enumerate(works):
            pid = os.fork()
            if not pid:
                os.dup2(output.fileno(), 2)
                become(rank, len(works), what, wait_for, f"{folder}/store")
            children.append(pid)
        codes = {}
        for pid in [pid for pid, what in zip(children, works, strict=True) if what != "finish-later"]:
            codes[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(tell, b"." * len(works))
        for pid in children:
            if pid not in codes:
                codes[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        output.seek(0)
        print(json.dumps([[codes[pid] for pid in children], output.read().decode()]), flush=True)


if __name__ == "__main__":
    for words in sys.argv[1:]:
        run(words.split())
