"""Text classification in a few lines of Python."""

import numpy as np
import pytest

from fanin import BackendError, CheckpointError, ConfigError, DataError, TextClassifier

KINDS = ["green tea leaves", "black tea pot", "strong espresso", "filter coffee beans"]
TEXTS = [f"{kind} {i}" for i in range(30) for kind in KINDS]
LABELS = [["tea"], ["tea"], ["coffee"], ["coffee", "[filter]"]] * 30
SETTINGS = [
    "encoder.out_features=32",
    "encoder.embedding_dim=32",
    "training.batch_size=16",
    "training.epochs=8",
    "classifier.fan_in=8",
    "classifier.schedule.learning_rate=0.05",
    "encoder.table.learning_rate=0.05",
]


def test_fit_predict_save_load(tmp_path):
    classifier = TextClassifier.fit(TEXTS, LABELS, settings=SETTINGS)
    predicted = classifier.predict(["a pot of tea", "espresso"], k=2)
    assert [row[0].label for row in predicted] == ["tea", "coffee"]
    assert all(0 <= p.score <= 1 for row in predicted for p in row)
    classifier.save(tmp_path / "model")
    assert TextClassifier.load(tmp_path / "model").predict(["a pot of tea", "espresso"], k=2) == predicted
    with pytest.raises(CheckpointError, match="name another folder"):
        classifier.save(tmp_path)
    (tmp_path / "model").rename(tmp_path / "model.previous")  # as a crash between two renames leaves it
    assert TextClassifier.load(tmp_path / "model").predict(["a pot of tea", "espresso"], k=2) == predicted
    assert len(classifier.predict(["tea"], k=10)[0]) == 3
    assert classifier.predict([]) == []


def test_devices(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    classifier = TextClassifier.fit(TEXTS, LABELS, settings=SETTINGS, device="cpu")
    classifier.save(tmp_path / "model")
    assert TextClassifier.load(tmp_path / "model", device="cpu").model.device.type == "cpu"
    with pytest.raises(BackendError, match="device 'cuda'"):
        TextClassifier.fit(TEXTS, LABELS, settings=SETTINGS, device="cuda")
    with pytest.raises(BackendError, match="device 'cuda:3'"):
        TextClassifier.load(tmp_path / "model", device="cuda:3")
    with pytest.raises(ConfigError, match="device 'tpu' is not known"):
        TextClassifier.fit(TEXTS, LABELS, settings=SETTINGS, device="tpu")


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (["a", "b"], [["x"]], "more texts than"),
        (["a"], [["x"], ["y"]], "more rows of labels"),
        (["a", "b"], ["x", "y"], r"labels\[0\] is a single string"),
        (["a", None], [["x"], ["y"]], r"texts\[1\] is None"),
        (["a", float("nan")], [["x"], ["y"]], r"texts\[1\] is nan of type float"),
        (["a", b"b"], [["x"], ["y"]], r"texts\[1\] is b'b' of type bytes"),
        (["a", "b"], [["x"], ["y", np.int64(3)]], r"labels\[1\]\[1\] is .*3.* of type int64"),
        (["a", "b"], np.array([[1], [2]]), r"labels\[0\]\[0\] is .*1.* of type int64"),
        (["a", "b"], np.array([1, 2]), r"labels\[0\] is .*1"),
        (["a", "b"], [["x"], None], r"labels\[1\] is None"),
        (["a", "b"], [["x"], [None]], r"labels\[1\]\[0\] is None"),
        (["a", "b"], [["x"], float("nan")], r"labels\[1\] is nan"),
        ("ab", [["x"], ["y"]], "texts is a single string"),
        (None, [["x"]], "texts is None"),
        (["a"], 3, "labels is 3"),
    ],
)
def test_texts_and_labels_must_fit(texts, labels, message):
    with pytest.raises(DataError, match=message):
        TextClassifier.fit(texts, labels)


class Column:
    """Values with an index of their own, as a column of a table has: no plain slices, only iteration."""

    def __init__(self, values):
        self._values = values

    def __iter__(self):
        return iter(self._values)


def test_arrays_and_columns_are_taken():
    settings = [*SETTINGS, "training.epochs=1"]
    classifier = TextClassifier.fit(TEXTS, LABELS, settings=settings)
    expected = classifier.predict(TEXTS[:4])
    rows = [np.array(row) for row in LABELS]
    for texts, labels in [
        (np.array(TEXTS), rows),
        (np.array(TEXTS, dtype=object), LABELS),
        (Column(TEXTS), iter(rows)),
    ]:
        same = TextClassifier.fit(texts, labels, settings=settings)
        assert list(same.model.labels) == list(classifier.model.labels)
        assert same.model.train_counts.tolist() == classifier.model.train_counts.tolist()
    assert classifier.predict(np.array(TEXTS[:4])) == classifier.predict(Column(TEXTS[:4])) == expected
    for wrong, message in [([None], r"texts\[0\] is None"), (["a", 3], r"texts\[1\] is 3"), (None, "texts is None")]:
        with pytest.raises(DataError, match=message):
            classifier.predict(wrong)


def test_wrong_arguments():
    with pytest.raises(ConfigError, match="did you mean 'fan_in'"):
        TextClassifier.fit(TEXTS, LABELS, settings=["classifier.fanin=3"])
    with pytest.raises(DataError):
        TextClassifier.fit([1, 2], [["x"], ["y"]])
    with pytest.raises(DataError):
        TextClassifier.fit([], [])


def test_predicting_one_string_is_a_clear_mistake():
    classifier = TextClassifier.fit(TEXTS, LABELS, settings=[*SETTINGS, "training.epochs=1"])
    with pytest.raises(ConfigError, match=r"predict\(\[text\]\)"):
        classifier.predict("tea")
    with pytest.raises(ConfigError, match="k=0"):
        classifier.predict(["tea"], k=0)
