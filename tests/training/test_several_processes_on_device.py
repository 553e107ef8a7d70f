"""Several processes that compute on another device than the CPU give what one process on the CPU gives.

Without a GPU torch's lazy device plays one, and gloo plays NCCL (``train_together.py``).
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fanin.errors import BackendError, ConfigError
from fanin.processes.launch import OwnPlace, own_place
from fanin.training import resume
from fanin.training.device import resolve_device

SCRIPT = Path(__file__).with_name("train_together.py")
GPUS = torch.cuda.device_count()
FEW = ("the default, in bands and from tokens",)
ALL = (*FEW, "all in bfloat16, behind an intermediate layer", "growth by what batches were")


def on_gpus(count):
    there = pytest.mark.skipif(count > GPUS, reason=f"there are fewer than {count} GPUs")
    return pytest.param("cuda", count, ALL, marks=[pytest.mark.gpu, there])


LAUNCHED = [
    ("lazy", 2, FEW),
    pytest.param("lazy", 3, ALL, marks=pytest.mark.long),
    on_gpus(1),
    on_gpus(2),
]


@pytest.mark.parametrize(("device", "count", "names"), LAUNCHED)
def test_runs_are_those_of_one_process(device, count, names, planted, tmp_path):
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, f"--nproc-per-node={count}", SCRIPT, device, planted, tmp_path, *names],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    alone = {run["run"]: run for run in found if run["how"] == "alone"}
    others = [run for run in found if run["how"] != "alone"]
    assert [run["how"] for run in others] == ["together"] * len(names) + ["from several", "from one"]
    for own in others:
        assert own["device"] == ("cpu" if own["how"] == "from several" else device)
        twin = alone[own["run"]]
        assert own["rewired"] == twin["rewired"]
        tolerance = 1e-4 if device == "lazy" else 0.02  # a GPU's low formats are multiplied in bfloat16
        assert own["losses"] == pytest.approx(twin["losses"], rel=tolerance), own["run"]
        assert own["P@1"] == pytest.approx(twin["P@1"], abs=0.02 if device == "lazy" else 0.1), own["run"]


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def launched(monkeypatch):
    """The environment of one of several processes."""

    def launch(**more):
        for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"):
            monkeypatch.delenv(name, raising=False)
        common = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "there", "MASTER_PORT": "1"}
        for name, value in (common | more).items():
            monkeypatch.setenv(name, value)

    return launch


@pytest.mark.usefixtures("two_gpus")
def test_each_process_of_a_machine_has_its_own_gpu():
    assert [resolve_device("cuda", OwnPlace(number, 2)).index for number in (0, 1)] == [0, 1]
    assert resolve_device("cpu", OwnPlace(1, 2)) == torch.device("cpu")
    assert resolve_device("cuda:1", None) == torch.device("cuda", 1)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("number", [0, 2])
def test_more_processes_than_gpus_are_refused_by_all_of_them(number):
    with pytest.raises(
        BackendError, match=r"3 processes on this machine, and torch finds 2 GPUs; .* --nproc-per-node 2"
    ):
        resolve_device("cuda", OwnPlace(number, 3))


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("name", ["cuda:0", "cuda:1"])
def test_one_gpu_for_several_processes_is_refused(name):
    with pytest.raises(
        ConfigError, match=rf"device '{name}' is one GPU, and each of several processes needs .* use cuda"
    ):
        resolve_device(name, OwnPlace(0, 2))


def test_no_gpu_for_several_processes_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match="finds no such GPU; use cpu"):
        resolve_device("cuda", OwnPlace(1, 2))


def test_the_place_is_what_torchrun_says(launched):
    launched(LOCAL_RANK="1", LOCAL_WORLD_SIZE="2")
    assert own_place() == OwnPlace(1, 2)
    launched(LOCAL_RANK="1")
    assert own_place() == OwnPlace(1, 2)
    launched()
    assert own_place() == OwnPlace(0, 1)
    launched(LOCAL_RANK="one")
    with pytest.raises(ConfigError, match=r"'one'; start fanin by torchrun, which sets LOCAL_RANK"):
        own_place()
    launched(WORLD_SIZE="1", LOCAL_RANK="1", LOCAL_WORLD_SIZE="2")
    assert own_place() is None


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("started_on", ["cuda", "cuda:1"])
def test_a_run_goes_on_where_it_was_started_with_a_gpu_for_each(started_on, launched):
    launched(LOCAL_RANK="1", LOCAL_WORLD_SIZE="2")
    run = SimpleNamespace(path=Path("run"), origin=SimpleNamespace(device=started_on))
    assert resume._former_device(run) == torch.device("cuda", 1)
    launched(WORLD_SIZE="1")
    assert resume._former_device(run) == resolve_device(started_on)


def test_the_command_line_refuses_before_anything_is_written(planted, processes, tmp_path):
    for device, told in (("cuda:1", "is one GPU, and each of"), ("cuda", "finds no such GPU")):
        if device == "cuda" and GPUS:
            continue
        started = processes.start_together(2, "train", planted, "--out", tmp_path / "run", "--device", device)
        assert [one.wait() for one in started] == [2, 2]
        assert all(told in one.output for one in started)
    assert not (tmp_path / "run").exists()
