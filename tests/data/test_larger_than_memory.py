"""Data sets larger than memory: the peak of preparing and training does not grow with them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
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
READ_FEATURES = """
import sys
from pathlib import Path
from fanin.data.batches import Batches
from fanin.data.feature_store import FeatureStore
from fanin.data.formats import open_dataset
from fanin.data.validation import draw_validation, row_keys
from fanin.training.process_memory import peak_bytes

store = FeatureStore(open_dataset(sys.argv[1]), cache=Path(sys.argv[2]))
print(peak_bytes())
train = store.split("train")
draw_validation(row_keys(train), 0.1, seed=0)
rows = sum(len(batch) for batch in Batches(train, 512).epoch())
print(peak_bytes(), rows)
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


def write_bag_of_words(folder, blocks):
    """500 rows a block, of 200 features each; every block is the same but for one feature."""
    random = np.random.default_rng(0)
    features = random.integers(0, 50_000, (500, 200)).tolist()
    labels = random.integers(0, 1000, (500, 2)).tolist()
    lines = [
        f"{','.join(map(str, own))} {' '.join(f'{feature}:0.25' for feature in row)}"
        for own, row in zip(labels, features, strict=True)
    ]
    folder.mkdir()
    with (folder / "train.txt").open("w") as file:
        file.write(f"{500 * blocks} 1000000 1000\n")
        for block in range(blocks):
            file.write("".join(f"{line} {block + 50_000}:1\n" for line in lines))
    (folder / "test.txt").write_text("1 1000000 1000\n3 7:1\n")


def test_reading_more_features_takes_no_more_memory(tmp_path):
    built, read, files = [], [], []
    for blocks in (4, 24):
        folder, cache = tmp_path / f"{blocks}", tmp_path / f"cache {blocks}"
        write_bag_of_words(folder, blocks)
        after_building, at_the_end, rows = map(int, python(READ_FEATURES, folder, cache).split())
        assert rows == 500 * blocks
        built.append(after_building)
        read.append(at_the_end)
        (store,) = (cache / "stores").iterdir()
        files.append((folder_bytes(folder), folder_bytes(store)))
    (small, small_store), (large, large_store) = files
    assert large - small > 20e6
    assert large_store - small_store > 15e6
    assert built[1] - built[0] < 4e6
    # Of rows that are read pages of the store are mapped, and given back now and then.
    assert read[1] - read[0] < large_store - small_store + 4e6


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_five_gigabytes_of_features_in_two(tmp_path):
    write_bag_of_words(tmp_path / "data", 5000)
    assert folder_bytes(tmp_path / "data") > 5e9
    arguments = ["train", tmp_path / "data", "--recipe", "plain", "--out", tmp_path / "run", "--quiet", "--json"]
    settings = ["encoder={kind: features, out_features: 32}", "classifier.fan_in=16", "training.steps=20"]
    chosen = [part for setting in settings for part in ("--set", setting)]
    metrics = json.loads(python(LIMITED, *arguments, *chosen, FANIN_CACHE=str(tmp_path / "cache")))
    assert metrics["peak_bytes"] < 2 << 30


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_five_gigabytes_in_two(tmp_path):
    write_synthetic(tmp_path / "data", SyntheticTexts(200_000, noise_words=150), 4_500_000, 10_000)
    assert folder_bytes(tmp_path / "data") > 5e9
    arguments = ["train", tmp_path / "data", "--recipe", "plain", "--out", tmp_path / "run", "--quiet", "--json"]
    settings = ["--set", "training.steps=20", "--set", "training.validation_rows=1000"]
    metrics = json.loads(python(LIMITED, *arguments, *settings, FANIN_CACHE=str(tmp_path / "cache")))
    assert metrics["peak_bytes"] < 2 << 30
