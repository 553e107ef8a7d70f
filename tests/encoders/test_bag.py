"""The bag encoder: its vectors, its gradients, its sparse table step."""

from itertools import pairwise

import pytest
import torch

from fanin.encoders.bag import BagEncoder
from fanin.errors import CheckpointError, ConfigError

V, D = 50, 12


def make(**changes):
    settings = {"embedding_dim": 8, "block_width": 16, "dropout": 0.0, "token_dropout": 0.0, "seed": 3, **changes}
    return BagEncoder(V, D, **settings)


def batch(*texts):
    tokens = torch.tensor([token for text in texts for token in text], dtype=torch.int32)
    return tokens, torch.tensor([0, *(len(text) for text in texts)]).cumsum(0)


def unzero(encoder):
    """Gives the residual blocks, which start as the identity, something to do."""
    generator = torch.Generator().manual_seed(5)
    for block in encoder.mlp:
        block.contract.weight.data.copy_(torch.randn(block.contract.weight.shape, generator=generator) * 0.3)
    return encoder


@pytest.mark.parametrize("embedding_dim", [8, D])
def test_a_text_has_the_same_vector_alone_and_in_a_batch(embedding_dim):
    encoder = unzero(make(embedding_dim=embedding_dim)).eval()
    texts = ([1, 2, 3], [], [49], [7, 7, 7, 0], [])
    together = encoder(*batch(*texts))
    assert together.shape == (5, D)
    assert together.dtype == torch.float32
    assert torch.isfinite(together).all()
    for row, text in enumerate(texts):
        torch.testing.assert_close(encoder(*batch(text))[0], together[row])
    assert torch.equal(together[1], together[4])
    torch.testing.assert_close(encoder(*batch([3, 1, 2]))[0], together[0])  # a bag has no order


def test_an_empty_batch_gives_no_rows():
    assert make().eval()(*batch()).shape == (0, D)


def test_gradients_are_those_of_dense_autograd():
    encoder = unzero(make())
    encoder.weigh_by_rarity(torch.arange(V), 200)
    tokens, offsets = batch([1, 2, 2], [], [2, 49])
    dx = torch.randn(3, D, generator=torch.Generator().manual_seed(0))
    encoder(tokens, offsets).backward(dx)
    sparse = encoder.table_gradient()
    found = {name: parameter.grad.clone() for name, parameter in encoder.named_parameters()}

    encoder.zero_grad()
    table = encoder.table.clone().requires_grad_()
    bags = []
    for start, end in pairwise(offsets):
        weights = encoder.token_weights[tokens[start:end].long()]
        pooled = (weights[:, None] * table[tokens[start:end].long()]).sum(0)
        bags.append(pooled / weights.square().sum().sqrt() if end > start else pooled)
    encoder.final_norm(encoder.mlp(encoder.project(encoder.norm(torch.stack(bags))))).backward(dx)

    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-5)
    assert sparse.rows.tolist() == [1, 2, 49]
    torch.testing.assert_close(sparse.values, table.grad[sparse.rows], rtol=1e-4, atol=1e-5)
    assert encoder.table_gradient_norm() == pytest.approx(float(table.grad.norm()), rel=1e-4)


def test_table_step_moves_the_touched_rows_only_and_once():
    encoder = make()
    before = encoder.table.clone()
    encoder(*batch([1, 2, 2], [49])).backward(torch.randn(2, D, generator=torch.Generator().manual_seed(0)))
    encoder.table_step(0.1)
    moved = (encoder.table != before).any(1).nonzero().flatten().tolist()
    assert moved == [1, 2, 49]
    after = encoder.table.clone()
    encoder.table_step(0.1)  # no new gradient
    assert encoder.table_gradient_norm() == 0.0
    assert torch.equal(encoder.table, after)


def test_no_gradient_is_kept_without_training():
    encoder = make().eval()
    before = encoder.table.clone()
    encoder(*batch([1], [2])).backward(torch.ones(2, D))
    encoder.table_step(0.1)
    assert torch.equal(encoder.table, before)
    encoder.train()
    with torch.no_grad():
        encoder(*batch([1], [2]))
    encoder.table_step(0.1)
    assert torch.equal(encoder.table, before)


def test_learns_to_tell_texts_apart():
    encoder = make()
    tokens, offsets = batch(*([i, 20 + i, i % 3] for i in range(12)))
    target, classifier = torch.arange(12), torch.nn.Linear(D, 12)
    optimizer = torch.optim.AdamW([*encoder.dense_parameters(), *classifier.parameters()], lr=0.01)
    for _ in range(60):
        x = encoder(tokens, offsets)
        loss = torch.nn.functional.cross_entropy(classifier(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        encoder.table_step(0.02)
    assert loss.item() < 0.2
    assert torch.equal(classifier(encoder.eval()(tokens, offsets)).argmax(1), target)


def test_dropout_acts_in_training_only():
    encoder = make(dropout=0.5, token_dropout=0.5)
    tokens, offsets = batch(*([1, 2, 3, 4, 5, 6],) * 40)
    torch.manual_seed(0)
    encoder.train()
    x = encoder(tokens, offsets)
    assert 0.3 < (x == 0).float().mean() < 0.7
    kept = encoder._bags.tokens
    assert 0.3 < len(kept) / len(tokens) < 0.7
    encoder.eval()
    assert (encoder(tokens, offsets)[0] == encoder(tokens, offsets)[39]).all()


def test_rare_tokens_weigh_more():
    encoder = make()
    encoder.weigh_by_rarity(torch.tensor([1000] + [1] * (V - 1)), 1000)
    assert encoder.token_weights[0] == pytest.approx(0.1)
    assert encoder.token_weights[1] == pytest.approx(6.2146, rel=1e-4)
    encoder.eval()
    frequent, rare, both = (encoder(*batch(text))[0] for text in ([0], [1], [0, 1]))
    assert torch.dist(both, rare) < 0.2 * torch.dist(both, frequent)


def test_settings_and_state_rebuild_the_encoder():
    encoder = unzero(make())
    encoder.weigh_by_rarity(torch.arange(V), 200)
    twin = BagEncoder(**encoder.settings)
    assert torch.equal(make().table, twin.table)  # the seed decides
    twin.load_state_dict(encoder.state_dict())
    texts = batch([1, 2], [3])
    assert torch.equal(twin.eval()(*texts), encoder.eval()(*texts))


def test_the_table_is_no_parameter():
    assert all(parameter.shape[0] != V for parameter in make().dense_parameters())
    assert "table" in make().state_dict()


def test_foreign_table_state_is_refused():
    with pytest.raises(CheckpointError, match="touches"):
        make().load_table_state({"second_moment": torch.zeros(V)})


@pytest.mark.parametrize(
    ("setting", "value"),
    [("embedding_dim", 0), ("block_width", 0), ("blocks", -1), ("dropout", 1.0), ("token_dropout", -0.1)],
)
def test_bad_settings_are_refused_by_name(setting, value):
    with pytest.raises(ConfigError, match=rf"encoder\.{setting} is"):
        make(**{setting: value})
