"""The cache of trained tokenizers."""

import shutil

from fanin.data.formats import open_dataset
from fanin.encoders.tokenization import Tokenizer
from fanin.folders import replacing_folder
from fanin.training import preparation
from fanin.training.preparation import prepare


def kept(cache):
    return sorted((cache / "tokenizers").iterdir())


def test_a_tokenizer_is_trained_once(planted, tiny_recipe, tmp_path, monkeypatch):
    dataset, recipe = open_dataset(planted), tiny_recipe("plain")
    first = prepare(dataset, recipe, tmp_path).tokenizer
    monkeypatch.setattr(Tokenizer, "train", None)
    assert prepare(dataset, recipe, tmp_path).tokenizer.key == first.key
    assert len(kept(tmp_path)) == 1


def test_another_version_of_the_code_has_tokenizers_of_its_own(planted, tiny_recipe, tmp_path, monkeypatch):
    dataset, recipe = open_dataset(planted), tiny_recipe("plain")
    prepare(dataset, recipe, tmp_path)
    monkeypatch.setattr(preparation, "TOKENIZER_VERSION", 2)
    prepare(dataset, recipe, tmp_path)
    assert len(kept(tmp_path)) == 2


def test_a_damaged_tokenizer_is_made_anew(planted, tiny_recipe, tmp_path):
    dataset, recipe = open_dataset(planted), tiny_recipe("plain")
    first = prepare(dataset, recipe, tmp_path).tokenizer
    (folder,) = kept(tmp_path)
    (folder / "fanin_tokenizer.json").rename(folder / "something else")
    assert prepare(dataset, recipe, tmp_path).tokenizer.key == first.key
    assert kept(tmp_path) == [folder]
    assert Tokenizer.load(folder).key == first.key


def test_who_is_slower_takes_the_tokenizer_of_who_was_faster(planted, tiny_recipe, tmp_path, monkeypatch):
    dataset, recipe = open_dataset(planted), tiny_recipe("plain")
    first = prepare(dataset, recipe, tmp_path).tokenizer
    (folder,) = kept(tmp_path)
    faster = shutil.move(folder, tmp_path / "faster")

    def beaten(folder, _mark):
        shutil.copytree(faster, folder)
        raise OSError("beaten")

    monkeypatch.setattr(preparation, "replacing_folder", beaten)
    assert prepare(dataset, recipe, tmp_path).tokenizer.key == first.key
    monkeypatch.setattr(preparation, "replacing_folder", replacing_folder)
    assert prepare(dataset, recipe, tmp_path).tokenizer.key == first.key
