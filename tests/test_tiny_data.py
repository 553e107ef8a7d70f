"""A few texts, few labels, hardly a word: the shipped recipes for texts train and predict as they are."""

import pytest

from fanin import ConfigError, DataError, TextClassifier

DRINKS = ["green tea", "black tea", "strong espresso", "filter coffee"] * 8
KINDS = [["tea"], ["tea"], ["coffee"], ["coffee"]] * 8
DATA = {
    "two texts": (["a b", "a c"], [["x"], ["x"]]),
    "three texts": (["tea", "coffee", "green tea"], [["tea"], ["coffee"], ["tea"]]),
    "one word": (["tea", "tea tea"] * 3, [["a"], ["b"]] * 3),
    "hardly a word": (["?!", "..", "", "tea"], [["a"], ["b"], ["b"], []]),
    "one labelled text": (["tea", "coffee"] * 10, [["tea"], *[[]] * 19]),
    "a label more than a cluster": ([f"word{i % 33} w{i}" for i in range(66)], [[f"l{i % 33}"] for i in range(66)]),
}


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("recipe", ["default", "rare-labels"])
def test_it_trains_and_ranks_every_label(recipe, data):
    texts, labels = DATA[data]
    names = {name for row in labels for name in row}
    classifier = TextClassifier.fit(texts, labels, recipe=recipe)
    for row in classifier.predict([*texts[:2], "unheard of", ""], k=100):
        assert {p.label for p in row} == names
        assert all(0 <= p.score <= 1 for p in row)


@pytest.mark.parametrize("recipe", ["default", "quickstart", "rare-labels"])
def test_few_texts_are_learned_from(recipe):
    """The start from tokens knows what a few steps of training would not teach."""
    texts = [f"{text} {i}" for i, text in enumerate(DRINKS)]
    classifier = TextClassifier.fit(texts, KINDS, recipe=recipe)
    assert [row[0].label for row in classifier.predict(["tea", "coffee", "espresso"])] == ["tea", "coffee", "coffee"]


@pytest.mark.parametrize(
    "settings",
    [
        ["encoder.out_features=32"],
        ["encoder.lexical_features=3"],
        ["encoder.lexical_features=0", "classifier.start=random"],
        ["tokenizer.vocabulary_size=2"],
        ["tokenizer.unit=subword"],
        ["classifier.fan_in=256"],
        ["classifier.cluster_size=0"],
        ["classifier.group_size=3", "classifier.cluster_size=3"],
        ["classifier.kind=head_tail"],
        ["classifier.fan_in_by_frequency=[{share: 0.01, fan_in: 64}]", "classifier.reference_fan_in=32"],
        ["classifier.kind=dense"],
        ["intermediate.width=100"],
    ],
)
def test_single_settings_of_the_default_may_change(settings):
    classifier = TextClassifier.fit(DRINKS, KINDS, settings=[*settings, "training.epochs=1"])
    assert {p.label for p in classifier.predict(["tea"])[0]} == {"tea", "coffee"}


def test_too_little_is_said():
    with pytest.raises(DataError, match="too few to hold out any for validation"):
        TextClassifier.fit(["tea"] * 9, [["tea"]] * 9)
    with pytest.raises(DataError, match="too few to hold out any for validation"):
        TextClassifier.fit(["?!", "..", "", "?"], [["a"], ["b"], ["b"], []])  # without a word all are the same
    with pytest.raises(ConfigError, match="classifier.fan_in is 12 and encoder.out_features only 8"):
        TextClassifier.fit(DRINKS, KINDS, settings=["encoder.out_features=8"])
