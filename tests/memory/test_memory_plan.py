"""Memory plans: bytes of what can be counted are exact, and what is proposed does what it says."""

import numpy as np
import pytest
import torch

from fanin.classifier.label_bands import LabelBands
from fanin.errors import ConfigError, MemoryPlanError
from fanin.kernels.spec import Positives
from fanin.memory import classifier_parts, encoder_parts
from fanin.memory.check import check_memory, over_budget
from fanin.memory.data_sizes import DataSizes, assumed_sizes
from fanin.memory.plan import plan_memory
from fanin.memory.planned_run import PlannedRun
from fanin.memory.room import Room
from fanin.memory.ways_out import ways_out
from fanin.recipes.recipe_files import changed_recipe, load_recipe, shipped_recipes
from fanin.training.assemble import build_bag, build_features
from fanin.training.assemble_classifier import lay_out_classifier

L, BASE = 500, 300 << 20
SMALL = ("encoder.out_features=32", "encoder.embedding_dim=16", "encoder.block_width=24", "classifier.fan_in=8")
CLASSIFIERS = {
    "plain": (),
    "groups": ("classifier.group_size=16",),
    "clusters": ("classifier.cluster_size=32", "classifier.update={kind: sgd}"),
    "bands": ("classifier.fan_in_by_frequency=[{share: 0.1, fan_in: 16}]",),
    "momentum": ("classifier.update={kind: sgd, momentum: 0.9}",),
    "head_tail": ("classifier={kind: head_tail, fan_in: 8, group_size: 4, update: {kind: adamw}}",),
    "dense": ("classifier={kind: dense}",),
    "bottleneck": ("classifier={kind: bottleneck, width: 8}",),
    "masked": ("classifier={kind: masked, fan_in: 8}",),
    "lexical": ("encoder.lexical_features=40", "classifier.start=tokens", "classifier.cluster_size=16"),
}
SIZES = DataSizes(
    L, 1000, tokens_per_text=10, words_per_text=8, frequent_words=200, distinct_words=250, batch_tokens=100
)

VOCABULARY = 200 + 1024  # words, and buckets of unknown ones


def small(name):
    return load_recipe(
        "plain", [*(s for s in SMALL if name not in ("dense", "bottleneck") or "fan_in" not in s), *CLASSIFIERS[name]]
    )


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_weights_and_state_are_counted_exactly(name):
    recipe = small(name)
    encoder = build_bag(recipe.encoder, VOCABULARY, 0)
    related = name in ("groups", "clusters", "lexical", "head_tail", "bands")
    classifier = lay_out_classifier(recipe.classifier, encoder, L, 0, ordered=related)
    planned = classifier_parts.lay_out(recipe.classifier, encoder_parts.lay_out_encoder(recipe, SIZES), L)
    tensors = sum(tensor.nbytes for tensor in classifier.state_dict().values())
    orders = {module.inner for module in classifier.modules() if hasattr(module, "inner")}
    places = sum(inner.nbytes for inner in orders)
    assert sum(part.bytes for part in classifier_parts.weight_parts(planned)) == tensors + places
    update = recipe.classifier.update
    x, positives = torch.randn(3, encoder.out_features), Positives(torch.arange(4), torch.tensor([0, 5, L - 1]))
    classifier.train_step(x, positives, recipe.classifier.loss, update.at(0.1))
    state = sum(tensor.nbytes for tensor in classifier.optimizer_state().values())
    assert classifier_parts.moment_bytes(planned, update) == state
    assert isinstance(classifier, LabelBands) == (name in ("bands", "head_tail"))


@pytest.mark.parametrize(("weights", "each", "states"), [("fp32", 4, 8), ("bf16-kahan", 2, 6), ("bf16-fp32", 2, 12)])
@pytest.mark.parametrize("settings", [(), ("encoder.blocks=0",), ("intermediate.width=64",)])
def test_the_encoder_is_counted_exactly(settings, weights, each, states):
    recipe = load_recipe("plain", [*SMALL, *settings, f"encoder.weights={weights}"])
    planned = encoder_parts.lay_out_encoder(recipe, SIZES)
    encoder = build_bag(recipe.encoder, VOCABULARY, 0)
    extra = 64 * 32 + 64 if "intermediate" in "".join(settings) else 0
    buffers = sum(tensor.nbytes for tensor in encoder.buffers())
    trained = sum(parameter.numel() for parameter in encoder.parameters()) + extra
    assert sum(part.bytes for part in encoder_parts.weight_parts(planned)) == buffers + each * trained
    parts = {part.name: part.bytes for part in encoder_parts.update_parts(planned, SIZES, 8, recipe.encoder.master)}
    assert parts["encoder's AdamW state"] == states * trained
    assert parts["encoder's gradients"] == each * trained
    assert parts["embedding table's state"] == 8 * VOCABULARY
    roots = 4 * (trained - extra) if weights == "fp32" else 0
    assert encoder_parts.update_bytes(planned, recipe.encoder.master) == roots


def test_a_small_batch_leaves_room_for_the_update_of_a_large_encoder():
    recipe = load_recipe("plain", [*SMALL, "encoder.block_width=200000", "training.batch_size=1"])
    [training] = [stage for stage in plan_memory(recipe, SIZES, BASE).training if stage.name == "training"]
    names = {part.name: part.bytes for part in training.parts}
    assert names["AdamW's temporary arrays"] > 4 * 32 * 2 * 200_000
    assert "activations" not in names


