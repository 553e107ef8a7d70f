"""Training on another device than the CPU gives what the CPU gives; a device that is not there is refused."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fanin.errors import BackendError, ConfigError
from fanin.processes.group import ALONE
from fanin.training import run_state
from fanin.training.device import named_device, require_one_kind, resolve_device
from process_threads import run_together

SCRIPT = Path(__file__).with_name("train_on_device.py")
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
DEVICES = ["lazy", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


@cache
def _runs(device, data):
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", SCRIPT, device, data],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("device", DEVICES)
def test_runs_are_those_of_the_cpu(planted, device):
    own, expected = _runs(device, planted), _runs("cpu", planted)
    assert [run["device"] for run in own].count(device) == 7
    for run, twin in zip(own, expected, strict=True):
        assert run["metrics"].partition(":")[0] == run["device"]
        assert run["rewired"] == twin["rewired"]
        tolerance = 1e-4 if device == "lazy" else 0.02  # a GPU's low formats are multiplied in bfloat16
        assert run["losses"] == pytest.approx(twin["losses"], rel=tolerance), run["run"]
        assert run["P@1"] == pytest.approx(twin["P@1"], abs=0.02 if device == "lazy" else 0.1), run["run"]


def test_devices_by_name():
    assert resolve_device("cpu") == torch.device("cpu")
    assert named_device("cuda:127") == torch.device("cuda", 127)


NO_NUMBERS = ["cuda:", "cuda:x", "cuda:-1", "cuda:128", "cuda:256", "cuda:\u0663", f"cuda:{'9' * 5000}"]


@pytest.mark.parametrize("name", ["gpu", "cpu:1", "", "mps", *NO_NUMBERS])
def test_unknown_names_are_refused(name):
    """Numbers too that torch would wrap round: its 256 is GPU 0."""
    with pytest.raises(ConfigError, match="use cpu, cuda or cuda:N"):
        resolve_device(name)


def test_a_gpu_that_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda") == torch.device("cuda", 0)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(BackendError, match=r"device 'cuda:2': torch .* finds 2 such GPU"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_gpu_that_is_not_there_is_refused(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match=rf"device '{name}': torch .* finds no such GPU; use cpu, or"):
        resolve_device(name)


@pytest.mark.parametrize("known", [True, False])
def test_random_numbers_of_a_gpu_go_on(known, monkeypatch):
    """From the checkpoint where it was written on a GPU, else from a seed of its own."""
    gpu, told = torch.device("cuda", 0), []
    state = torch.arange(16, dtype=torch.uint8)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda _device: state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda found, _device: told.append(found))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", told.append)
    found = run_state._random_state(gpu if known else torch.device("cpu"))
    position = SimpleNamespace(step=7)
    checkpoint = SimpleNamespace(tensors=lambda _part: found, facts=SimpleNamespace(position=position))
    for device in (torch.device("cpu"), gpu):
        run_state._restore_random_state(checkpoint, device, seed=5, processes=ALONE)
    [only] = told
    assert torch.equal(only, state) if known else isinstance(only, int)


def test_processes_on_different_kinds_of_devices_are_refused():
    def work(processes):
        device = torch.device("cuda", 0) if processes.rank == 1 else torch.device("cpu")
        with pytest.raises(
            ConfigError, match="process 0 on cpu, process 1 on cuda, process 2 on cpu; give all of them"
        ):
            require_one_kind(device, processes)

    run_together(3, work)
    run_together(2, lambda processes: require_one_kind(torch.device("cuda", processes.rank), processes))
