"""A batch whose rows several processes encode gives the vectors and gradients of the whole batch, noise included."""

from itertools import pairwise

import pytest
import torch

from fanin.encoders.bag import BagEncoder
from fanin.encoders.batch_share import BatchShare, OwnNoise, shared_batch
from fanin.encoders.features import FeatureEncoder, SparseFeatureEncoder
from fanin.encoders.intermediate import IntermediateLayer
from fanin.kernels.active_inputs import ActiveInputs

TEXTS = [[1, 2, 3], [], [4, 1], [7, 7, 8, 9], [2], [5, 6]]
BAG = {"embedding_dim": 6, "block_width": 5, "dropout": 0.4, "token_dropout": 0.3}


def flat(texts):
    offsets = torch.tensor([0, *map(len, texts)]).cumsum(0)
    return torch.tensor([token for text in texts for token in text], dtype=torch.int64), offsets


def with_values(texts):
    return *flat(texts), torch.tensor([1.0 + token for text in texts for token in text])


def dense(texts):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(len(TEXTS), 5, generator=generator)
    return (rows[[TEXTS.index(text) for text in texts]],)


ENCODERS = {
    "bag": (lambda: BagEncoder(10, 8, **BAG), flat),
    "lexical": (lambda: BagEncoder(10, 8, lexical_features=10, **BAG), flat),
    "intermediate": (lambda: IntermediateLayer(BagEncoder(10, 8, **BAG), 12, dropout=0.5), flat),
    "features": (lambda: FeatureEncoder(5, 7, dropout=0.5), dense),
    "sparse features": (lambda: SparseFeatureEncoder(10, 7, dropout=0.5), with_values),
}


def encoded(encoder, make, texts, share=None):
    torch.manual_seed(3)
    with shared_batch(encoder, share):
        x = encoder(*make(texts))
    return x, torch.rand(())  # the random state goes on alike


def values(x):
    return x.dense() if isinstance(x, ActiveInputs) else x


@pytest.mark.parametrize("cuts", [(0, 2, 5, 6), (0, 6, 6), (0, 0, 1, 6)])
@pytest.mark.parametrize("name", ENCODERS)
def test_parts_are_those_of_the_whole_batch(name, cuts):
    build, make = ENCODERS[name]
    whole = build()
    x, after = encoded(whole, make, TEXTS)
    torch.autograd.backward(values(x), torch.ones_like(values(x)))
    parts, packed = [], []
    for start, stop in pairwise(cuts):
        texts, before = TEXTS[start:stop], sum(map(len, TEXTS[:start]))
        encoder = build()
        own, state = encoded(encoder, make, texts, BatchShare(start, len(TEXTS), before, sum(map(len, TEXTS))))
        assert state == after
        torch.testing.assert_close(values(own), values(x)[start:stop])
        torch.autograd.backward(values(own), torch.ones_like(values(own)))
        parts.append(encoder)
        encoder.spread_table_gradient(lambda tensor: packed.append(tensor) or [tensor])
    for name, parameter in whole.named_parameters():
        shares = [dict(part.named_parameters())[name].grad for part in parts]
        torch.testing.assert_close(sum(share for share in shares if share is not None), parameter.grad)
    for part in parts:
        part.spread_table_gradient(lambda _: packed)
        assert part.table_gradient_norm() == pytest.approx(whole.table_gradient_norm())


def test_outside_a_share_and_in_evaluation_nothing_is_noted():
    encoder = BagEncoder(10, 8, **BAG)
    with shared_batch(encoder, BatchShare(2, 6, 3, 12)):
        assert encoder.dropout.share is not None
        part = encoder.eval()(*flat(TEXTS[2:4]))
    assert encoder.dropout.share is None
    torch.testing.assert_close(part, encoder(*flat(TEXTS))[2:4])


def test_a_network_that_draws_by_itself_draws_differently_in_every_process():
    draws, after = [], []
    for first in (0, 3):
        torch.manual_seed(0)
        noise = OwnNoise()
        with shared_batch(noise, BatchShare(first, 6, 0, 0)), noise.drawn(torch.nn.Dropout(0.1), torch.device("cpu")):
            draws.append(torch.rand(4))
        after.append(torch.rand(()))
    assert not torch.equal(*draws)
    assert torch.equal(*after)


def test_drawing_by_itself_leaves_the_random_numbers_of_a_gpu_as_they_were(monkeypatch):
    restored = []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: f"state of {device}")
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: restored.append((state, device)))
    gpu, noise = torch.device("cuda", 1), OwnNoise()
    with shared_batch(noise, BatchShare(0, 6, 0, 0)), noise.drawn(torch.nn.Dropout(0.1), gpu):
        assert not restored
    assert restored == [("state of cuda:1", gpu)]


def test_a_transformer_without_noise_of_its_own_gives_the_same_in_parts(tiny_transformer):
    from fanin.encoders.transformer import load_pretrained
    from fanin.encoders.transformer_encoder import TransformerEncoder

    def build():
        encoder = TransformerEncoder(load_pretrained(str(tiny_transformer), 12).transformer, dropout=0.5).train()
        for module in encoder.transformer.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for layer in encoder.transformer.encoder.layer:
            layer.attention.self.dropout_prob = 0.0
        return encoder

    whole = build()
    x, _ = encoded(whole, flat, TEXTS)
    x.sum().backward()
    gradients = []
    for start, stop in pairwise((0, 2, 2, 6)):
        encoder = build()
        own, _ = encoded(encoder, flat, TEXTS[start:stop], BatchShare(start, 6, 0, 0))
        if start < stop:
            own.sum().backward()
        gradients.append([torch.zeros_like(p) if p.grad is None else p.grad for p in encoder.dense_parameters()])
        assert own.shape == (stop - start, whole.out_features)
    for parameter, shares in zip(whole.dense_parameters(), zip(*gradients, strict=True), strict=True):
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(sum(shares), expected, rtol=1e-3, atol=1e-3)
