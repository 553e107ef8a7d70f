"""What one of several processes sends in a step and holds, as planned and as counted."""

import pytest

from fanin.data.formats import open_dataset
from fanin.memory.data_sizes import assumed_sizes
from fanin.memory.encoder_parts import lay_out_encoder
from fanin.memory.parts import Part, Stage
from fanin.memory.plan import TO_A_FILE, TO_THE_GPU, MemoryPlan, plan_memory
from fanin.memory.shares import plan_of_a_process, sent_in_a_step
from fanin.processes.group import Processes
from fanin.processes.spread import CHUNK_BYTES
from fanin.recipes.recipe_files import load_recipe
from fanin.runs.run_folder import RunFolder
from fanin.training import trainer
from fanin.training.preparation import prepare
from fanin.training.progress import Silent
from fanin.training.step import train_on
from fanin.training.trainer import Trainer
from process_threads import run_together

SETTINGS = (
    "training.steps=4",
    "training.batch_size=36",
    "training.checkpoint.minutes=null",
    "classifier.rewiring=null",
    "tokenizer.frequent_pairs=0",  # a token is a word
)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("plain", ()),
        ("plain", ("encoder.lexical_features=60", "classifier.cluster_size=3")),
        ("plain", ("intermediate={width: 48, dropout: 0, schedule: {learning_rate: 0.005}}",)),
    ],
)
def test_what_is_sent_is_what_was_planned(size, name, settings, planted, tiny_recipe, tmp_path, monkeypatch):
    recipe, sent = tiny_recipe(name, *SETTINGS, *settings), [[] for _ in range(size)]
    prepared = prepare(open_dataset(planted), recipe, tmp_path / "cache")

    def counted(parts, step, batch):
        sent[parts.processes.rank].append(parts.processes.sent)
        return train_on(parts, step, batch)

    monkeypatch.setattr(trainer, "train_on", counted)

    def work(processes: Processes):
        with RunFolder.create(tmp_path / str(processes.rank), recipe, planted) as run:
            training = Trainer(recipe, prepared, run, Silent(), processes=processes)
            encoder = training._parts.encoder
            training.train()
            return encoder

    encoder = run_together(size, work)[0]
    # Every text has four words; lexical features are some of them, which the plan counts as all.
    parts = {
        p.name: p.bytes
        for p in sent_in_a_step(encoder, 36, size, tokens=4, lexical=4 if "lexical" in str(settings) else 0)
    }
    for rank in range(size):
        for before, after in zip(sent[rank], sent[rank][1:], strict=False):
            counted_bytes, planned = after - before, sum(parts.values())
            if "lexical features" in parts:
                assert planned - parts["lexical features"] < counted_bytes <= planned
            else:
                assert counted_bytes == planned


def test_what_belongs_to_labels_is_shared_and_nothing_else():
    parts = (Part("classifier weights", 1000), Part("embedding table", 70), Part("rows", 30, mapped=True))
    plan = MemoryPlan((Stage("training", parts), Stage("validation", parts[:1])), Stage("prediction", parts))
    found = plan_of_a_process(plan, 3)
    assert found.training[0].parts == (Part("classifier weights", 334), *parts[1:])
    assert found.training[1].bytes == 334
    assert found.prediction == plan.prediction


def test_what_is_sent_does_not_depend_on_labels_and_hardly_on_processes(planted, tiny_recipe, tmp_path):
    recipe = tiny_recipe("plain")
    encoder = lay_out_encoder(recipe, assumed_sizes(1000, 1000, recipe))
    few, many = (sum(p.bytes for p in sent_in_a_step(encoder, 4096, size, tokens=20)) for size in (8, 64))
    assert few < many < 1.2 * few


def test_on_gpus_labels_are_shared_there_and_little_passes_through_the_machine():
    """Between a GPU and a file shared tensors go a chunk at a time, and on the way to the GPU each its own rows."""
    recipe = load_recipe("plain", [])
    alone = plan_memory(recipe, assumed_sizes(3_000_000, 50_000, recipe), 300 << 20, gpu=True)
    found = plan_of_a_process(alone, 4)
    assert found.gpu

    def parts_of(plan, stage):
        return {part.name: part for part in next(one for one in plan.training if one.name == stage).parts}

    before, after = parts_of(alone, "training"), parts_of(found, "training")
    for name in ("classifier weights", "classifier index sets", "classifier's update state"):
        assert after[name].gpu
        assert after[name].bytes == -(-before[name].bytes // 4)
    assert after["CUDA and its libraries"] == before["CUDA and its libraries"]
    assert after["embedding table"] == before["embedding table"]
    shared = sum(part.bytes - after[name].bytes for name, part in before.items())
    assert found.limited == found.gpu_peak.gpu_bytes == alone.limited - shared

    passing, passing_alone = (parts_of(plan, "saving")[TO_A_FILE].bytes for plan in (found, alone))
    assert after["embedding table"].bytes + CHUNK_BYTES < passing < passing_alone
    coming, coming_alone = (parts_of(plan, "scoring the kept model") for plan in (found, alone))
    learned = [part.bytes for name, part in coming.items() if name.startswith(("classifier ", "encoder", "embedding"))]
    assert coming[TO_THE_GPU].bytes == sum(learned) < coming_alone[TO_THE_GPU].bytes
