"""A process killed at any moment of saving loses no model that was there before."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from fanin.model_files import load_model, save_model
from fanin.runs.run_folder import model_folder

SAVE_FOREVER = """
import sys
from pathlib import Path
from fanin.model_files import load_model, save_model
model = load_model(Path(sys.argv[1]))
print("saving", flush=True)
while True:
    save_model(model, Path(sys.argv[2]) / "model")
"""


def kill_while_saving(source, run, delay):
    command = [sys.executable, "-c", SAVE_FOREVER, str(source), str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        assert process.stdout.readline() == b"saving\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("kills", [2, pytest.param(40, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_the_model_survives(kills, planted, tiny_recipe, train, tmp_path):
    result, first = train(planted, tiny_recipe("plain", "training.epochs=1"))
    expected = result.model.predict(["word1 word2"], 3)
    save_model(result.model, tmp_path / "model")
    rng = random.Random(0)
    for _ in range(kills):
        kill_while_saving(first.model, tmp_path, rng.uniform(0, 0.3))
        assert load_model(model_folder(tmp_path)).predict(["word1 word2"], 3) == expected
