"""A process that waits for its GPU ends when another one is gone, and no process ends because one is done."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from fanin.errors import ConfigError
from fanin.processes import lifeline
from fanin.processes.lost import LostProcessError

SCRIPT = Path(__file__).with_name("run_lifelines.py")


ENDS = {
    "wait die wait": [2, -signal.SIGKILL, 2],
    "die wait wait": [-signal.SIGKILL, 2, 2],
    "wait wait fail": [2, 2, 3],
    "finish finish-later finish": [0, 0, 0],
    "finish-later finish finish": [0, 0, 0],
    "fail fail": [3, 3],
}


@pytest.fixture(scope="module")
def ends():
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, SCRIPT, *ENDS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(ENDS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("works", ENDS)
def test_processes_end_together(works, ends):
    codes, output = ends[works]
    assert codes == ENDS[works], output
    assert output.count("error: another process of this run has ended") == codes.count(2)
    assert "Traceback" not in output


class _Broadcast:
    """torch.distributed for two lifelines in threads of one process: the first one's word is kept for the other."""

    def __init__(self, rank, said):
        self.get_rank, self.get_world_size, self._said = lambda: rank, lambda: 2, said

    def broadcast(self, values, _source):
        if self.get_rank() == 0:
            self._said.set_result(values.clone())
        else:
            values.copy_(self._said.result(timeout=20))


def test_a_stranger_is_turned_away(monkeypatch):
    said = Future()
    monkeypatch.setattr(lifeline, "distributed", _Broadcast(0, said))
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(lambda: list(lifeline._accepted()))
        told = bytes(said.result(timeout=20).tolist())
        port = int.from_bytes(told[:2], "big")
        for word in (b"x" * 32, b""):
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(word)
                stranger.shutdown(socket.SHUT_WR)
                assert stranger.recv(1) == b""
        monkeypatch.setattr(lifeline, "distributed", _Broadcast(1, said))
        [ours] = lifeline._connected("127.0.0.1")
        [theirs] = accepted.result(timeout=20)
        with ours, theirs:
            ours.sendall(b"!")
            assert theirs.recv(1) == b"!"


def test_a_process_of_the_run_is_known_though_its_word_comes_in_pieces():
    token = bytes(range(32))
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as pool:
        ours.sendall(token[:5])
        known = pool.submit(lifeline._knows, theirs, token)
        while select.select([theirs], [], [], 0)[0]:  # until the first piece has been read
            pass
        ours.sendall(token[5:])
        assert known.result(timeout=20)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_lost_before_all_are_connected_is_told(rank, monkeypatch):
    def broadcast(_values, _source):
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(lifeline, "distributed", SimpleNamespace(get_rank=lambda: rank, broadcast=broadcast))
    with pytest.raises(LostProcessError, match=r"another process of this run .* \(Connection closed by peer\)"):
        lifeline.Lifeline("127.0.0.1")


def test_a_first_process_that_cannot_be_reached_is_told(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    def broadcast(values, _source):
        values[:2] = values.new_tensor(list(port.to_bytes(2, "big")))

    monkeypatch.setattr(lifeline, "distributed", SimpleNamespace(get_rank=lambda: 1, broadcast=broadcast))
    with pytest.raises(ConfigError, match=r"cannot connect to the first one, at 127.0.0.1 \("):
        lifeline.Lifeline("127.0.0.1")


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
