"""Recipes: defaults, extension, single settings, and every way to get one wrong."""

from itertools import permutations

import pytest

from fanin.errors import ConfigError
from fanin.kernels.spec import SGD, AdamW
from fanin.recipes.classifier_recipe import DenseSection, SparseSection
from fanin.recipes.recipe import Recipe
from fanin.recipes.recipe_files import load_recipe, recipe_from_values, recipe_text, shipped_recipes


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_valid_and_survives_its_own_text(name, tmp_path):
    recipe = load_recipe(name)
    path = tmp_path / "again.yaml"
    path.write_text(recipe_text(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe


@pytest.mark.parametrize(
    ("name", "twin", "width"), [("default", "dense", 512), ("quickstart", "quickstart-dense", 256)]
)
def test_dense_twin_differs_in_the_classifier_and_what_it_reads_alone(name, twin, width):
    sparse, dense = load_recipe(name), load_recipe(twin)
    assert isinstance(sparse.classifier, SparseSection)
    assert isinstance(dense.classifier, DenseSection)
    assert (sparse.encoder.lexical_features > 0, dense.encoder.lexical_features) == (True, 0)
    assert (sparse.encoder.out_features, dense.encoder.out_features) == (256, width)  # each has the better one for it
    read = {name: getattr(sparse.encoder, name) for name in ("lexical_features", "lexical_scale", "out_features")}
    encoder = dense.encoder.model_copy(update=read)
    assert (sparse.training.label_features, dense.training.label_features) == ("both", "texts")  # it starts at random
    training = dense.training.model_copy(update={"label_features": "both"})
    changed = dense.model_copy(update={"encoder": encoder, "training": training})
    assert sparse.model_copy(update={"classifier": dense.classifier}) == changed


def test_static_sparsity_is_the_plain_method_without_rewiring():
    plain, static = load_recipe("plain"), load_recipe("static")
    assert static.classifier == plain.classifier.model_copy(update={"rewiring": None})


def test_default_reads_words_alone_and_shares_weights():
    default, plain = load_recipe("default"), load_recipe("plain")
    tokenizer, classifier = default.tokenizer, default.classifier
    assert default.encoder.lexical_features <= tokenizer.vocabulary_size + tokenizer.unknown_buckets
    assert (classifier.start, classifier.cluster_size > 1) == ("tokens", True)
    assert (plain.classifier.start, plain.classifier.cluster_size, plain.encoder.lexical_features) == ("random", 0, 0)


@pytest.mark.parametrize("name", ["bottleneck", "head-tail", "masked"])
def test_baselines_differ_in_the_classifier_alone(name):
    sparse, other = load_recipe("plain"), load_recipe(name)
    assert other.classifier.kind == name.replace("-", "_")
    assert sparse.model_dump(exclude={"classifier"}) == other.model_dump(exclude={"classifier"})


def test_extending_changes_what_is_named_and_keeps_the_rest(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: default\nclassifier:\n  fan_in: 7\n", encoding="utf-8")
    base, mine = load_recipe("default"), load_recipe(path)
    assert mine.classifier.fan_in == 7
    assert mine.model_copy(update={"classifier": base.classifier}) == base


def test_another_kind_replaces_the_whole_section(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: default\nclassifier:\n  kind: dense\n", encoding="utf-8")
    assert load_recipe(path).classifier == DenseSection()


def test_set_parses_yaml_values():
    recipe = load_recipe("default", ["classifier.rewiring=null", "evaluation.ks=[1, 10]", "training.select_by=P@10"])
    assert recipe.classifier.rewiring is None
    assert recipe.evaluation.ks == (1, 10)


def test_scientific_notation_without_a_dot_is_a_number(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("encoder:\n  optimizer:\n    learning_rate: 1e-3\n", encoding="utf-8")
    assert load_recipe(path).encoder.optimizer.learning_rate == 1e-3


def test_steps_of_warm_up_take_the_place_of_the_share(tmp_path):
    recipe = load_recipe("default", ["classifier.schedule.warmup_steps=30"])
    assert (recipe.classifier.schedule.warmup_share, recipe.classifier.schedule.warmup_steps) == (None, 30)
    (tmp_path / "again.yaml").write_text(recipe_text(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "again.yaml") == recipe


def test_updates_are_built_with_the_step_s_learning_rate():
    values = {"classifier": {"update": {"kind": "sgd", "momentum": 0.9}}}
    assert recipe_from_values(values, "test").classifier.update.at(0.5) == SGD(0.5, momentum=0.9)
    assert Recipe().classifier.update.at(0.25) == AdamW(0.25)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["classifier.fanin=3"], "'classifier.fanin' (did you mean 'fan_in'?)"),
        (["trainings.epochs=3"], "'trainings' (did you mean 'training'?)"),
        (["classifier.rewiring.fration=0.1"], "did you mean 'fraction'?"),
        (["training.epochs=many"], "training.epochs"),
        (["training.epochs=0"], "training.epochs"),
        (["classifier.kind=narrow"], "'sparse', 'dense', 'dense_autograd', 'bottleneck', 'head_tail', 'masked'"),
        (["classifier={kind: bottleneck, width: 999}"], "classifier.width is 999 and encoder.out_features only 256"),
        (["classifier={kind: masked, fan_in: 999}"], "classifier.fan_in is 999 and encoder.out_features only 256"),
        (["classifier={kind: masked, rewiring: {grow: gradient}}"], "unknown setting 'classifier.rewiring.grow'"),
        (["classifier={kind: head_tail, head_share: 1.0}"], "classifier.head_share"),
        (
            ["encoder.lexical_features=0", "classifier={kind: head_tail, start: tokens}"],
            "set encoder.lexical_features above 0",
        ),
        (
            ["classifier.fan_in_by_frequency=[{share: 0.4, fan_in: 64}, {share: 0.6, fan_in: 9}]"],
            "classifier.fan_in_by_frequency: the shares add up to 1; they must leave some",
        ),
        (["classifier.fan_in_by_frequency=[{share: 0, fan_in: 64}]"], "classifier.fan_in_by_frequency.0.share"),
        (["classifier.fan_in_by_frequency=[{share: .nan, fan_in: 64}]"], "classifier.fan_in_by_frequency.0.share"),
        (["classifier.fan_in_by_frequency=[{share: 0.1}]"], "classifier.fan_in_by_frequency.0.fan_in"),
        (
            ["classifier.fan_in_by_frequency=[{share: 0.1, fanin: 64}]"],
            "'classifier.fan_in_by_frequency.0.fanin' (did you mean 'fan_in'?)",
        ),
        (["classifier.fan_in_by_frequency={share: 0.1, fan_in: 64}"], "classifier.fan_in_by_frequency"),
        (["encoder.out_features=16", "classifier.fan_in=17"], "fan_in is 17 and encoder.out_features only 16"),
        (["encoder.lexical_features=0"], "above 0, or classifier.start to random or centroids"),
        (["encoder.kind=transformer"], "which an encoder of kind transformer has not; set it to random or centroids"),
        (["encoder={kind: features}"], "which an encoder of kind features has not; set it to random or centroids"),
        (["encoder.kind=features", "encoder.blocks=2"], "'encoder.blocks': this kind of encoder, features, has none"),
        (["classifier.kind=dense", "classifier.fan_in=9"], "'classifier.fan_in': this kind of classifier, dense"),
        (["classifier.start=centroids", "encoder.lexical_features=10"], "classifier.start centroids knows learned"),
        (["classifier.start=warm"], "'random', 'centroids' or 'tokens'"),
        (["classifier.start_gain=0"], "classifier.start_gain"),
        (["classifier.start_gain=.inf"], "classifier.start_gain"),
        (["classifier.own_text_margin=1.5"], "classifier.own_text_margin"),
        (["classifier.cluster_size=-1"], "classifier.cluster_size"),
        (["classifier.cluster=16"], "'classifier.cluster' (did you mean 'cluster_size'?)"),
        (["classifier.related_labels=2"], "classifier.related_labels"),
        (["encoder.lexical_features=-1"], "encoder.lexical_features"),
        (["encoder.lexical_scale=0"], "encoder.lexical_scale"),
        (["encoder.lexical_scale=.nan"], "encoder.lexical_scale"),
        (["classifier.kind=dense", "classifier.cluster_size=4"], "classifier.cluster_size"),
        (["training.select_by=accuracy"], "must be one of"),
        (["classifier.update.momentum=0.9"], "momentum belongs to kind sgd"),
        (["encoder.optimizer.learning_rate=.nan"], "learning_rate"),
        (["classifier.fan_in"], "write section.key=value"),
        (["a..b=1"], "write section.key=value"),
        (["classifier.fan_in=[1"], "not plain YAML"),
        (["classifier=3"], "classifier"),
        (["dense=1"], "unknown setting 'dense'"),
        (["sparse={}"], "unknown setting 'sparse'"),
        (["classifier.dense=1"], "unknown setting 'classifier.dense'"),
        (["encoder.sparse.a=1"], "unknown setting 'encoder.sparse'"),
        (["extends=dense"], "--recipe"),
        (["training.seed=2024-13-45"], "not plain YAML"),
        (["training.seed=!!int abc"], "not plain YAML"),
        (["training.seed=!!int 3"], "a tag in line 1"),
        (["training.seed=! 3"], "a tag in line 1"),
        (["training.seed=!!bool maybe"], "not plain YAML"),
        (["training.seed=" + "[" * 5000], "nested too deeply"),
        (["training.seed=&a 3"], "an anchor or alias"),
        (["training={seed: 1, seed: 2}"], "stands twice"),
        (["training.seed=" + "9" * 5000], "not plain YAML"),
        (["training.seed=0x" + "f" * 9000], "training.seed"),
        ([".".join(["a"] * 5000) + "=1"], "write section.key=value"),
        (["classifier.kind=[1]"], "classifier"),
        (["classifier.kind=null"], "classifier: must be a section of kind 'sparse' or 'dense'"),
        (["evaluation.ks=[1001]"], "evaluation.ks.0"),
        (["evaluation.ks=[" + "1," * 21 + "]"], "evaluation.ks"),
        (["encoder.out_features=2147483648"], "encoder.out_features"),
        (["tokenizer.unknown_buckets=9999999999999999999999"], "tokenizer.unknown_buckets"),
        (["tokenizer.unknown_buckets=2147483647"], "unknown_buckets, frequent_pairs"),
        (["classifier.weights=[bf16]"], "classifier.weights"),
        (["training.seed=9223372036854775808"], "training.seed"),
        (["encoder.table.warmup_steps=9", "encoder.table.warmup_share=0.1"], "encoder.table: the warm-up has a share"),
        (["encoder.table.warmup_share=null"], "encoder.table: the warm-up has a share"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ConfigError) as caught:
        load_recipe("default", settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "setting",
    [
        "training.select_by=" + "x" * 10**5,
        "training.epochs=" + "x" * 10**5,
        "training.epochs=[" + "1," * 10**4 + "]",
        "classifier.kind=" + "x" * 10**5,
        "x" * 10**5 + "=1",
        "x" * 10**5,
        "training={" + ",".join(f"x{i}: 1" for i in range(2000)) + "}",
    ],
)
def test_messages_stay_short(setting):
    with pytest.raises(ConfigError) as caught:
        load_recipe("default", [setting])
    assert len(str(caught.value)) < 3000


def test_a_section_without_a_kind_is_of_the_default_kind(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("classifier: {fan_in: 7, update: {eps: 1.0e-5}}\n", encoding="utf-8")
    recipe = load_recipe(path, ["classifier.kind=sparse", "classifier.update.kind=adamw"])
    assert (recipe.classifier.fan_in, recipe.classifier.update.eps) == (7, 1e-5)
    assert load_recipe(path, ["classifier.kind=dense"]).classifier == DenseSection()


def test_the_order_of_settings_does_not_matter():
    settings = ["classifier.kind=dense", "classifier.initial_scale=0.5", "classifier.update={kind: sgd}"]
    settings.append("classifier.update.momentum=0.9")
    recipes = [load_recipe("default", order) for order in permutations(settings)]
    assert recipes[0].classifier.initial_scale == 0.5
    assert recipes[0].classifier.update.momentum == 0.9
    assert all(recipe == recipes[0] for recipe in recipes)
    assert load_recipe("default", ["training.seed=1", "training.seed=2"]).training.seed == 2


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        load_recipe("default", ["training.epochs=0", "classifier.fan=3", "encoder.dropout=1.5"])
    for part in ("training.epochs", "'classifier.fan'", "encoder.dropout"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!python/object/apply:os.system ['true']", "not plain YAML"),
        ("training: {epochs: 1}\ntraining: {epochs: 2}", "stands twice"),
        ("- a\n- b", "must be a mapping"),
        ("training: [", "not plain YAML"),
        ("extends: defalt", "extends 'defalt'"),
        ("extends: [default]", "extends"),
        ("1: 2", "must be a mapping"),
        ("? [a]\n: b", "not plain YAML"),
        ("dense: 1", "unknown setting 'dense'"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "an anchor or alias in line 1"),
        ("training: {seed: 2024-13-45}", "not plain YAML"),
        ("training: !!map {seed: 1}", "a tag in line 1"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_wrong_files_are_refused(text, message, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="wrong.yaml") as caught:
        load_recipe(path)
    assert message in str(caught.value)


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'default'"):
        load_recipe("defualt")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"training: \xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_recipe(tmp_path / "latin.yaml")


def test_recipes_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_recipe().training.epochs = 3
