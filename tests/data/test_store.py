import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import fanin
from fanin.data.building import build_store
from fanin.data.formats import open_dataset
from fanin.data.store import Store
from fanin.errors import ConfigError, DataError
from full_disk import full_disk

SOURCES = str(Path(fanin.__file__).parent.parent)


def lengths(texts):
    """A tokenizer that turns each word into its length."""
    return [[len(word) for word in text.split()] for text in texts]


def never(texts):
    pytest.fail("the texts were tokenised again")


def rows(values, indptr):
    return [values[a:b].tolist() for a, b in pairwise(indptr)]


def test_holds_tokens_labels_and_names(raw_text, tmp_path):
    dataset = open_dataset(raw_text(filter_labels_test="0 1\n"))
    seen = []
    store = build_store(dataset, lengths, "lengths", tmp_path / "cache", lambda done, total: seen.append((done, total)))
    train, test = store.split("train"), store.split("test")
    assert rows(train.tokens, train.tokens_indptr) == [[3, 5], [5, 4], [3, 6], []]
    assert rows(train.labels, train.labels_indptr) == [[0, 1], [0], [1], []]
    assert (len(train), len(test)) == (4, 2)
    assert (train.tokens.dtype, train.labels.dtype, train.tokens_indptr.dtype) == (np.uint16, np.int32, np.int64)
    assert list(store.vocabulary) == ["fruit", "red thing", "unseen"]
    assert (store.split_names, store.n_labels) == (("train", "test"), 3)
    assert store.excluded("train") is None
    assert rows(store.excluded("test").indices, store.excluded("test").indptr) == [[1], []]
    assert seen == [(4, 6), (6, 6)]
    with pytest.raises(ValueError, match="read-only"):
        train.tokens[0] = 1
    with pytest.raises(DataError, match="no 'dev' split"):
        store.split("dev")


def test_the_second_opening_reads_no_text(raw_text, tmp_path):
    folder = raw_text()
    first = build_store(open_dataset(folder), lengths, "lengths", tmp_path / "cache")
    second = build_store(open_dataset(folder), never, "lengths", tmp_path / "cache")
    assert first.folder == second.folder
    other = build_store(open_dataset(folder), lengths, "other tokenizer", tmp_path / "cache")
    assert other.folder != first.folder


@pytest.mark.parametrize("size", [0, 100, 1500, 4000])  # of files of 800 to 4800 bytes
def test_on_a_full_disk_none_is_made_and_the_others_are_kept(size, raw_text, tmp_path):
    labels, texts = "400 3\n" + "0:1\n" * 400, "a few words\n" * 400
    dataset, cache = open_dataset(raw_text(trn_X=texts, trn_X_Y=labels)), tmp_path / "cache"
    first = build_store(dataset, lengths, "lengths", cache)
    with full_disk(size), pytest.raises(ConfigError, match=f"{cache / 'stores'}: the store of .* cannot be written"):
        build_store(dataset, lengths, "other tokenizer", cache)
    assert list((cache / "stores").iterdir()) == [first.folder]
    assert build_store(dataset, never, "lengths", cache).folder == first.folder
    assert len(build_store(dataset, lengths, "other tokenizer", cache).split("train")) == 400


def test_a_split_is_mapped_once(raw_text, tmp_path):
    store = build_store(open_dataset(raw_text()), lengths, "lengths", tmp_path / "cache")
    assert store.split("train").tokens is store.split("train").tokens
    assert store.split("test").tokens is not store.split("train").tokens


@pytest.mark.parametrize(("largest", "dtype"), [(65_535, np.uint16), (65_536, np.int32)])
def test_tokens_take_16_bits_where_they_fit(raw_text, tmp_path, largest, dtype):
    def tokenize(texts):
        return [np.array([0, largest]) for _ in texts]

    split = build_store(open_dataset(raw_text()), tokenize, "large", tmp_path).split("train")
    assert split.tokens.dtype == dtype
    assert split.tokens.tolist() == [0, largest] * 4


def test_texts_without_any_token_or_label(raw_text, tmp_path):
    dataset = open_dataset(raw_text(tst_X_Y="2 3\n\n\n"))
    store = build_store(dataset, lambda texts: [[] for _ in texts], "nothing", tmp_path)
    test = store.split("test")
    assert (len(test), len(test.tokens), len(test.labels)) == (2, 0, 0)


