"""Data sets larger than memory: the peak of preparing and training does not grow with them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fanin
from fanin.data.synthetic import SyntheticTexts, write_synthetic

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems count memory otherwise")

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(fanin.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
PREPARE = """
import sys
from pathlib import Path
import fanin.data.building as building
import fanin.data.row_writing as row_writing
import fanin.data.validation as validation
from fanin.data.formats import open_dataset
from fanin.encoders.tokenization import Tokenizer
from fanin.training.process_memory import peak_bytes

building.BLOCK_TEXTS = validation._BLOCK_ROWS = 500  # so that small data have many blocks
row_writing._NARROW_BLOCK = 1 << 16
dataset = open_dataset(sys.argv[1])
tokenizer = Tokenizer.train(list(dataset.texts("test")) * 2, frequent_pairs=100)
store = building.build_store(dataset, tokenizer.encode_batch, tokenizer.key, Path(sys.argv[2]))
validation.draw_validation(validation.row_keys(store.split("train")), 0.1, seed=0)
print(peak_bytes(), store.folder)
"""
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30))
from fanin.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def python(program, *arguments, **variables):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT | variables, check=True, stdout=subprocess.PIPE, text=True).stdout


def folder_bytes(folder):
    return sum(path.stat().st_size for path in Path(folder).iterdir())


def test_preparing_more_data_takes_no_more_memory(tmp_path):
    peaks, sizes, mapped = [], [], []
    for rows in (1500, 24_000):
        folder = tmp_path / f"{rows}"
        write_synthetic(folder, SyntheticTexts(500, noise_words=150), rows, 100)
        peak, store = python(PREPARE, folder, tmp_path / "cache").split(maxsplit=1)
        peaks.append(int(peak))
        sizes.append(folder_bytes(folder) + folder_bytes(store.strip()))
        mapped.append(folder_bytes(store.strip()))
    assert sizes[1] - sizes[0] > 25e6
    # What remains are 40 bytes a text while rows are held out, mapped pages of the store, and what allocators keep.
    remaining = 40 * (24_000 - 1500) + mapped[1] - mapped[0]
    assert remaining < (sizes[1] - sizes[0]) / 2
    assert peaks[1] - peaks[0] < remaining + 4e6


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_five_gigabytes_in_two(tmp_path):
    write_synthetic(tmp_path / "data", SyntheticTexts(200_000, noise_words=150), 4_500_000, 10_000)
    assert folder_bytes(tmp_path / "data") > 5e9
    arguments = ["train", tmp_path / "data", "--recipe", "plain", "--out", tmp_path / "run", "--quiet", "--json"]
    settings = ["--set", "training.steps=20", "--set", "training.validation_rows=1000"]
    metrics = json.loads(python(LIMITED, *arguments, *settings, FANIN_CACHE=str(tmp_path / "cache")))
    assert metrics["peak_bytes"] < 2 << 30
