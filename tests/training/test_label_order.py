"""Which labels lie together: those whose texts are alike, from tokens and from vectors."""

import numpy as np
import pytest

from fanin.data.formats import open_dataset
from fanin.recipes.recipe_files import load_recipe
from fanin.training.assemble import build_encoder
from fanin.training.label_order import related_order
from fanin.training.preparation import prepare

TOPICS, OF_TOPIC = 5, 8
LABELS = TOPICS * OF_TOPIC


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    """Raw texts, and the same as dense features: label l is of topic l % 5, and its texts hold words of the topic."""
    rng = np.random.default_rng(0)
    raw, dense = tmp_path_factory.mktemp("topics"), tmp_path_factory.mktemp("features")
    for split, n in (("trn", 600), ("tst", 20)):
        labels = rng.integers(0, LABELS - 1, n)  # the last is never seen
        words = rng.integers(0, 6, (n, 5))
        topic = labels % TOPICS
        texts = [" ".join(f"topic{t}word{word}" for word in row) for t, row in zip(topic, words, strict=True)]
        (raw / f"{split}_X.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
        lines = "\n".join(f"{label}:1" for label in labels)
        for folder in (raw, dense):
            (folder / f"{split}_X_Y.txt").write_text(f"{n} {LABELS}\n{lines}\n", encoding="utf-8")
        centre = np.eye(TOPICS)[topic]
        np.save(dense / f"{split}_X.npy", (centre + 0.1 * rng.standard_normal(centre.shape)).astype(np.float32))
    for folder in (raw, dense):
        (folder / "Y.txt").write_text("".join(f"label {i}\n" for i in range(LABELS)), encoding="utf-8")
    return {"tokens": raw, "vectors": dense}


@pytest.fixture(scope="module", params=["tokens", "vectors"])
def prepared(request, topics, tmp_path_factory):
    settings = {
        "tokens": ["tokenizer.min_count=1", "encoder.lexical_features=30"],
        "vectors": ["encoder={kind: features, out_features: 16}", "classifier.fan_in=4"],
    }
    recipe = load_recipe("plain", settings[request.param])
    data = prepare(open_dataset(topics[request.param]), recipe, tmp_path_factory.mktemp("cache"))
    return data, build_encoder(recipe.encoder, data, 0)


def test_runs_hold_related_labels(prepared):
    data, encoder = prepared
    order = related_order(data, encoder, OF_TOPIC, 3, [np.arange(LABELS)]).tolist()
    assert sorted(order) == list(range(LABELS))
    topics = np.array(order).reshape(TOPICS, OF_TOPIC) % TOPICS
    assert (topics[:, :, None] == topics[:, None, :]).mean() > 0.8  # 0.3 by chance
    assert related_order(data, encoder, OF_TOPIC, 3, [np.arange(LABELS)]).tolist() == order


def test_some_of_the_labels_alone(prepared):
    data, encoder = prepared
    some = np.arange(LABELS)[np.arange(LABELS) % TOPICS < 2]
    order = related_order(data, encoder, OF_TOPIC, 3, [some]).tolist()
    assert sorted(order) == some.tolist()
    topics = np.array(order).reshape(2, OF_TOPIC) % TOPICS
    assert (topics == topics[:, :1]).all()


def test_the_encoder_stays_in_training(prepared):
    data, encoder = prepared
    encoder.train()
    related_order(data, encoder, OF_TOPIC, 3, [np.arange(LABELS)])
    assert encoder.training