def test_many_blocks_keep_their_order(tmp_path):
    n = 25_000
    path = tmp_path / "train.jsonl"
    path.write_text("".join(f'{{"text": "{i}", "labels": ["x"]}}\n' for i in range(n)))
    blocks = []

    def tokenize(texts):
        blocks.append(len(texts))
        return [[int(text)] for text in texts]

    store = build_store(open_dataset(path), tokenize, "numbers", tmp_path / "cache")
    assert store.split("train").tokens.tolist() == list(range(n))
    assert max(blocks) <= 10_000


@pytest.mark.parametrize("damage", ["truncate", "delete", "meta", "foreign meta", "version"])
def test_a_damaged_store_is_found_and_built_again(raw_text, tmp_path, damage):
    dataset = open_dataset(raw_text())
    folder = build_store(dataset, lengths, "lengths", tmp_path).folder
    meta = json.loads((folder / "meta.json").read_bytes())
    if damage == "truncate":
        os.truncate(folder / "train.tokens.bin", 6)
    elif damage == "delete":
        (folder / "labels.jsonl").unlink()
    elif damage == "meta":
        os.truncate(folder / "meta.json", 20)
    else:
        (folder / "meta.json").write_text("[]" if damage == "foreign meta" else json.dumps({**meta, "version": 99}))
    with pytest.raises(DataError, match="delete the folder"):
        Store(folder)
    again = build_store(dataset, lengths, "lengths", tmp_path)
    assert again.split("train").tokens.tolist() == [3, 5, 5, 4, 3, 6]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_an_error_leaves_nothing(raw_text, tmp_path):
    def fail(texts):
        raise RuntimeError("tokenizer broke")

    with pytest.raises(RuntimeError, match="tokenizer broke"):
        build_store(open_dataset(raw_text()), fail, "broken", tmp_path / "cache")
    assert list((tmp_path / "cache" / "stores").iterdir()) == []


def test_a_killed_process_leaves_no_store_and_its_draft_goes_in_time(raw_text, tmp_path):
    folder, cache = raw_text(), tmp_path / "cache"
    program = (
        "import os, sys; from pathlib import Path; from fanin.data import build_store, open_dataset\n"
        "build_store(open_dataset(sys.argv[1]), lambda texts: os._exit(9), 'lengths', Path(sys.argv[2]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, folder, cache], env={**os.environ, "PYTHONPATH": SOURCES}, check=False
    )
    assert run.returncode == 9
    (draft,) = (cache / "stores").iterdir()
    assert draft.name.startswith("draft-")
    store = build_store(open_dataset(folder), lengths, "lengths", cache)
    assert draft.exists()
    for path in (draft, *draft.rglob("*")):
        os.utime(path, (time.time() - 2 * 24 * 3600,) * 2)
    build_store(open_dataset(folder), lengths, "other", cache)
    assert not draft.exists()
    assert store.split("train").tokens.tolist() == [3, 5, 5, 4, 3, 6]


def test_two_builders_at_once_both_succeed(raw_text, tmp_path):
    dataset = open_dataset(raw_text())
    others = []

    def slow(texts):  # another builder starts and finishes while this one is at work
        others.append(build_store(open_dataset(dataset.path), lengths, "lengths", tmp_path / "cache"))
        return lengths(texts)

    store = build_store(dataset, slow, "lengths", tmp_path / "cache")
    assert store.folder == others[0].folder
    assert store.split("test").tokens.tolist() == others[0].split("test").tokens.tolist() == [3, 4, 5, 5]
    assert len(list((tmp_path / "cache" / "stores").iterdir())) == 1


def test_files_that_change_meanwhile_are_refused(raw_text, tmp_path):
    folder = raw_text()

    def tamper(texts):
        (folder / "tst_X.txt").write_text("other\ntexts\n")
        return lengths(texts)

    with pytest.raises(DataError, match="changed while they were read"):
        build_store(open_dataset(folder), tamper, "lengths", tmp_path / "cache")
    assert list((tmp_path / "cache" / "stores").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(raw_text, tmp_path):
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(ConfigError, match="cannot be written .* FANIN_CACHE"):
        build_store(open_dataset(raw_text()), lengths, "lengths", tmp_path / "cache")
