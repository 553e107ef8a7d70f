"""The measurement of prediction: that it measures what it says; never how long it takes."""

import pytest

from fanin.bench.prediction import measure_prediction
from fanin.errors import DataError


@pytest.fixture(scope="module")
def model(planted, tiny_recipe, train):
    return train(planted, tiny_recipe("plain", "training.epochs=1"))[0].model


def test_every_text_is_predicted_in_every_run(model, monkeypatch):
    calls = []
    predict = type(model).predict
    monkeypatch.setattr(
        type(model),
        "predict",
        lambda self, texts, k, beam: calls.append(len(texts)) or predict(self, texts, k, beam=beam),
    )
    speed = measure_prediction(model, (f"word{i}" for i in range(70)), k=3, runs=2)
    assert calls == [64, 70, 70, *[1] * 70]
    assert (speed.texts, speed.k, speed.runs) == (70, 3, 2)
    assert 0 < speed.single_text_ms <= speed.single_text_p95_ms
    assert min(speed.texts_per_second, speed.texts_per_cpu_second) > 0
    assert speed.beam is None


def test_no_texts(model):
    with pytest.raises(DataError, match="no texts"):
        measure_prediction(model, [])
