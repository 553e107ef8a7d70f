"""The tail-aware loss, from the recipe to a trained model."""

import numpy as np
import pytest
import torch

from fanin.data.batches import Batch
from fanin.errors import ConfigError
from fanin.labels.propensity import inverse_propensities
from fanin.recipes.recipe_files import load_recipe
from fanin.training.tail_loss import TailLoss

COUNTS = np.array([1, 16, 0, 100])
BATCH = Batch(np.arange(2), (), np.array([0, 2, 3]), np.array([1, 3, 0]))


def positives_of(*settings):
    recipe = load_recipe("plain", settings)
    return TailLoss(recipe.classifier, recipe.evaluation, COUNTS, 120).positives(BATCH)


def test_without_it_positives_are_bare():
    found = positives_of()
    assert found.indptr.tolist() == [0, 2, 3]
    assert found.indices.tolist() == [1, 3, 0]
    assert found.weights is None
    assert found.margins is None


def test_propensities_are_those_of_the_evaluation():
    settings = ("classifier.tail=propensity", "evaluation.propensity_a=0.6", "evaluation.propensity_b=2.6")
    found = positives_of(*settings)
    expected = inverse_propensities(COUNTS, 120, 0.6, 2.6)[[1, 3, 0]]
    torch.testing.assert_close(found.weights, torch.from_numpy(expected).float())
    assert found.margins is None


def test_margins():
    found = positives_of("classifier.tail=margin", "classifier.tail_strength=3")
    torch.testing.assert_close(found.margins, torch.tensor([1.5, 3 / 100**0.25, 3.0]))
    assert found.weights is None


@pytest.mark.parametrize("kind", ["sparse", "head_tail"])
@pytest.mark.parametrize("tail", ["propensity", "margin"])
def test_it_learns_and_raises_the_scores_of_positives(planted, tiny_recipe, train, kind, tail):
    """Rare or not, a positive that counts more is scored higher."""
    section = "{kind: %s, schedule: {learning_rate: 0.05}, tail: %s, tail_strength: 2}"
    plain = tiny_recipe("dense", f"classifier={section % (kind, 'none')}", "training.epochs=4")
    favoured = tiny_recipe("dense", f"classifier={section % (kind, tail)}", "training.epochs=4")
    means = []
    for recipe in (plain, favoured):
        result, _ = train(planted, recipe)
        assert result.metrics["test"]["P@1"] > 0.8
        predicted = result.model.predict([f"word{i}" for i in range(39)], 1)
        means.append(np.mean([row[0].score for row in predicted]))
    assert means[1] > means[0]


@pytest.mark.parametrize("setting", ["tail=rare", "tail_strength=0", "tail=margins"])
def test_wrong_settings_are_refused(setting):
    with pytest.raises(ConfigError, match=r"classifier\.tail"):
        load_recipe("plain", [f"classifier.{setting}"])
