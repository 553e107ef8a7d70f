"""Running the command line inside the test process, and a tiny model trained by it."""

import io
import random
import sys
from typing import NamedTuple

import pytest

from fanin.cli.main import run

LABELS = ["[bold]tea[/bold]", "coffee \x1b[31m", "cocoa", "never seen"]
WORDS = ["green leaves pot", "roasted beans espresso", "milk chocolate powder"]
TINY = (
    "tokenizer.min_count=1",
    "encoder.out_features=16",
    "encoder.embedding_dim=16",
    "encoder.block_width=16",
    "encoder.dropout=0",
    "encoder.token_dropout=0",
    "encoder.table.learning_rate=0.05",
    "classifier.schedule.learning_rate=0.05",
    "classifier.fan_in=8",
    "classifier.fan_in_by_frequency=[]",
    "training.batch_size=8",
    "training.epochs=6",
)


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def _invoke(*arguments, stdin=b""):
    streams = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n") for _ in range(2))
    try:
        code = run([str(argument) for argument in arguments])
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        return Outcome(code, *(stream.buffer.getvalue().decode() for stream in (sys.stdout, sys.stderr)))
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams


def _write_drinks(folder, *, train=48, test=12):
    """A raw-text folder whose words tell the label; the last of the four labels is never used."""
    draw = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in (("trn", train), ("tst", test)):
        labels = [row % 3 for row in range(rows)]
        texts = [" ".join(draw.sample(WORDS[label].split(), 2)) for label in labels]
        (folder / f"{split}_X.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        body = "".join(f"{label}:1\n" for label in labels)
        (folder / f"{split}_X_Y.txt").write_text(f"{rows} {len(LABELS)}\n{body}", encoding="utf-8")
    (folder / "Y.txt").write_text("".join(f"{label}\n" for label in LABELS), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def invoke():
    """``invoke("predict", folder, stdin=b"...")`` gives the exit code and what stood on the two streams."""
    return _invoke


@pytest.fixture(scope="session")
def write_drinks():
    return _write_drinks


@pytest.fixture(scope="session")
def drinks(tmp_path_factory):
    """A data set of 60 texts; read only."""
    return _write_drinks(tmp_path_factory.mktemp("drinks") / "data")


@pytest.fixture(scope="session")
def tiny():
    """The options that make training on a few dozen texts quick and good."""
    return [option for setting in TINY for option in ("--set", setting)]


@pytest.fixture(scope="session")
def trained(drinks, tiny, tmp_path_factory):
    """The run folder of a model of the drinks; read only."""
    folder = tmp_path_factory.mktemp("runs") / "drinks"
    outcome = _invoke("train", drinks, "--recipe", "plain", "--out", folder, *tiny, "--quiet")
    assert outcome.code == 0, outcome.err
    return folder
