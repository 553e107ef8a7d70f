"""Commands of fanin in processes of their own, which can be stopped and killed, and start within milliseconds."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

# A process that has loaded everything, and forks itself for every command.
SERVER = """
import json, os, resource, sys
import torch
torch.set_num_threads(1)
import fanin.processes.torch_transport
import fanin.training.resume, fanin.cli.score_tables, fanin.report.finished_runs
from fanin.cli.main import run
torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # loads more of torch

for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        print(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]), flush=True)
        continue
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    out = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.update(request["environment"])
    if request["file_limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_limit"],) * 2)
    exec(request["first"])
    code = run(request["arguments"])
    sys.stderr.flush()
    os._exit(code)
"""


class Running:
    """A command at work."""

    def __init__(self, server, pid, output):
        self._server, self.pid, self._output = server, pid, output
        self._code = None

    def send(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.send(signal.SIGKILL)
        assert self.wait() in (-signal.SIGKILL, 0)  # it may just have ended

    def wait(self):
        """Its exit code, negative after a signal that ended it."""
        if self._code is None:
            self._code = int(self._server.ask(wait=self.pid))
        return self._code

    @property
    def ended(self):
        return self._code is not None or _state(self.pid) == "Z"

    @property
    def output(self):
        return self._output.read_text(encoding="utf-8")


def _state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class Server:
    def __init__(self, folder, cache):
        self._folder, self._count = folder, 0
        environment = os.environ | {"OMP_NUM_THREADS": "1", "FANIN_CACHE": str(cache)}
        command = [sys.executable, "-c", SERVER]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, start_new_session=True
        )

    def ask(self, **request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def start(self, *arguments, file_limit=None, environment=None, first=""):
        """Start a command.

        Args:
            arguments: of ``fanin``.
            file_limit: bytes beyond which no file can grow.
            environment: what is set besides.
            first: Python that its process runs before.
        """
        self._count += 1
        output = self._folder / f"output-{self._count}"
        request = {"arguments": [str(argument) for argument in arguments], "output": str(output)}
        request |= {"environment": environment or {}, "first": first}
        return Running(self, int(self.ask(**request, file_limit=file_limit)), output)

    def start_together(self, count, *arguments, first=""):
        """The same command in so many processes, as torchrun starts them; ``first`` as in :meth:`start`."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
        ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
        return [self.start(*arguments, environment=common | rank, first=first) for rank in ranks]

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@pytest.fixture(scope="session")
def processes(tmp_path_factory):
    """``processes.start("train", data, ...)`` runs a command of fanin in a process of its own."""
    server = Server(tmp_path_factory.mktemp("processes"), tmp_path_factory.mktemp("cache"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def undisturbed(planted, options, processes, tmp_path_factory):
    """The folder of a run with the options of the module (its fixture ``options``) that nothing happens to."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    training = processes.start("train", planted, "--out", run, *options)
    assert training.wait() == 0, training.output
    return run
