"""The tokenizer: ranges, independence of batches, files."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.encoders.tokenization import Tokenizer
from fanin.errors import CheckpointError, ConfigError

CORPUS = [
    "The Sea-Wolf / London, Jack",
    "The Call of the Wild / London, Jack",
    "Les Misérables / Hugo, Victor",
    "The Wild Sea / Hugo, Victor",
    "",
] * 3
KINDS = {
    "words": {"frequent_pairs": 0},
    "words and pairs": {"frequent_pairs": 20},
    "words, pairs and buckets": {
        "frequent_pairs": 3,
        "pair_buckets": 16,
        "character_buckets": 32,
        "unknown_buckets": 4,
    },
    "hashed only": {"vocabulary_size": 1, "unknown_buckets": 64, "frequent_pairs": 0, "pair_buckets": 64},
    "subwords": {"unit": "subword", "vocabulary_size": 60, "frequent_pairs": 0},
    "subwords and pairs": {"unit": "subword", "vocabulary_size": 60, "frequent_pairs": 20, "pair_buckets": 8},
}
TRAINED = {name: Tokenizer.train(CORPUS, **settings) for name, settings in KINDS.items()}
PRINTABLE = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)

each_kind = pytest.mark.parametrize("tokenizer", TRAINED.values(), ids=TRAINED.keys())


@each_kind
@given(texts=st.lists(PRINTABLE | st.sampled_from(CORPUS), max_size=6))
def test_tokens_are_in_range_and_do_not_depend_on_the_batch(tokenizer, texts):
    rows = tokenizer.encode_batch(texts)
    tokens, offsets = tokenizer.encode_flat(texts)
    assert len(rows) == len(texts)
    assert tokens.dtype == np.int32
    assert offsets.dtype == np.int64
    assert offsets[0] == 0
    assert offsets[-1] == len(tokens)
    assert ((tokens >= 0) & (tokens < tokenizer.vocabulary_size)).all()
    for row, text in zip(rows, texts, strict=True):
        assert row.dtype == np.int32
        assert row.tolist() == tokenizer.encode_batch([text])[0].tolist()


@each_kind
def test_case_accents_and_punctuation_do_not_matter(tokenizer):
    one, two, empty, marks = tokenizer.encode_batch(["les misérables HUGO", "Les: Miserables - Hugo!", "", " ?! "])
    assert len(one) > 0
    assert one.tolist() == two.tolist()
    assert len(empty) == len(marks) == 0


@each_kind
def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "new" / "folder")
    loaded = Tokenizer.load(tmp_path / "new" / "folder")
    assert loaded.key == tokenizer.key
    assert loaded.settings == tokenizer.settings
    assert loaded.vocabulary_size == tokenizer.vocabulary_size
    unseen = [*CORPUS, "a wild whale in London", "漢字"]
    for ours, theirs in zip(tokenizer.encode_batch(unseen), loaded.encode_batch(unseen), strict=True):
        assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("name", KINDS)
def test_training_again_gives_the_same_tokenizer(name):
    assert Tokenizer.train(iter(CORPUS), **KINDS[name]).key == TRAINED[name].key


def test_keys_tell_tokenizers_apart():
    keys = {tokenizer.key for tokenizer in TRAINED.values()}
    keys.add(Tokenizer.train([*CORPUS, "whale whale"], **KINDS["words"]).key)
    keys.add(Tokenizer.train([*CORPUS, "whale whale"], **KINDS["subwords"]).key)
    assert len(keys) == len(TRAINED) + 2
    assert all(len(key) == 32 for key in keys)


@each_kind
def test_another_version_of_the_code_gives_another_key(tokenizer, monkeypatch):
    before = tokenizer.key
    monkeypatch.setattr("fanin.encoders.tokenization.TOKENIZER_VERSION", 2)
    assert tokenizer.key != before


def test_frequent_pairs_are_the_most_frequent_ones():
    tokenizer = Tokenizer.train(["a b c"] * 5 + ["b c d"] * 4 + ["d a"], frequent_pairs=2, min_count=2)
    first_pair = tokenizer.vocabulary_size - 2
    tokens = tokenizer.encode_batch(["a b", "b c", "c d", "d a", "b a"])
    assert [len(row) for row in tokens] == [3, 3, 2, 2, 2]
    assert sorted(int(row[2]) for row in tokens[:2]) == [first_pair, first_pair + 1]


def test_pairs_seen_once_have_no_token():
    tokenizer = Tokenizer.train(["a b", "b a"], min_count=2)
    assert [len(row) for row in tokenizer.encode_batch(["a b"])] == [2]


@pytest.mark.parametrize("unit", ["word", "subword"])
def test_long_texts_are_cut(unit):
    tokenizer = Tokenizer.train(["a b c d e f"] * 3, unit=unit, max_length=4, frequent_pairs=0)
    assert [len(row) for row in tokenizer.encode_batch(["a b c d e f", "a b"])] == [4, 2]


@pytest.mark.parametrize("unit", ["word", "subword"])
def test_an_empty_corpus_works(unit):
    tokenizer = Tokenizer.train([], unit=unit)
    for row in tokenizer.encode_batch(["some words", ""]):
        assert (row < tokenizer.vocabulary_size).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unit": "letters"}, "choose 'word' or 'subword'"),
        ({"vocabulary_size": 0}, "vocabulary_size is 0"),
        ({"frequent_pairs": -1}, "frequent_pairs is -1"),
        ({"max_length": 2.5}, "max_length is 2.5; it must be of type int"),
        ({"unknown_buckets": 2**31}, "together, and max_length, must be below 2147483648"),
        ({"max_length": 2**31}, "together, and max_length, must be below 2147483648"),
        ({"lenght": 3}, "lenght is not a setting; the settings are unit, "),
        ({"unit": "subword", "character_buckets": 9}, "with tokenizer.unit 'word' only"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, message):
    with pytest.raises(ConfigError, match=message):
        Tokenizer.train(CORPUS, **settings)


def changed(**changes):
    return lambda text: json.dumps({**json.loads(text), **changes})


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "[" * 100_000,
        changed(format=99),
        changed(words=["a", "a"]),
        changed(words=[1, 2]),
        changed(words=None),
        changed(words=[["a"]]),
        changed(pairs=[3, 2]),
        changed(pairs=[-1]),
        changed(pairs=["x"]),
        changed(settings={"unit": "word", "max_length": 0}),
        changed(settings={"foreign": 1}),
        changed(settings=[]),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, damage):
    TRAINED["words and pairs"].save(tmp_path)
    path = tmp_path / "fanin_tokenizer.json"
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"fanin_tokenizer\.json"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("content", [None, "", "{", '{"model": {"type": "BPE"}}'])
def test_a_damaged_subword_file_is_refused_by_name(tmp_path, content):
    TRAINED["subwords"].save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["model"]["vocab"].update(sea=2**32 - 1),  # the library makes room for as many
        lambda found: found["model"]["vocab"].update(sea=0),
        lambda found: found["added_tokens"][0].update(id=2**32 - 1),
        lambda found: found["added_tokens"][0].update(content="more"),
        lambda found: found.update(normalizer=None),
        lambda found: found.update(pre_tokenizer={"type": "Whitespace"}),
        lambda found: found.update(
            truncation={"max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Left"}
        ),
        lambda found: found["model"].update(unk_token=None),
        lambda found: found["model"].update(dropout=0.5),
        lambda found: found.update(model={"type": "WordLevel", "vocab": found["model"]["vocab"], "unk_token": "[UNK]"}),
    ],
)
def test_a_subword_file_of_another_form_is_refused(change, tmp_path):
    TRAINED["subwords"].save(tmp_path)
    path = tmp_path / "tokenizer.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: a tokenizer of another form than fanin's"):
        Tokenizer.load(tmp_path)


def test_a_missing_folder_is_refused_by_name(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        Tokenizer.load(tmp_path / "nowhere")
