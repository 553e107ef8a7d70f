"""A training in a process of its own: its exit code, and Ctrl-C."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fanin.compare import training_process
from fanin.compare.training_process import run_fanin


@pytest.fixture
def ctrl_c():
    """Ctrl-C as in a terminal: shells start what runs in the background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def descriptor():
    read, write = os.pipe()
    yield read
    os.close(read)
    os.close(write)


def test_the_exit_code_is_given(descriptor):
    assert run_fanin(["--version"], descriptor) == 0
    assert run_fanin(["no-such-command"], descriptor) == 2


def test_ctrl_c_waits_for_the_process_to_save(ctrl_c, descriptor, monkeypatch, tmp_path):
    saving = f"""
import signal, sys, time
def save(*_):
    time.sleep(0.5)
    open({str(tmp_path / "saved")!r}, "w").close()
    sys.exit(130)
signal.signal(signal.SIGINT, save)
open({str(tmp_path / "ready")!r}, "w").close()
time.sleep(60)
"""
    start = subprocess.Popen
    monkeypatch.setattr(
        training_process.subprocess, "Popen", lambda _, **options: start([sys.executable, "-c", saving], **options)
    )

    def interrupt():
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_fanin(["train"], descriptor)
    assert (tmp_path / "saved").exists()