def test_encoders_of_features():
    recipe = load_recipe("plain", ["encoder={kind: features, out_features: 16}", "classifier.fan_in=8"])
    for sizes in (DataSizes(L, 100, columns=30, feature_bytes=4), DataSizes(L, 100, columns=30, values_per_text=5.0)):
        planned = encoder_parts.lay_out_encoder(recipe, sizes)
        real = build_features(recipe.encoder, 30, 0, sparse=not sizes.feature_bytes)
        tensors = sum(tensor.nbytes for tensor in real.state_dict().values())
        assert sum(part.bytes for part in encoder_parts.weight_parts(planned)) == tensors
        plan = plan_memory(recipe, sizes, BASE)
        assert BASE < plan.prediction.bytes <= plan.peak.bytes


@pytest.mark.parametrize("recipe", [name for name in shipped_recipes() if not name.startswith(("paper", "minilm"))])
def test_every_recipe_has_a_plan_that_grows_with_labels_and_texts(recipe):
    chosen = load_recipe(recipe)
    base, more_labels, more_rows = (
        plan_memory(chosen, assumed_sizes(labels, rows, chosen), BASE)
        for labels, rows in ((20_000, 50_000), (40_000, 50_000), (20_000, 5_000_000))
    )
    for plan in (base, more_labels, more_rows):
        names = [stage.name for stage in plan.training]
        assert len(set(names)) == len(names)
        assert names[0] == "reading the data"
        for stage in (*plan.training, plan.prediction):
            assert all(part.bytes > 0 for part in stage.parts)
            assert stage.parts[0].name == "Python and libraries"
            assert stage.needed == stage.bytes - sum(part.bytes for part in stage.parts if part.mapped)
        assert plan.as_dict()["peak_bytes"] == max(stage.bytes for stage in plan.training)
    assert more_labels.peak.bytes > base.peak.bytes
    assert more_rows.peak.bytes > base.peak.bytes
    assert more_labels.prediction.bytes > base.prediction.bytes


@pytest.mark.parametrize("recipe", ["default", "dense", "head-tail", "bottleneck", "masked", "rare-labels"])
def test_ways_out_do_what_they_say(recipe):
    chosen = load_recipe(recipe)
    sizes = assumed_sizes(300_000, 300_000, chosen)
    before = plan_memory(chosen, sizes, BASE).needed
    budget = BASE + int(0.8 * (before - BASE))
    *found, last = ways_out(PlannedRun(chosen, sizes, BASE), budget)
    assert last.needed <= budget
    for way in [*found, last] if len(last.settings) == 1 else found:
        assert plan_memory(changed_recipe(chosen, way.settings), sizes, BASE).needed == way.needed
        (setting,), (instead,) = way.settings, way.instead
        assert str(way).startswith(f"{setting} instead of {instead}: ")
        assert way.needed < before
    assert [way.needed for way in found] == sorted(way.needed for way in found)


def test_where_no_single_setting_is_enough_they_are_put_together():
    recipe = load_recipe("default", ["auxiliary={clusters: 20000}"])
    sizes = assumed_sizes(500_000, 100_000, recipe)
    budget = BASE + (400 << 20)
    *singles, last = ways_out(PlannedRun(recipe, sizes, BASE), budget)
    assert all(len(way.settings) == 1 and way.needed > budget for way in singles)
    assert len(last.settings) > 1
    assert plan_memory(changed_recipe(recipe, last.settings), sizes, BASE).needed == last.needed <= budget
    message = str(over_budget(PlannedRun(recipe, sizes, BASE), 5 << 30, budget, "the budget"))
    assert message.splitlines()[0].startswith("training needs about 5.0 GiB of memory; 700 MiB are the budget.")
    assert "  1. " in message


def test_a_budget_below_everything():
    recipe = small("plain")
    assert "  1." not in str(over_budget(PlannedRun(recipe, SIZES, BASE), BASE, BASE // 2, "the budget"))
    assert all(way.needed > BASE // 2 for way in ways_out(PlannedRun(recipe, SIZES, BASE), BASE // 2))


def test_features_need_their_files():
    with pytest.raises(ConfigError, match="give the data set"):
        assumed_sizes(10, None, load_recipe("plain", ["encoder={kind: features}"]))


class _Endless:
    """A data set that must not be looked at."""

    def __getattr__(self, name):
        raise AssertionError(name)


def test_without_knowledge_of_the_machine_nothing_is_refused(monkeypatch):
    monkeypatch.setattr("fanin.memory.check.find_room", lambda *_: Room(None, None, 1))
    check_memory(load_recipe("plain"), _Endless())


def test_a_run_that_does_not_fit_is_refused(monkeypatch, planted):
    from fanin.data.formats import open_dataset

    dataset, recipe = open_dataset(planted), load_recipe("plain")
    check_memory(recipe, dataset)
    monkeypatch.setattr("fanin.memory.check.find_room", lambda *_: Room(1 << 20, None, 1))
    with pytest.raises(MemoryPlanError, match="1 MiB are free, counting limits of containers"):
        check_memory(recipe, dataset)


def test_numbers_of_a_sample_grow_to_those_of_the_whole():
    np.testing.assert_allclose(SIZES.distinct_tokens(512), 100)
    assert SIZES.distinct_tokens(10**3) == pytest.approx(100 * (1000 / 512) ** 0.6)
    assert SIZES.distinct_tokens(1) == pytest.approx(100 * 512**-0.6)
