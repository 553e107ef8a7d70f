"""The auxiliary objective: its share of the loss, both losses' gradients, its clusters, and its end."""

import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits, relu

from fanin.classifier.dense import DenseLinear
from fanin.classifier.sparse import SparseLinear
from fanin.data.formats import open_dataset
from fanin.errors import ConfigError, MemoryPlanError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.spec import SGD, Loss, Positives
from fanin.labels.prior import log_odds
from fanin.recipes.classifier_recipe import DenseSection
from fanin.recipes.remedies_recipe import AuxiliarySection
from fanin.training.assemble import build_encoder
from fanin.training.assemble_auxiliary import build_auxiliary
from fanin.training.auxiliary import AuxiliaryObjective, cluster_points
from fanin.training.objectives import Objectives, StepLosses
from fanin.training.preparation import prepare
from fanin.training.progress import Silent

L, K, B, D = 12, 4, 5, 6
CLUSTERS = torch.tensor([0, 1, 2, 3] * 3)
# Both labels of row 1 are of one cluster, row 2 has none.
POSITIVES = Positives(torch.tensor([0, 1, 3, 3, 6, 7]), torch.tensor([0, 2, 6, 3, 4, 9, 11]))
RATE = {"schedule": {"learning_rate": 0.1, "warmup_share": 0.0, "final_share": 1.0}, "update": {"kind": "sgd"}}


def objective(share=0.4, cutoff=10, decay="cosine"):
    bias = torch.randn(K, generator=torch.Generator().manual_seed(5))
    auxiliary = AuxiliaryObjective(CLUSTERS, D, bias, scale=share, cutoff=cutoff, decay=decay)
    with torch.no_grad():
        auxiliary.classifier.weight.normal_(generator=torch.Generator().manual_seed(6))
    return auxiliary


def targets(columns, of_label):
    found = torch.zeros(B, columns, dtype=torch.float64)
    for row in range(B):
        for label in POSITIVES.indices[POSITIVES.indptr[row] : POSITIVES.indptr[row + 1]].tolist():
            found[row, of_label(label)] = 1
    return found


@pytest.mark.parametrize("decay", ["cosine", "none"])
def test_the_share_falls_to_zero_at_the_cut_off(decay):
    shares = [objective(cutoff=10, decay=decay).share(step) for step in range(1, 14)]
    steps = np.arange(10)
    expected = 0.2 * (1 + np.cos(np.pi * steps / 10)) if decay == "cosine" else np.full(10, 0.4)
    np.testing.assert_allclose(shares, [*expected, 0, 0, 0])
    assert shares[0] == 0.4


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("lexical", [False, True])
def test_a_step_is_one_of_the_weighted_sum_of_both_losses(kind, loss, lexical, monkeypatch):
    monkeypatch.setenv("FANIN_BACKEND", "reference")
    wide = D + 3 if lexical else D
    classifier = DenseLinear(wide, L, seed=1) if kind == "dense" else SparseLinear(wide, L, 4, seed=1)
    auxiliary, step, share = objective(), 3, objective().share(3)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(B, wide, generator=generator)
    if lexical:
        x[:, D + 1] = 0  # not an active column
    columns = torch.tensor([*range(D), D, D + 2]) if lexical else torch.arange(D)

    true_x = x.double().requires_grad_()
    weight = torch.zeros(L, wide, dtype=torch.float64)
    used = torch.arange(wide).expand(L, wide) if kind == "dense" else classifier.index.long()
    weight.scatter_(1, used, classifier.weight.detach().double())
    parameters = [weight, classifier.bias, auxiliary.classifier.weight, auxiliary.classifier.bias]
    weight, bias, own_weight, own_bias = (p.detach().double().clone().requires_grad_() for p in parameters)
    logits, y = true_x @ weight.T + bias, targets(L, lambda label: label)
    if loss is Loss.BCE:
        main = binary_cross_entropy_with_logits(logits, y, reduction="sum") / B
    else:
        main = relu(1 - (2 * y - 1) * logits).square().sum() / B
    own_logits = true_x[:, :D] @ own_weight.T + own_bias
    own = binary_cross_entropy_with_logits(own_logits, targets(K, lambda label: CLUSTERS[label]), reduction="sum") / B
    ((1 - share) * main + share * own).backward()

    objectives = Objectives(classifier, DenseSection(loss=loss, **RATE), 100, auxiliary, AuxiliarySection(**RATE))
    given_x = ActiveInputs(x[:, columns], columns, wide) if lexical else x
    losses, dx = objectives.step(step, given_x, POSITIVES)

    assert losses.loss == pytest.approx(main.item(), rel=1e-5)
    assert losses.auxiliary_loss == pytest.approx(own.item(), rel=1e-5)
    assert losses.auxiliary_share == share
    assert losses.trained == pytest.approx(((1 - share) * main + share * own).item(), rel=1e-5)
    torch.testing.assert_close(dx, true_x.grad[:, columns].float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(auxiliary.classifier.weight, (own_weight - 0.1 * own_weight.grad).float())
    torch.testing.assert_close(auxiliary.classifier.bias, (own_bias - 0.1 * own_bias.grad).float())
    expected = (weight - 0.1 * weight.grad).gather(1, used)
    torch.testing.assert_close(classifier.weight.detach(), expected.detach().float(), rtol=1e-5, atol=1e-6)


def test_without_one_the_classifier_s_step_is_all_there_is():
    x = torch.randn(B, D, generator=torch.Generator().manual_seed(2))
    one, other = DenseLinear(D, L, seed=1), DenseLinear(D, L, seed=1)
    losses, dx = Objectives(one, DenseSection(**RATE), 100).step(1, x, POSITIVES)
    loss, expected = other.train_step(x, POSITIVES, Loss.BCE, SGD(0.1))
    assert losses == StepLosses(loss)
    assert losses.as_dict() == {"loss": loss}
    assert torch.equal(dx, expected)
    assert torch.equal(one.weight, other.weight)


def test_memory_is_given_back_at_the_cut_off():
    objectives = Objectives(DenseLinear(D, L), DenseSection(**RATE), 100, objective(cutoff=2), AuxiliarySection(**RATE))
    alive = weakref.ref(objectives._auxiliary.classifier)
    x = torch.ones(B, D)
    named = [set(objectives.step(step, x, POSITIVES)[0].as_dict()) for step in (1, 2)]
    assert named == [{"loss", "auxiliary_loss", "auxiliary_share"}] * 2
    assert alive() is not None
    assert set(objectives.step(3, x, POSITIVES)[0].as_dict()) == {"loss"}
    gc.collect()
    assert alive() is None


class Labels:
    """What cluster_points reads of a split."""

    def __init__(self, rows):
        self.labels_indptr = np.cumsum([0, *map(len, rows)])
        self.labels = np.array([label for row in rows for label in row], np.int32)


@given(st.lists(st.sets(st.integers(0, L - 1)), min_size=1, max_size=8), st.data())
def test_points_of_clusters_are_texts_with_any_of_their_labels(rows, data):
    used = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), unique=True)), np.int64)
    sets = [{int(CLUSTERS[label]) for label in rows[row]} for row in used]
    expected = [sum(k in found for found in sets) for k in range(K)]
    split = Labels([sorted(row) for row in rows])
    assert cluster_points(split, used, CLUSTERS.numpy(), K).tolist() == expected


