"""Text classification in a few lines of Python."""

import pytest

from fanin import ConfigError, DataError, TextClassifier

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
    predicted = classifier.predict(["a pot of tea", "coffee"], k=2)
    assert [row[0].label for row in predicted] == ["tea", "coffee"]
    assert all(0 <= p.score <= 1 for row in predicted for p in row)
    classifier.save(tmp_path / "model")
    assert TextClassifier.load(tmp_path / "model").predict(["a pot of tea", "coffee"], k=2) == predicted
    assert len(classifier.predict(["tea"], k=10)[0]) == 3
    assert classifier.predict([]) == []


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (["a", "b"], [["x"]], "more texts than"),
        (["a"], [["x"], ["y"]], "more rows of labels"),
        (["a", "b"], ["x", "y"], "single string"),
    ],
)
def test_texts_and_labels_must_fit(texts, labels, message):
    with pytest.raises(DataError, match=message):
        TextClassifier.fit(texts, labels)


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
