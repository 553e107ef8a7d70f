"""Loading transformers, theirs and ours: what is accepted, and every way to be refused."""

import json
import re
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from fanin.encoders.files import load_encoder, save_encoder
from fanin.encoders.transformer import lay_out_pretrained, load_pretrained
from fanin.encoders.transformer_encoder import TransformerEncoder
from fanin.errors import CheckpointError, ConfigError
from fuzzing import bounded_memory


@pytest.fixture
def source(tiny_transformer, tmp_path):
    return shutil.copytree(tiny_transformer, tmp_path / "source")


@pytest.fixture
def saved(tiny_transformer, tmp_path):
    """(folder, encoder, settings) of an encoder in a model folder."""
    loaded = load_pretrained(str(tiny_transformer), 20)
    encoder = TransformerEncoder(loaded.transformer, out_features=8, pooling="cls", dropout=0.0).eval()
    folder = tmp_path / "model"
    folder.mkdir()
    assert save_encoder(encoder, loaded.tokenizer, folder) == "transformer"
    return folder, encoder, dict(encoder.settings)


def configure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_what_is_saved_comes_back(saved):
    folder, encoder, settings = saved
    again, tokenizer = load_encoder("transformer", settings, folder)
    tokens, offsets = map(torch.from_numpy, tokenizer.encode_flat(["word1 word2", "word3 " * 30]))
    assert offsets.tolist() == [0, 4, 24]
    assert torch.equal(again.eval()(tokens, offsets), encoder(tokens, offsets))
    assert again.settings == encoder.settings
    assert again.key == encoder.key


def test_a_saved_one_is_hugging_face_s_own_and_holds_no_pickle(saved):
    from transformers import AutoModel, AutoTokenizer

    folder, encoder, _ = saved
    model = AutoModel.from_pretrained(folder / "transformer")
    assert torch.equal(model.embeddings.word_embeddings.weight, encoder.transformer.embeddings.word_embeddings.weight)
    assert AutoTokenizer.from_pretrained(folder / "tokenizer")("word0")["input_ids"] == [2, 4, 3]
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".json", ".safetensors"}


def test_a_name_on_the_hub_is_read_at_the_commit_behind_it(source, tmp_path, monkeypatch):
    from huggingface_hub import constants

    cache = tmp_path / "hub" / "models--some--model"  # as the hub's library keeps what it has fetched
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("b" * 40)
    for commit, value in (("a" * 40, 1.0), ("b" * 40, 2.0)):
        rewrite(source, lambda tensors, value=value: tensors["embeddings.LayerNorm.weight"].fill_(value))
        shutil.copytree(source, cache / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name, value in (("some/model", 2.0), (f"some/model@{'a' * 40}", 1.0), (f"some/model@{'b' * 40}", 2.0)):
        loaded = load_pretrained(name, 20)
        assert torch.equal(loaded.transformer.embeddings.LayerNorm.weight, torch.full((32,), value)), name
        assert lay_out_pretrained(name, 20).transformer.config.hidden_size == 32
    with pytest.raises(ConfigError, match="encoder.model: 'some/model@cccc' cannot be loaded"):
        load_pretrained("some/model@cccc", 20)


def test_loading_draws_no_random_numbers(tiny_transformer):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_pretrained(str(tiny_transformer), 20)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 4},
        {"hidden_size": 10**9},
        {"hidden_size": "many"},
        {"vocab_size": 10**12},
        {"intermediate_size": 10**9},
        {"max_position_embeddings": 10**12},
        {"model_type": "t5"},
        {"model_type": "unheard"},
        {"_attn_implementation": "someone/kernel"},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
    ],
)
def test_a_configuration_that_promises_something_else_is_refused(change, saved):
    folder, _, settings = saved
    configure(folder / "transformer", **change)
    with pytest.raises(CheckpointError, match="transformer"):
        load_encoder("transformer", settings, folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("embeddings.LayerNorm.bias"),
        lambda t: t.update({"embeddings.LayerNorm.bias": torch.ones(31)}),
        lambda t: t.update(extra=torch.ones(3)),
        lambda t: t.update({"else": t.pop("embeddings.LayerNorm.bias")}),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, saved):
    folder, _, settings = saved
    rewrite(folder / "transformer", change)
    with pytest.raises(CheckpointError, match="transformer"):
        load_encoder("transformer", settings, folder)


@pytest.mark.parametrize(
    "name",
    [
        "transformer/config.json",
        "transformer/model.safetensors",
        "tokenizer/tokenizer.json",
        "tokenizer/fanin_tokenizer.json",
        "encoder.safetensors",
    ],
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "garbage"])
def test_damaged_files_are_refused(name, damage, saved):
    folder, _, settings = saved
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"\x80\x04garbage")
    with pytest.raises(CheckpointError, match=str(name.split("/", maxsplit=1)[0])):
        load_encoder("transformer", settings, folder)


