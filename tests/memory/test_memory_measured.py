"""Memory plans against the peaks of real runs and of predictions with their models, each in a process of its own."""

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import fanin
from fanin.data.synthetic import SyntheticTexts, write_synthetic

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems count memory otherwise")

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(fanin.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
# As main() would, and then how much memory it took.
PREDICT = """
import sys
from fanin.cli.main import run
assert run(["predict", *sys.argv[1:]]) == 0
from fanin.training.process_memory import peak_bytes
sys.stderr.write(str(peak_bytes()))
"""
TEXTS = 1100  # more than are predicted at a time
FEW_STEPS = ("training.steps=3", "training.validation_rows=300")
LARGE_MODEL = {
    "sparse": ("plain", "training.batch_size=64"),
    "related": ("plain", "classifier.cluster_size=32", "classifier.update={kind: sgd}", "training.batch_size=256"),
    "dense": ("dense", "training.batch_size=64"),
}
MATRIX = {
    **LARGE_MODEL,
    "default": ("default",),
    "rare-labels": ("rare-labels",),
    "head-tail": ("head-tail",),
    "groups": ("plain", "classifier.group_size=32", "classifier.update={kind: sgd}"),
    "bands": ("plain", "classifier.fan_in_by_frequency=[{share: 0.05, fan_in: 128}]"),
    "bottleneck": ("bottleneck",),
    "masked": ("masked",),
    "autograd": ("dense", "classifier.kind=dense_autograd", "training.batch_size=64"),
    "remedies": ("plain", "intermediate.width=8192", "auxiliary={labels_per_cluster: 32}"),
    "centroids": ("plain", "classifier.start=centroids"),
    "separating": ("plain", "classifier.rewiring.grow=separating", "classifier.rewiring.interval=2"),
    "gradient": ("plain", "classifier.rewiring.grow=gradient", "classifier.rewiring.interval=2"),
    "label texts": ("plain", "training.label_texts=true"),
    "label features": ("default", "training.label_features=both"),
}
TOGETHER = ("sparse", "related", "dense", "default", "head-tail", "groups", "bands", "remedies", "rare-labels")
MOST_DENSE_LABELS = 200_000


def command(name, data, settings, tmp_path, *options, start=()):
    recipe, *changes = settings
    arguments = [sys.executable, *start, "-m", "fanin", name, str(data), "--recipe", recipe, "--json", *options]
    arguments += [part for setting in (*FEW_STEPS, *changes) for part in ("--set", setting)]
    environment = ENVIRONMENT | {"FANIN_CACHE": str(tmp_path / "cache")}
    return json.loads(subprocess.run(arguments, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def check(data, settings, tmp_path, processes=1, *, predicts=True):
    """The plan of a run, whose peaks are near those of the process that takes the most, and of one that predicts."""
    together = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    plan = command("plan", data, settings, tmp_path, "--processes", str(processes), "--per-machine", str(processes))
    options = ("--out", str(tmp_path / "run"), "--quiet", "--no-test")
    metrics = command("train", data, settings, tmp_path, *options, start=together if processes > 1 else ())
    measured, planned = metrics["peak_bytes"], plan["peak_bytes"]
    stages = {stage["stage"]: stage["bytes"] >> 20 for stage in plan["training"]}
    assert abs(planned / measured - 1) < 0.15, f"{planned >> 20} MiB planned, {measured >> 20} measured; {stages}"
    if predicts:
        check_prediction(plan["prediction"], tmp_path / "run", some_texts(data, tmp_path))
    return plan


def check_prediction(stage, run, source):
    arguments = [sys.executable, "-c", PREDICT, str(run), "--file", str(source), "--json"]
    done = subprocess.run(arguments, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == TEXTS
    planned, measured = stage["bytes"], int(done.stderr)
    parts = {part["name"]: part["bytes"] >> 20 for part in stage["parts"]}
    told = f"{planned >> 20} MiB planned for prediction, {measured >> 20} measured; {parts}"
    assert abs(planned / measured - 1) < 0.15, told


def some_texts(data, folder):
    """A file of the first training texts, or of their features."""
    if (data / "trn_X.npy").exists():
        np.save(folder / "some.npy", np.load(data / "trn_X.npy", mmap_mode="r")[:TEXTS])
        return folder / "some.npy"
    features = (data / "trn_X_Xf.txt").exists()
    with (data / ("trn_X_Xf.txt" if features else "trn_X.txt")).open(encoding="utf-8") as file:
        header = f"{TEXTS} {next(file).split()[1]}\n" if features else ""
        (folder / "some.txt").write_text(header + "".join(islice(file, TEXTS)), encoding="utf-8")
    return folder / "some.txt"


@pytest.fixture(scope="session")
def many_labels(tmp_path_factory):
    """``many_labels(L)``: few texts and many labels, so that it is the model that is large."""
    made = {}

    def get(labels, rows=3000):
        if labels not in made:
            made[labels] = tmp_path_factory.mktemp("labels") / "data"
            write_synthetic(made[labels], SyntheticTexts(labels), rows, 5)
        return made[labels]

    return get


@pytest.mark.parametrize("name", LARGE_MODEL)
def test_the_peak_of_a_large_model(name, many_labels, tmp_path):
    plan = check(many_labels(60_000), LARGE_MODEL[name], tmp_path, predicts=name == "sparse")
    own = plan["peak_bytes"] - plan["training"][0]["parts"][0]["bytes"]
    assert own > (60 << 20)  # or this would be a test of how large Python is


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("labels", [10_000, 100_000, 1_000_000])
@pytest.mark.parametrize("name", MATRIX)
def test_the_matrix(name, labels, many_labels, tmp_path):
    if MATRIX[name][0] in ("dense", "masked") and labels > MOST_DENSE_LABELS:
        pytest.skip("weights of several gigabytes")
    check(many_labels(labels, max(20_000, labels // 4)), MATRIX[name], tmp_path)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("labels", [60_000, 300_000])
@pytest.mark.parametrize("name", TOGETHER)
def test_two_processes(name, labels, many_labels, tmp_path):
    data = many_labels(labels, max(20_000, labels // 8))
    check(data, MATRIX[name], tmp_path, processes=2, predicts=False)  # the model is that of one process


@pytest.fixture(scope="session")
def minilm_shaped(tmp_path_factory):
    """The folder of a transformer of all-MiniLM-L6-v2's sizes, its weights drawn at random."""
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{i}" for i in range(30_518))]
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    folder = tmp_path_factory.mktemp("minilm-shaped")
    transformers.BertModel(config).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return folder


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("recipe", ["minilm", "minilm-frozen"])
@pytest.mark.parametrize("labels", [1000, 100_000])
def test_transformers(recipe, labels, minilm_shaped, tmp_path):
    write_synthetic(tmp_path / "data", SyntheticTexts(labels), 2000, 5)
    check(tmp_path / "data", (recipe, f"encoder.model={minilm_shaped}"), tmp_path)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("form", "N"), [("dense", 20_000), ("sparse", 20_000), ("sparse", 200_000)])
def test_features(form, N, tmp_path):
    L, D = 50_000, 2000
    random = np.random.default_rng(0)
    for split, rows in (("trn", N), ("tst", 10)):
        labels = "".join(f"{label}:1\n" for label in random.integers(0, L, rows))
        (tmp_path / f"{split}_X_Y.txt").write_text(f"{rows} {L}\n{labels}")
        if form == "dense":
            np.save(tmp_path / f"{split}_X.npy", random.standard_normal((rows, D), np.float32))
        else:
            chosen = random.integers(0, D, (rows, 40))
            lines = "".join(" ".join(f"{column}:1" for column in row) + "\n" for row in chosen)
            (tmp_path / f"{split}_X_Xf.txt").write_text(f"{rows} {D}\n{lines}")
    (tmp_path / "Y.txt").write_text("".join(f"label {i}\n" for i in range(L)))
    check(tmp_path, ("plain", "encoder={kind: features, out_features: 512}"), tmp_path)