def test_blocks_of_rows_add_up(monkeypatch):
    split = Labels([[row % L, L - 1] for row in range(100)])
    whole = cluster_points(split, np.arange(100), CLUSTERS.numpy(), K)
    monkeypatch.setattr("fanin.training.auxiliary._COUNT_ROWS", 7)
    assert np.array_equal(cluster_points(split, np.arange(100), CLUSTERS.numpy(), K), whole)


@pytest.fixture(scope="module")
def prepared(planted, tiny_recipe, tmp_path_factory):
    recipe = tiny_recipe("dense")
    data = prepare(open_dataset(planted), recipe, tmp_path_factory.mktemp("cache"))
    return data, build_encoder(recipe.encoder, data, 0)


def build(prepared, total_steps=100, **settings):
    return build_auxiliary(AuxiliarySection(**settings), *prepared, total_steps, 3, Silent())


@pytest.mark.parametrize(
    ("settings", "clusters"), [({"clusters": 7}, 7), ({"labels_per_cluster": 12}, 4), ({"labels_per_cluster": 40}, 1)]
)
def test_the_recipe_chooses_the_clusters(prepared, settings, clusters):
    data, encoder = prepared
    auxiliary = build(prepared, **settings)
    assert auxiliary.classifier.out_features == clusters
    assert auxiliary.classifier.in_features == encoder.learned_features
    sizes = auxiliary.cluster_of_label.bincount(minlength=clusters)
    assert (len(auxiliary.cluster_of_label), int(sizes.max() - sizes.min())) == (40, int(40 % clusters > 0))
    points = cluster_points(data.store.split("train"), data.train_rows, auxiliary.cluster_of_label.numpy(), clusters)
    expected = torch.from_numpy(log_odds(points, len(data.train_rows))).float()
    torch.testing.assert_close(auxiliary.classifier.bias.detach(), expected)


def test_the_cut_off_is_a_share_of_the_steps(prepared):
    auxiliary = build(prepared, clusters=2, cutoff_share=0.25, decay="none", scale=0.3)
    assert [auxiliary.share(step) for step in (1, 25, 26)] == [0.3, 0.3, 0.0]
    never = build(prepared, clusters=2, cutoff_share=1, decay="none")
    assert [never.share(step) for step in (1, 100)] == [0.4, 0.4]
    assert build(prepared, total_steps=3, clusters=2).share(1) == 0.4


def test_more_clusters_than_labels(prepared):
    with pytest.raises(ConfigError, match=r"auxiliary\.clusters is 41; the data set has only 40 labels"):
        build(prepared, clusters=41)


def test_too_little_memory_names_the_setting(prepared, monkeypatch):
    def none_left(*_args, **_options):
        raise MemoryError

    monkeypatch.setattr("fanin.training.assemble_auxiliary.AuxiliaryObjective", none_left)
    with pytest.raises(MemoryPlanError, match=r"auxiliary objective of 2 clusters; lower auxiliary\.clusters"):
        build(prepared, clusters=2)
