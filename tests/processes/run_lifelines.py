"""Processes of a run, each of which does what a word says: ``run_lifelines.py "WORD ..." ...``.

For every argument the processes' exit codes and what they wrote, a line of JSON. "wait" is what waiting for a GPU looks
like from outside: nothing else is done, for ever. "finish" waits for all in an exchange, and is done. "stop" is stopped
for longer than the others would wait for a machine, and goes on. "cut-off" is what a machine looks like that has
vanished: nothing that is sent to it arrives, and nothing comes from it.

They are forked by a process of their own, which has no threads; those of all arguments run at the same time.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

from fanin.processes import connections, launch, lifeline
from fanin.processes.launch import joined_processes
from forked_processes import fork_one
from own_connections import make_deaf, own_connections

launch._PATIENCE = timedelta(seconds=60)
lifeline._GRACE_SECONDS = 0.2
connections._KEEP_ALIVE = {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 2}
LONGER_SECONDS = 4.5  # than until a machine counts as gone


class Failed(Exception):
    """What a process ends with that fails."""


def cut_off():
    """Let nothing arrive any more by any connection of this process, and have none of them ask for a sign of life."""
    for line in own_connections():
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
        make_deaf(line)


def work(what, processes, ready):
    processes.wait()
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "fail":
        raise Failed
    if what == "cut-off":
        cut_off()
    if what in {"wait", "cut-off"}:
        time.sleep(100)
    if what == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if what in {"finish", "stop"}:
        processes.wait()
    if what == "finish-later":
        processes.wait()
        os.read(ready, 1)  # after the end of those that are done
        time.sleep(3 * lifeline._GRACE_SECONDS)  # and of whatever they might have set off


def become(what, ready, output):
    """Do this as one of the processes, and write into this file; gives the exit code."""
    os.dup2(output, 2)
    if what == "fail":
        lifeline._GRACE_SECONDS = 60  # it ends by itself, however late
    try:
        with joined_processes() as processes:
            work(what, processes, ready)
    except Failed:
        return 3
    return 0


class Group:
    """Processes that do these things, in a folder of their own."""

    def __init__(self, works, folder):
        self._works, self._output = works, Path(folder, "output")
        wait_for, self._tell = os.pipe()
        self._codes, self._children = {}, []
        output = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for rank, what in enumerate(works):
            part = partial(become, what, wait_for, output)
            self._children.append(fork_one(part, f"{folder}/store", rank, len(works)))
        os.close(output)

    def those_that(self, *words):
        return [pid for pid, what in zip(self._children, self._works, strict=True) if what in words]

    def until_stopped(self):
        """The processes that have stopped."""
        stopped = self.those_that("stop")
        for pid in stopped:
            assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
        return stopped

    def end(self):
        """The processes' exit codes, in their order, and what they wrote."""
        cut_off, later = self.those_that("cut-off"), self.those_that("finish-later")
        for pid in self._children:
            if pid not in {*cut_off, *later}:
                self._wait(pid)
        os.write(self._tell, b"." * len(later))
        for pid in cut_off:
            os.kill(pid, signal.SIGKILL)
        for pid in [*later, *cut_off]:
            self._wait(pid)
        return [self._codes[pid] for pid in self._children], self._output.read_text()

    def _wait(self, pid):
        self._codes[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    with contextlib.ExitStack() as folders:
        groups = [Group(words.split(), folders.enter_context(tempfile.TemporaryDirectory())) for words in sys.argv[1:]]
        stopped = [pid for group in groups for pid in group.until_stopped()]
        time.sleep(LONGER_SECONDS)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        for group in groups:
            print(json.dumps(group.end()), flush=True)
