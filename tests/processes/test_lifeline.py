"""Processes end when another one is gone, whatever they wait for, and none ends because one is done or stopped."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fanin.errors import ConfigError
from fanin.processes import lifeline
from fanin.processes.group import Processes
from fanin.processes.lifeline import Lifeline
from fanin.processes.lost import LostProcessError
from own_connections import can_be_deaf
from process_threads import run_together

SCRIPT = Path(__file__).with_name("run_lifelines.py")
ENDS = {
    "wait die wait": [2, -signal.SIGKILL, 2],
    "die wait wait": [-signal.SIGKILL, 2, 2],
    "wait wait fail": [2, 2, 3],
    "finish finish-later finish": [0, 0, 0],
    "finish-later finish finish": [0, 0, 0],
    "fail fail": [3, 3],
    "finish stop finish": [0, 0, 0],
    "stop finish finish": [0, 0, 0],
}
# Nothing that is sent to a process that is cut off arrives; the others wait for it in an exchange between CPUs.
CUT_OFF = {
    "finish cut-off finish": [2, -signal.SIGKILL, 2],
    "cut-off finish finish": [-signal.SIGKILL, 2, 2],
}
if can_be_deaf():
    ENDS |= CUT_OFF


@pytest.fixture(scope="module")
def ends():
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, SCRIPT, *ENDS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(ENDS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("works", ENDS | CUT_OFF)
def test_processes_end_together(works, ends):
    if works not in ends:
        pytest.skip("this system cannot make a connection deaf")
    codes, output = ends[works]
    assert codes == ENDS[works], output
    assert output.count("error: another process of this run has ended") == codes.count(2)
    assert "Traceback" not in output


def _lifelines():
    return [thread for thread in threading.enumerate() if thread.name == "fanin-lifeline"]


def test_nothing_is_left_of_it():
    """No thread and no connection, whether or not the work is done."""

    def work(processes: Processes):
        with Lifeline(processes, "127.0.0.1") as done:
            processes.wait()
            assert len(_lifelines()) == 2
            processes.wait()
        with contextlib.suppress(KeyError), Lifeline(processes, "127.0.0.1") as failed:
            processes.wait()
            raise KeyError
        return [line.fileno() for line in [*done._lines, *failed._lines]]

    assert run_together(2, work) == [[-1, -1], [-1, -1]]
    assert _lifelines() == []


class _Alone:
    """The transport of a process whose only partner has died."""

    def gather(self, _own):
        raise LostProcessError(ConnectionError("Connection closed by peer"))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_lost_before_all_are_connected_is_told(rank):
    with (
        pytest.raises(LostProcessError, match=r"another process of this run .* \(Connection closed by peer\)"),
        Lifeline(Processes(rank, 2, _Alone()), "127.0.0.1"),
    ):
        pass


def test_a_first_process_that_cannot_be_reached_is_told(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    processes = Processes(1, 2, _Alone())
    monkeypatch.setattr(processes, "told_by_all", lambda own: [own, own])
    monkeypatch.setattr(processes, "told_by_first", lambda _make: [None, port, "00"])
    with (
        pytest.raises(ConfigError, match=r"cannot connect to the first one, at 127.0.0.1 \("),
        Lifeline(processes, "127.0.0.1"),
    ):
        pass


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal that can be played")
def test_a_terminal_is_left_as_it_was():
    """Its line of progress is gone, its cursor is back, and the message has a line of its own."""
    code = (
        "from fanin.processes import lifeline, lost; from fanin.training.progress import Bar\n"
        "bar = Bar(); bar.start('epoch 1', 10); bar.advance(3); bar._progress.refresh()\n"
        "lifeline._end_process(lost.LostProcessError(ConnectionError('gone')))"
    )
    ours, theirs = os.openpty()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", code], stderr=theirs, stdout=theirs, env=environment) as process:
        os.close(theirs)
        output = b""
        try:
            while more := os.read(ours, 1 << 16):
                output += more
        except OSError:  # what Linux says at the end of a terminal
            pass
        finally:
            os.close(ours)
    assert process.returncode == 2, output
    shown, _, last = output.rpartition(b"\r\x1b[2K\x1b[?25h")
    assert b"epoch 1" in shown
    assert b"\x1b[?25l" in shown  # the cursor was hidden
    assert last.startswith(b"error: another process of this run has ended")
    assert b"\x1b" not in last


def test_what_is_no_terminal_gets_the_message_alone(monkeypatch, capfd):
    ends = []
    monkeypatch.setattr(os, "_exit", ends.append)
    lifeline._end_process(LostProcessError(ConnectionError("gone")))
    assert ends == [2]
    assert capfd.readouterr().err.startswith("error: another process of this run")
