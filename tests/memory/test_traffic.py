"""What one of several processes sends in a step, as planned and as it really passes through its connections."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fanin.data.formats import open_dataset
from fanin.memory.data_sizes import sampled_sizes
from fanin.memory.encoder_parts import lay_out_encoder
from fanin.memory.shares import sent_in_a_step
from fanin.recipes.recipe_files import recipe_text

SCRIPT = Path(__file__).with_name("measure_traffic.py")
HEADERS = 0.01  # at most, of what is sent: gloo says of every message what it is
SETTINGS = (
    "training.steps=12",
    "training.batch_size=36",
    "training.checkpoint.minutes=null",
    "classifier.rewiring=null",
    "tokenizer.frequent_pairs=0",  # a token is a word
    "intermediate={width: 4096, dropout: 0, schedule: {learning_rate: 0.005}}",
)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what has passed through a connection")
@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.long)])
def test_what_passes_through_the_connections_is_what_was_planned(size, planted, tiny_recipe, tmp_path):
    recipe = tiny_recipe("plain", *SETTINGS)
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe_text(recipe), encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, SCRIPT, planted, file, tmp_path, str(size)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    encoder = lay_out_encoder(recipe, sampled_sizes(open_dataset(planted), recipe))
    parts = sent_in_a_step(encoder, 36, size, tokens=4)
    planned = sum(part.bytes for part in parts) + 2 * 8 * (size - 1)  # and twice what they wait by
    assert planned > 1_000_000
    for steps, counted, sent, received in map(json.loads, done.stdout.splitlines()):
        assert counted == steps * planned
        assert counted < sent <= (1 + HEADERS) * counted
        assert counted < received <= (1 + HEADERS) * counted
    assert len(done.stdout.splitlines()) == size
