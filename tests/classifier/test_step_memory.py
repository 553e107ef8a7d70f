"""What a step, top-k and rewiring make for a while: never all logits, and no state that the update does not use."""

import pytest
import torch

from fanin.classifier.banded import BandedLinear
from fanin.classifier.bottleneck import BottleneckLinear
from fanin.classifier.dense import DenseLinear
from fanin.classifier.head_tail import HeadTailLinear
from fanin.classifier.label_bands import LabelBands
from fanin.classifier.sparse import SparseLinear
from fanin.kernels.spec import SGD, AdamW, Loss, Positives, Prune
from fanin.training.auxiliary import AuxiliaryObjective
from live_tensors import LiveTensors

D, L, B = 16, 240_000, 24
LOGITS = 4 * B * L
ROOM = 8 << 20  # a piece of vectors in fewer bits, widened; the same for any number of labels
LAYERS = {
    "sparse": lambda dtype: SparseLinear(D, L, 4, dtype=dtype),
    "groups": lambda dtype: SparseLinear(D, L, 4, 32, dtype=dtype),
    "clusters": lambda dtype: SparseLinear(D, L, 4, cluster_size=16, ordered=True, dtype=dtype),
    "dense": lambda dtype: DenseLinear(D, L, dtype=dtype),
    "head and tail": lambda dtype: HeadTailLinear(D, L, 4, head_labels=80_000, dtype=dtype),
    "bands": lambda dtype: BandedLinear(D, L, [(80_000, 8), (160_000, 4)], dtype=dtype),
    "bottleneck": lambda _: BottleneckLinear(D, L, 4),
}
DTYPES = {name: ["float32"] if name == "bottleneck" else ["float32", "bfloat16"] for name in LAYERS}
CASES = [(name, dtype) for name, dtypes in DTYPES.items() for dtype in dtypes]


@pytest.fixture(params=["reference", "cpu"])
def one_backend(request, monkeypatch):
    """Every operation by one backend; the compiled core's own room is no tensor, and its tests count it."""
    monkeypatch.setenv("FANIN_BACKEND", request.param)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(B, D, generator=generator)
    return x, Positives(torch.arange(B + 1), torch.randint(L, (B,), generator=generator))


@pytest.mark.usefixtures("one_backend")
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_logits_are_never_whole(name, dtype, batch):
    layer, (x, positives) = LAYERS[name](dtype), batch
    known = (x, positives.indptr, positives.indices, *layer.state_dict().values())
    with LiveTensors(*known) as made:
        layer.train_step(x, positives, Loss.BCE, SGD(0.1))
    assert made.most < LOGITS / 2 + ROOM
    with LiveTensors(*known) as made:
        layer.topk(x, 5)
    assert made.most < LOGITS / 2 + ROOM


@pytest.mark.parametrize("name", LAYERS)
def test_momentum_is_there_only_where_it_is_used(name, batch):
    weights = {state: LAYERS[name]("float32") for state in (0, 1, 2)}
    updates = {0: SGD(0.1), 1: SGD(0.1, momentum=0.9), 2: AdamW(0.1)}
    for count, layer in weights.items():
        layer.train_step(*batch, Loss.BCE, updates[count])
        numbers = sum(parameter.numel() for parameter in layer.parameters())
        assert sum(tensor.numel() for tensor in layer.optimizer_state().values()) == count * numbers


@pytest.mark.parametrize("update", [SGD(0.1, momentum=0.9), AdamW(0.1)])
@pytest.mark.parametrize("name", ["sparse", "groups", "bands"])
def test_the_state_of_regrown_connections_is_cleared_in_place(name, update, batch):
    layer = LAYERS[name]("float32")
    layer.train_step(*batch, Loss.BCE, update)
    state = layer.optimizer_state()
    places = {key: tensor.data_ptr() for key, tensor in state.items()}
    known = (*layer.state_dict().values(), *state.values())
    with LiveTensors(*known) as made:
        for part in layer.sparse_parts():
            before = part.layer.index.clone()
            part.layer.rewire(Prune(0.25), seed=5)
            kept = (part.layer.index == before).repeat_interleave(part.layer.group_size, 0)[: part.layer.out_features]
            for moment in (own for key, own in part.layer.optimizer_state().items() if key.startswith("weight.")):
                assert bool((moment[~kept] == 0).all())
                assert bool((moment[kept] != 0).any())
    assert {key: tensor.data_ptr() for key, tensor in layer.optimizer_state().items()} == places
    assert made.largest <= max(part.layer.weight.numel() for part in layer.sparse_parts()) * 8  # of this test
    assert isinstance(layer, LabelBands) == (name == "bands")


def test_the_auxiliary_objective_works_in_chunks(batch):
    x, positives = batch
    clusters = torch.arange(L) // 2
    objective = AuxiliaryObjective(clusters, D, torch.zeros(L // 2), scale=0.4, cutoff=5)
    known = (x, positives.indptr, positives.indices, clusters, *objective.classifier.state_dict().values())
    with LiveTensors(*known) as made:
        objective.train_step(x, positives, 0.4, SGD(0.1))
    assert made.most < LOGITS / 2 / 2
