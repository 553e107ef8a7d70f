"""What one of several processes sends in a step, as planned and as counted."""

import pytest

from fanin.data.formats import open_dataset
from fanin.memory.data_sizes import assumed_sizes
from fanin.memory.encoder_parts import lay_out_encoder
from fanin.memory.shares import sent_in_a_step
from fanin.processes.group import Processes
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


def test_what_is_sent_does_not_depend_on_labels_and_hardly_on_processes(planted, tiny_recipe, tmp_path):
    recipe = tiny_recipe("plain")
    encoder = lay_out_encoder(recipe, assumed_sizes(1000, 1000, recipe))
    few, many = (sum(p.bytes for p in sent_in_a_step(encoder, 4096, size, tokens=20)) for size in (8, 64))
    assert few < many < 1.2 * few
