"""Trains small runs on a device and prints what came out, a line of JSON a run: ``train_on_device.py DEVICE DATA``.

The device "lazy" is a part of torch that plays a device of its own on the CPU: like a GPU it refuses to compute with
tensors that lie elsewhere. It runs in a process of its own, since torch cannot be told to forget it.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
import torch._lazy

from fanin.data.formats import open_dataset
from fanin.processes.group import ALONE
from fanin.recipes.recipe_files import load_recipe
from fanin.runs.run_folder import RunFolder
from fanin.training.followed_run import opened_by_first
from fanin.training.preparation import prepare
from fanin.training.progress import Silent
from fanin.training.resume import resume_run
from fanin.training.together import prepare_together
from fanin.training.trainer import Trainer
from planted import TINY

CPU = torch.device("cpu")
SHORT = [*TINY, "training.steps=6", "training.log_every=1", "classifier.rewiring.interval=2"]
RUNS = {
    "all in bfloat16, behind an intermediate layer": (
        "plain",
        [
            *SHORT,
            "classifier.fan_in=16",
            "classifier.weights=bf16",
            "encoder.weights=bf16-kahan",
            "intermediate.width=48",
        ],
    ),
    "the default, in bands and from tokens": (
        "default",
        [
            *SHORT,
            "classifier.fan_in=16",
            "classifier.fan_in_by_frequency=[{share: 0.2, fan_in: 24}]",
            "classifier.cluster_size=2",
        ],
    ),
    "head and tail with an auxiliary objective": (
        "head-tail",
        [
            *SHORT,
            "classifier.fan_in=16",
            "classifier.head_share=0.1",
            "auxiliary.clusters=5",
            "auxiliary.cutoff_share=0.5",
        ],
    ),
    "a mask": ("masked", [*SHORT, "classifier.fan_in=16"]),
    "growth by what batches were": (
        "plain",
        [*SHORT, "classifier.fan_in=16", "classifier.rewiring.grow={gradient: 0.5, separating: 0.5}"],
    ),
}
INTERRUPTED = ("head and tail with an auxiliary objective", "growth by what batches were")


class Display(Silent):
    """Lets the lazy device compute after every batch: it keeps all that leads to a value. May crash a run."""

    def __init__(self, crash_after=0):
        self._left = crash_after

    def advance(self, texts, note=""):
        if "torch._lazy.ts_backend" in sys.modules:
            torch._lazy.mark_step()
        self._left -= 1
        if not self._left:
            raise RuntimeError("crash")


def train(name, data, folder, device, display, processes=ALONE):
    recipe_name, settings = RUNS[name]
    recipe = load_recipe(recipe_name, [*settings, "training.checkpoint.steps=3"])
    with opened_by_first(processes, lambda: RunFolder.create(folder / "run", recipe, data)) as run:
        dataset = open_dataset(data)
        prepared = prepare_together(processes, lambda: prepare(dataset, recipe, folder / "cache", Silent()))
        return Trainer(recipe, prepared, run, display, device=device, processes=processes).train()


def train_across(name, data, folder, first, second):
    """Begin on one device, crash, and go on with the checkpoint on another one."""
    try:
        train(name, data, folder, first, Display(crash_after=5))
    except RuntimeError as error:
        if str(error) != "crash":
            raise
    with RunFolder.open(folder / "run") as run:
        return resume_run(run, Display(), cache=folder / "cache", device=second)


def report(name, result, path, **more):
    entries = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in entries if entry.get("event") == "step"]
    rewired = [entry["replaced"] for entry in entries if entry.get("event") == "rewire"]
    found = {"run": name, "device": result.model.device.type, "P@1": result.metrics["test"]["P@1"]}
    print(
        json.dumps({**more, **found, "metrics": result.metrics["device"], "losses": losses, "rewired": rewired}),
        flush=True,
    )


def main(device: torch.device, data: Path) -> None:
    torch.set_num_threads(1)
    for name in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            report(name, train(name, data, Path(folder), device, Display()), Path(folder) / "run")
    for name in INTERRUPTED:
        for first, second in ((CPU, device), (device, CPU)):
            with tempfile.TemporaryDirectory() as folder:
                report(name, train_across(name, data, Path(folder), first, second), Path(folder) / "run")


def bring_up_lazy_device():
    import torch._lazy.ts_backend

    torch._lazy.ts_backend.init()
    # As from the CPU to a GPU, a parameter that moves stays the object that the optimizer knows.
    torch.__future__.set_swap_module_params_on_conversion(True)


if __name__ == "__main__":
    if sys.argv[1] == "lazy":
        bring_up_lazy_device()
    main(torch.device(sys.argv[1]), Path(sys.argv[2]))
