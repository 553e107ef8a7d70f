"""Margins of pairs, from the training texts to the batches that are trained on."""

import numpy as np
import pytest
import torch

from fanin.data.formats import open_dataset
from fanin.kernels.spec import Loss
from fanin.labels.own_text import own_text_shares
from fanin.labels.weighted_texts import WeightedTexts
from fanin.training.assemble import build_encoder
from fanin.training.own_text_margins import build_own_text_margins
from fanin.training.preparation import prepare
from fanin.training.tail_loss import TailLoss

SETTINGS = (
    "encoder.lexical_features=200",
    "classifier.start=tokens",
    "classifier.start_gain=5",
    "classifier.own_text_margin=0.5",
)


@pytest.fixture(scope="module")
def built(planted, tiny_recipe, tmp_path_factory):
    """Recipe, data with label texts, margins, and the expected margins of all pairs of the rows trained on."""
    recipe = tiny_recipe("plain", *SETTINGS, "training.label_texts=true")
    data = prepare(open_dataset(planted), recipe, tmp_path_factory.mktemp("cache"))
    encoder = build_encoder(recipe.encoder, data, 0)
    margins = build_own_text_margins(recipe.classifier, data, encoder)
    split, rows = data.store.split("train"), data.train_rows
    texts = WeightedTexts(split.tokens, split.tokens_indptr, encoder.token_weights[:200].numpy())
    shares = own_text_shares(texts, split.labels_indptr, split.labels, rows, 40)
    of_rows = np.split(2.5 * shares, split.labels_indptr[1:-1])
    return recipe, data, margins, [of_rows[row] for row in rows]


def test_every_pair_of_an_epoch_has_its_own(built):
    _, data, margins, expected = built
    of_row = dict(zip(data.train_rows.tolist(), expected, strict=True))
    assert max(margin.max(initial=0) for margin in expected) > 0.1
    seen = 0
    for batch in data.train_batches(32, 0).epoch(1):
        found = np.split(margins.of(batch).numpy(), batch.indptr[1:-1])
        for row, own in zip(batch.rows.tolist(), found, strict=True):
            # The rows of label texts come behind those of the split.
            np.testing.assert_array_equal(own, of_row.get(row, np.zeros(len(own), np.float32)))
            seen += row in of_row
    assert seen == len(data.train_rows)


def test_they_are_added_to_those_of_rare_labels(built):
    recipe, data, margins, _ = built
    counts, points = data.train_counts(), len(data.train_rows)
    batch = next(data.train_batches(32, 0).epoch(1))
    section = recipe.classifier.model_copy(update={"tail": "margin", "tail_strength": 3.0})
    by_label = TailLoss(section, recipe.evaluation, counts, points).positives(batch).margins
    both = TailLoss(section, recipe.evaluation, counts, points, margins).positives(batch).margins
    alone = TailLoss(recipe.classifier, recipe.evaluation, counts, points, margins).positives(batch).margins
    torch.testing.assert_close(both, by_label + alone)
    torch.testing.assert_close(alone, margins.of(batch))


@pytest.mark.parametrize("settings", [(), ("classifier.own_text_margin=0.5", "classifier.start=random")])
def test_a_recipe_without_them_has_none(built, tiny_recipe, settings):
    recipe = tiny_recipe("plain", *SETTINGS[:3], *settings)
    assert build_own_text_margins(recipe.classifier, built[1], None) is None


@pytest.mark.parametrize("loss", list(Loss))
def test_a_model_learns_with_them_and_starts_at_a_higher_loss(planted, tiny_recipe, train, loss):
    one_step = (*SETTINGS, f"classifier.loss={loss}", "training.steps=1", "training.batch_size=1000")

    def first_loss(*more):
        _, run = train(planted, tiny_recipe("plain", *one_step, "training.log_every=1", *more))
        lines = (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()
        return next(float(line.split('"loss": ')[1].split(",")[0].rstrip("}")) for line in lines if '"step"' in line)

    assert first_loss() > first_loss("classifier.own_text_margin=0")
    result, _ = train(planted, tiny_recipe("plain", *SETTINGS, f"classifier.loss={loss}"))
    assert result.metrics["test"]["P@1"] > 0.9