@pytest.mark.parametrize("change", [{"last_layers": 9}, {"unheard": 1}, {"out_features": -1}, {"pooling": 3}])
def test_settings_that_do_not_fit_are_refused(change, saved):
    folder, _, settings = saved
    with pytest.raises(CheckpointError, match="transformer"):
        load_encoder("transformer", settings | change, folder)


def test_a_tokenizer_with_more_tokens_than_the_transformer_is_refused(saved):
    folder, _, settings = saved
    path = folder / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["another"] = 100
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="101 tokens"):
        load_encoder("transformer", settings, folder)


def test_pickled_weights_are_refused(source):
    (source / "model.safetensors").unlink()
    torch.save({}, source / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"no \.safetensors weights \(its \.bin weights are pickles"):
        load_pretrained(str(source), 20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "unheard"}, "cannot be loaded"),
        ({"is_encoder_decoder": True}, "with a decoder"),
        ({"num_hidden_layers": 5}, "promises 46816 weights, but the files hold"),
        ({"num_hidden_layers": 10**9}, "promises 1000000000 layers, but the files hold"),
        ({"num_hidden_layers": 1e12}, "layers, but the files hold"),
        ({"hidden_size": 10**9}, "weights, but the files hold"),
        ({"vocab_size": 10**12}, "weights, but the files hold"),
        ({"max_position_embeddings": 10**12}, "weights, but the files hold"),
        ({"num_labels": 10**9}, "promises 1000000000 labels"),
        ({"max_position_embeddings": "24"}, "cannot be loaded"),
        ({"hidden_size": 64}, "encoder.model"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantised"),
    ],
)
def test_models_that_cannot_serve_are_refused(change, message, source):
    configure(source, **change)
    for load in (load_pretrained, lay_out_pretrained):
        with bounded_memory(), pytest.raises(ConfigError, match=message) as caught:
            load(str(source), 20)
        assert str(source) in str(caught.value)


def test_weights_that_are_missing_are_named(source):
    rewrite(source, lambda tensors: tensors.update({"else": tensors.pop("embeddings.LayerNorm.bias")}))
    with pytest.raises(
        ConfigError, match=r"hold no weights for embeddings\.LayerNorm\.bias; they are of another model"
    ):
        load_pretrained(str(source), 20)


def test_weights_for_another_task_may_be_there_too(source):
    rewrite(source, lambda tensors: tensors.update({"classifier.weight": torch.ones(5, 32)}))
    assert load_pretrained(str(source), 20).transformer.config.hidden_size == 32


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "tokenizer.json",
            lambda content: content["model"]["vocab"].update(word0=2**31),
            "a token has a number that no",
        ),
        ("tokenizer_config.json", lambda content: content.update(model_max_length="512"), "model_max_length is '512'"),
        ("tokenizer_config.json", lambda content: content.update(model_max_length=[]), "model_max_length is "),
    ],
)
def test_a_tokenizer_s_numbers_are_checked(file, change, message, source):
    content = json.loads((source / file).read_text())
    change(content)
    (source / file).write_text(json.dumps(content))
    for load in (load_pretrained, lay_out_pretrained):
        with pytest.raises(ConfigError, match=message) as caught:
            load(str(source), 20)
        assert str(source) in str(caught.value)


def test_a_tokenizer_with_more_tokens_than_somebody_s_transformer_is_refused(source):
    content = json.loads((source / "tokenizer.json").read_text())
    content["model"]["vocab"]["another"] = 100
    (source / "tokenizer.json").write_text(json.dumps(content))
    for load in (load_pretrained, lay_out_pretrained):
        with pytest.raises(ConfigError, match="its tokenizer has 101 tokens, but the transformer knows 100"):
            load(str(source), 20)


def test_texts_longer_than_the_transformer_reads(tiny_transformer):
    with pytest.raises(ConfigError, match="encoder.max_length is 25; this transformer reads at most 24 tokens"):
        load_pretrained(str(tiny_transformer), 25)


def test_a_folder_that_is_not_there(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    for name in (str(tmp_path / "missing"), "./missing", "../missing", "~/missing", "./loop"):
        with pytest.raises(ConfigError, match=re.escape(f"encoder.model: there is no folder {name!r}; give a folder")):
            load_pretrained(name, 20)


def test_without_transformers_the_extra_is_named(tiny_transformer, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'fanin\[text\]'"):
        load_pretrained(str(tiny_transformer), 20)
