"""Whatever the tensors of a checkpoint hold, a run goes on from them, or they are refused with one of our errors."""

import contextlib

import torch

from fanin.data.formats import open_dataset
from fanin.errors import FaninError
from fanin.runs.checkpoint import Checkpoint, read_checkpoint
from fanin.runs.checkpoint_series import CheckpointSeries
from fanin.runs.run_folder import RunFolder
from fanin.training.preparation import prepare
from fanin.training.progress import Silent
from fanin.training.run_state import parts_of
from fanin.training.step import rewire_after, train_on
from fanin.training.trainer import Trainer
from fuzzing import inputs, try_inputs

STEPS, TOTAL = 10, 40  # the eleventh is rewired
SETTINGS = (
    "auxiliary={clusters: 8, cutoff_share: 0.9, schedule: {learning_rate: 0.05}}",
    "classifier.cluster_size=4",
    "classifier.rewiring.interval=11",
    "classifier.rewiring.stop_share=1",
    "classifier.rewiring.grow=gradient",
    f"training.steps={TOTAL}",
    f"training.checkpoint={{steps: {STEPS}, kept: 9}}",
)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool)


class Changed(Checkpoint):
    """A checkpoint of other tensors, as one whose digests somebody has made to fit."""

    def tensors(self, part):
        return self.versions.get(part, {})


def changed(rng, tensors):
    """Tensors by name with one that is changed in values, dtype, shape or name."""
    name = rng.choice(sorted(tensors))
    tensor, how = tensors[name].clone(), rng.randrange(6)
    rest = {other: value.clone() for other, value in tensors.items() if other != name}
    if how <= 2 and tensor.numel():
        data = tensor.reshape(-1).view(torch.uint8)
        for _ in range(rng.choice((1, 3, 50))):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 127, 128, 255))
        tensor = data.view(tensor.dtype).view(tensor.shape)
    elif how == 3:
        tensor = tensor.to(rng.choice(DTYPES))
    elif how == 4:
        tensor = rng.choice((tensor[:-1] if tensor.dim() else tensor[None], tensor[None], tensor.reshape(-1)))
    else:
        name = rng.choice(("", "other", *tensors))
    return rest | {name: tensor}


@inputs(50, 10_000)
def test_states(count, planted, tiny_recipe, tmp_path, monkeypatch):
    """Few, since a run is built for each; what growth keeps of batches is left out: it is looked at when it is used."""
    recipe = tiny_recipe("plain", *SETTINGS)
    data = prepare(open_dataset(planted), recipe, tmp_path / "cache")
    monkeypatch.setattr(CheckpointSeries, "remove", lambda _self: None)
    with RunFolder.create(tmp_path / "run", recipe, planted) as run:
        Trainer(recipe, data, run, Silent()).train()
    whole = read_checkpoint(tmp_path / "run" / "checkpoints" / f"step-{STEPS:08d}")
    found = {
        name.removesuffix(".safetensors"): whole.tensors(name.removesuffix(".safetensors")) for name in whole.files
    }
    assert {"auxiliary", "classifier", "encoder_update", "labels", "random", "rewiring"} <= found.keys()
    batch = next(iter(data.train_batches(32, 0).epoch(1, 0)))

    def go_on(tensors):
        checkpoint = Changed(whole.folder, whole.facts, whole.files, tensors)
        parts = parts_of(checkpoint, recipe, data, TOTAL, Silent(), torch.device("cpu"))
        train_on(parts, STEPS + 1, batch)
        assert rewire_after(parts, STEPS + 1) is not None

    def check(rng):
        part = rng.choice(sorted(found.keys() - {"rewiring"}))
        with contextlib.suppress(FaninError):
            go_on(found | {part: changed(rng, found[part])})

    go_on(found)
    try_inputs(count, check)
