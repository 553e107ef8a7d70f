"""Loading transformers, theirs and ours: what is accepted, and every way to be refused."""

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from fanin.encoders.files import load_encoder, save_encoder
from fanin.encoders.transformer import lay_out_pretrained, load_pretrained
from fanin.encoders.transformer_encoder import TransformerEncoder
from fanin.errors import CheckpointError, ConfigError


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
        ({"num_hidden_layers": 5}, "hold no weights for"),
        ({"hidden_size": 64}, "encoder.model"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantised"),
    ],
)
def test_models_that_cannot_serve_are_refused(change, message, source):
    configure(source, **change)
    with pytest.raises(ConfigError, match=message):
        load_pretrained(str(source), 20)


def test_texts_longer_than_the_transformer_reads(tiny_transformer):
    with pytest.raises(ConfigError, match="encoder.max_length is 25; this transformer reads at most 24 tokens"):
        load_pretrained(str(tiny_transformer), 25)


def test_a_folder_that_is_not_there(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    with pytest.raises(ConfigError, match="encoder.model: .*missing.* cannot be loaded"):
        load_pretrained(str(tmp_path / "missing"), 20)


def test_without_transformers_the_extra_is_named(tiny_transformer, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'fanin\[text\]'"):
        load_pretrained(str(tiny_transformer), 20)
