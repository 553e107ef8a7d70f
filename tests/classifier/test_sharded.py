"""A classifier that several processes share gives what the whole one gives."""

import pytest
import torch

from fanin.classifier.banded import BandedLinear
from fanin.classifier.bottleneck import BottleneckLinear
from fanin.classifier.dense import DenseLinear
from fanin.classifier.head_tail import HeadTailLinear
from fanin.classifier.sharded import ShardedClassifier
from fanin.classifier.sparse import SparseLinear
from fanin.errors import CheckpointError, ConfigError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.spec import AdamW, Loss
from fanin.processes.group import ALONE
from fanin.processes.spread import SpreadTensors, handed_out
from process_threads import run_together

D, L = 20, 47
KINDS = {
    "sparse": lambda device=None: SparseLinear(D, L, 5, seed=1, device=device),
    "ordered": lambda device=None: SparseLinear(
        D, L, 5, 2, cluster_size=3, cluster_rate=0.5, ordered=True, seed=1, device=device
    ),
    "dense": lambda device=None: DenseLinear(D, L, seed=1, device=device),
    "bands": lambda device=None: BandedLinear(D, L, [(11, 9), (36, 4)], 2, cluster_size=4, seed=1, device=device),
    "head and tail": lambda device=None: HeadTailLinear(D, L, 4, head_labels=5, head_inputs=12, seed=1, device=device),
}
ORDER = torch.randperm(L, generator=torch.Generator().manual_seed(4))


def settle(classifier):
    if classifier.order is not None:
        classifier.order.assign(ORDER)
    classifier.set_bias(torch.linspace(-1, 1, L))
    return classifier


def batches(make_positives, count=3):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(6, D, generator=generator), make_positives(6, L, seed=step)) for step in range(count)]


def whole_of(name):
    classifier = KINDS[name]()
    classifier.order = getattr(classifier, "order", None)
    return settle(classifier)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("name", KINDS)
def test_steps_scores_and_state_are_those_of_the_whole(name, size, make_positives):
    whole, steps = whole_of(name), batches(make_positives)
    expected = [whole.train_step(x, positives, Loss.BCE, AdamW(0.1)) for x, positives in steps]
    queries = torch.randn(9, D, generator=torch.Generator().manual_seed(7))
    barred = make_positives(9, L, seed=8)
    best = {k: whole.topk(queries, k, barred) for k in (1, 5, 20, 100)}
    state = {**whole.state_dict(), **{f"update {n}": t for n, t in whole.optimizer_state().items()}}

    def work(processes):
        own = settle(ShardedClassifier(KINDS[name]("meta"), processes))
        shares = [own.train_step(x, positives, Loss.BCE, AdamW(0.1)) for x, positives in steps]
        for (loss, dx), (whole_loss, whole_dx) in zip(shares, expected, strict=True):
            assert processes.add(torch.tensor(loss, dtype=torch.float64)).item() == pytest.approx(whole_loss)
            torch.testing.assert_close(processes.add(dx), whole_dx)
        for k, (scores, labels) in best.items():
            found = own.topk(queries, k, barred)
            torch.testing.assert_close(found[0], scores)
            assert torch.equal(found[1], labels)
        held = own.own_tensors() | {f"update {n}": t for n, t in own.optimizer_state().items()}
        spread = SpreadTensors(held, processes)
        if not processes.first:
            spread.send()
            return None
        return {n: torch.cat([block.clone() for block in spread.blocks(n)]) for n in spread.whole}

    found = run_together(size, work)[0]
    assert found.keys() == state.keys()
    for part, tensor in state.items():
        torch.testing.assert_close(found[part], tensor)
    assert ShardedClassifier(KINDS[name]("meta"), ALONE).nbytes() == whole.nbytes()


@pytest.mark.parametrize("name", KINDS)
def test_a_state_is_taken_up_by_any_number(name, make_positives):
    whole, steps = whole_of(name), batches(make_positives, 4)
    for x, positives in steps[:3]:
        whole.train_step(x, positives, Loss.BCE, AdamW(0.1))
    weights, update = (
        {n: t.clone() for n, t in tensors.items()} for tensors in (whole.state_dict(), whole.optimizer_state())
    )
    loss, dx = whole.train_step(*steps[3], Loss.BCE, AdamW(0.1))

    def work(processes):
        own = ShardedClassifier(KINDS[name]("meta"), processes)
        rows = own.own_rows()
        own.take_tensors(handed_out(lambda: weights, rows, processes))
        own.load_optimizer_state(handed_out(lambda: update, rows, processes), 3)
        found, gradient = own.train_step(*steps[3], Loss.BCE, AdamW(0.1))
        assert processes.add(torch.tensor(found, dtype=torch.float64)).item() == pytest.approx(loss)
        torch.testing.assert_close(processes.add(gradient), dx)

    run_together(3, work)


def test_active_inputs_are_read_as_by_the_whole(make_positives):
    x = ActiveInputs(torch.randn(20, 9), torch.tensor([0, 1, 2, 3, 7, 8, 11, 15, 19]), D, 4)
    positives, whole = make_positives(20, L), KINDS["sparse"]()
    best = whole.topk(x, 4)
    _, dx = whole.train_step(x, positives, Loss.BCE, AdamW(0.1))

    def work(processes):
        own = ShardedClassifier(KINDS["sparse"]("meta"), processes)
        found = own.topk(x, 4)
        assert torch.equal(found[1], best[1])
        torch.testing.assert_close(processes.add(own.train_step(x, positives, Loss.BCE, AdamW(0.1))[1]), dx)

    run_together(2, work)


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(ConfigError, match="a BottleneckLinear is a baseline for one process"):
        ShardedClassifier(BottleneckLinear(D, L, 4), ALONE)
    own = ShardedClassifier(KINDS["bands"]("meta"), ALONE)
    with pytest.raises(ConfigError, match="spread over several processes"):
        own(torch.ones(2, D))
    with pytest.raises(CheckpointError, match="'weight' is of none of these parts: band0, band1"):
        own.take_tensors({"weight": torch.zeros(L, 5)})
