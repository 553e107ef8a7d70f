"""Lexical features of the bag encoder: tokens as inputs of the classifier, behind the learned features."""

import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fanin.encoders.bag import BagEncoder
from fanin.errors import ConfigError
from fanin.kernels.active_inputs import ActiveInputs

V, D, LEXICAL = 20, 6, 12


def make(lexical_features=LEXICAL, **changes):
    settings = {"embedding_dim": 4, "block_width": 8, "dropout": 0.0, "token_dropout": 0.0, "seed": 3, **changes}
    encoder = BagEncoder(V, D, lexical_features=lexical_features, **settings)
    encoder.weigh_by_rarity(torch.arange(V), 100)
    return encoder


def batch(*texts):
    tokens = torch.tensor([token for text in texts for token in text], dtype=torch.int32)
    return tokens, torch.tensor([0, *(len(text) for text in texts)]).cumsum(0)


def expected_lexical(encoder, text):
    """By definition: each of the first tokens at its weight, the text's weights of Euclidean norm ``lexical_scale``."""
    own = [token for token in text if token < encoder.lexical_features]
    weights = [float(encoder.token_weights[token]) for token in own]
    norm = math.sqrt(sum(weight**2 for weight in weights))
    values = torch.zeros(encoder.lexical_features)
    for token, weight in zip(own, weights, strict=True):
        values[token] += encoder.lexical_scale * weight / norm
    return values


TEXTS = st.lists(st.lists(st.integers(0, V - 1), max_size=8), min_size=1, max_size=6)


@given(TEXTS, st.sampled_from([1, LEXICAL, V, V + 100]), st.sampled_from([0.5, 4.0]))
def test_values_are_those_of_the_definition(texts, lexical_features, scale):
    encoder = make(lexical_features, lexical_scale=scale).eval()
    x = encoder(*batch(*texts))
    assert isinstance(x, ActiveInputs)
    assert x.in_features == encoder.out_features == D + min(lexical_features, V)
    dense = x.dense()
    learned = make(0).eval()(*batch(*texts))
    torch.testing.assert_close(dense[:, :D], learned)
    for row, text in enumerate(texts):
        torch.testing.assert_close(dense[row, D:], expected_lexical(encoder, text))
    present = sorted({token for text in texts for token in text if token < encoder.lexical_features})
    assert x.columns.tolist() == [*range(D), *(D + token for token in present)]


def test_a_text_of_distinct_tokens_has_the_norm_of_the_scale():
    x = make(lexical_scale=2.5).eval()(*batch([1, 4, 11], [0], [15, 16], []))
    torch.testing.assert_close(x.dense()[:, D:].norm(dim=1), torch.tensor([2.5, 2.5, 0.0, 0.0]))


@pytest.mark.parametrize("texts", [([15, 19], [16]), ([], []), ()], ids=["none of them", "empty", "no texts"])
def test_batches_without_any_lexical_token(texts):
    x = make().eval()(*batch(*texts))
    assert x.columns.tolist() == list(range(D))
    assert x.values.shape == (len(texts), D)
    assert x.dense().shape == (len(texts), D + LEXICAL)
    assert x.values.isfinite().all()


def test_token_dropout_leaves_the_same_tokens_out_of_both_parts():
    encoder = make(V, token_dropout=0.5).train()
    tokens, offsets = batch(*([i % V, (i + 7) % V, (i + 3) % V] for i in range(60)))
    torch.manual_seed(0)
    x = encoder(tokens, offsets)
    bags, kept = encoder._bags.bags, encoder._bags.tokens
    assert 0.3 < len(kept) / len(tokens) < 0.7
    left = torch.zeros(60, V, dtype=torch.bool)
    left[bags, kept] = True
    assert torch.equal(x.dense()[:, D:] != 0, left)
    row = int(bags[0])
    again = encoder.eval()(*batch(kept[bags == row].tolist()))
    torch.testing.assert_close(x.dense()[row], again.dense()[0])


def test_only_the_learned_features_pass_a_gradient_on():
    tokens, offsets = batch([1, 2], [3, 15])
    dx = torch.randn(2, D + LEXICAL, generator=torch.Generator().manual_seed(0))
    encoder, plain = make(), make(0)
    x = encoder(tokens, offsets)
    x.values.backward(dx[:, x.columns])
    plain(tokens, offsets).backward(dx[:, :D])
    for mine, theirs in zip(encoder.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    torch.testing.assert_close(encoder.table_gradient().values, plain.table_gradient().values)


@pytest.mark.parametrize("lexical_features", [LEXICAL, V + 100])
def test_settings_and_state_rebuild_the_encoder(lexical_features):
    encoder = make(lexical_features, lexical_scale=1.5)
    assert encoder.settings["lexical_features"] == lexical_features
    twin = BagEncoder(**encoder.settings)
    stream = io.BytesIO()
    torch.save(encoder.state_dict(), stream)
    stream.seek(0)
    twin.load_state_dict(torch.load(stream, weights_only=True))
    mine, theirs = (part.eval()(*batch([1, 2, 2], [19])) for part in (encoder, twin))
    assert torch.equal(mine.values, theirs.values)
    assert torch.equal(mine.columns, theirs.columns)
    assert mine.in_features == theirs.in_features


@pytest.mark.parametrize(
    ("setting", "value"),
    [("lexical_features", -1), ("lexical_scale", 0.0), ("lexical_scale", math.inf), ("lexical_scale", math.nan)],
)
def test_bad_settings_are_refused_by_name(setting, value):
    with pytest.raises(ConfigError, match=rf"encoder\.{setting} is"):
        make(**{setting: value})
