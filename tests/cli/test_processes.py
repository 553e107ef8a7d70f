"""What only a process of its own can show: start, pipes, signals, a full disk."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(*arguments, **options):
    command = [sys.executable, "-m", "fanin", *map(str, arguments)]
    environment = ENVIRONMENT | {"FANIN_CACHE": os.environ["FANIN_CACHE"]}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **options)


def test_the_help_loads_no_large_library():
    code = (
        "import sys; from fanin.cli.main import run; run(['--help'])\n"
        "assert not {'torch', 'numpy', 'rich', 'pydantic', 'tokenizers', 'yaml'} & set(sys.modules), sys.modules.keys()"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, env=ENVIRONMENT, check=False)
    assert found.returncode == 0, found.stderr
    assert b"train" in found.stdout


def test_a_reader_that_leaves_early_ends_it_quietly(trained, tmp_path):
    (tmp_path / "texts").write_text("green leaves\n" * 20_000, encoding="utf-8")
    with start("predict", trained, "--file", tmp_path / "texts") as process:
        assert process.stdout.readline() == b"green leaves\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_texts_are_answered_as_they_come(trained):
    process = start("predict", trained, "-", "--json", "-k", "1", stdin=subprocess.PIPE)
    for text in ("milk chocolate", "green leaves"):
        process.stdin.write(f"{text}\n".encode())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["text"] == text
    out, err = process.communicate()
    assert (process.returncode, out, err) == (0, b"", b"")


def test_ctrl_c_keeps_the_best_model(drinks, tiny, tmp_path):
    run = tmp_path / "run"
    process = start("train", drinks, "--out", run, *tiny, "--set", "training.epochs=1000000")
    deadline = time.monotonic() + 120
    while not (run / "model" / "model.json").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert f"kept in {run / 'model'}" in err.decode()
    assert b"Traceback" not in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said():
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "fanin", "--help"]
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False)
    assert found.returncode == 2
    assert found.stderr.startswith(b"error: the output: No space left on device")
