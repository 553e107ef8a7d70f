"""What the binding refuses before it reaches compiled code, and layers whose weights pass 2^31 elements."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from fanin.errors import BackendError
from fanin.kernels.rounding import round_stochastically
from fanin.kernels.spec import SGD, AdamW, Loss, Moments, Positives, Prune, SharedScores, SparseWeights

L, D, F, B = 12, 9, 3, 4
NO_POSITIVES = Positives(torch.zeros(B + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))


@pytest.fixture
def core(compiled_core):
    from fanin.kernels.cpu import CpuBackend

    return CpuBackend()


@pytest.fixture
def layer(core):
    return SparseWeights(torch.randn(L, F), core.draw_index(L, F, D, 1), torch.zeros(L), 1, D)


def _step(core, layer, x=None, positives=NO_POSITIVES, update=None, moments=None, shared=None):
    x = torch.zeros(B, D) if x is None else x
    update, moments = update or SGD(0.1), moments or Moments()
    return core.train_step(layer, moments, x, positives, loss=Loss.BCE, update=update, step=1, scale=1.0, shared=shared)


def _operations(core, layer, x):
    return [
        lambda: core.forward(layer, x),
        lambda: core.topk(layer, x, 2, None),
        lambda: core.grad_weight(layer, torch.zeros(B, L), x),
        lambda: _step(core, layer, x),
    ]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(B, D, dtype=torch.float64), "float64"),
        (torch.zeros(D, B).T, "non-contiguous"),
        (torch.zeros(B, 2 * D)[:, ::2], "non-contiguous"),
        (torch.zeros(B, D, device="meta"), "meta"),
        (torch.zeros(B, D + 1), r"shape \(4, 10\); the layer needs \(B, 9\)|needs \(4, 9\)"),
        (torch.zeros(B * D), r"shape \(36,\)"),
    ],
)
def test_input_of_the_wrong_kind(core, layer, x, message):
    for operation in _operations(core, layer, x):
        with pytest.raises(BackendError, match=message):
            operation()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.zeros(L, F, dtype=torch.float64)}, "weights as contiguous float32"),
        ({"weight": torch.zeros(L, F, dtype=torch.float16)}, "weights as contiguous float32"),
        ({"weight": torch.zeros(L, F, dtype=torch.uint16)}, "weights as contiguous float32"),
        ({"weight": torch.zeros(F, L).T}, "non-contiguous"),
        ({"weight": torch.zeros(F, L, dtype=torch.bfloat16).T}, "contiguous bfloat16 on the CPU, not non-contiguous"),
        ({"weight": torch.zeros(L, F, dtype=torch.bfloat16), "bias": torch.zeros(L).bfloat16()}, "bias as contiguous"),
        ({"index": torch.zeros(L, F, dtype=torch.int32)}, "index as contiguous uint16"),
        ({"index": torch.zeros(L, F + 1, dtype=torch.uint16)}, "index has to be"),
        ({"index": torch.zeros(L - 1, F, dtype=torch.uint16)}, "index has to be"),
        ({"bias": torch.zeros(L - 1)}, "bias has to be"),
        ({"bias": torch.zeros(2 * L)[::2]}, "the bias as contiguous"),
        ({"group_size": 2}, "index has to be"),
        ({"group_size": 0}, "layer"),
        ({"in_features": F - 1}, "F > D"),
    ],
)
def test_layer_of_the_wrong_kind(core, layer, change, message):
    with pytest.raises(BackendError, match=message):
        core.topk(replace(layer, **change), torch.zeros(B, change.get("in_features", D)), 1, None)


@pytest.mark.parametrize(
    ("indptr", "labels", "message"),
    [
        ([0, 1, 1, 1], [0], r"shape \(4,\)"),
        ([0, 1, 1, 1, 2], [0], "end with the number of entries"),
        ([1, 1, 1, 1, 1], [0], "start with 0"),
        ([0, 2, 1, 1, 1], [0], "ascending"),
        ([0, 1, 1, 1, 1], [L], r"label 12 is not in \[0, 12\)"),
        ([0, 1, 1, 1, 1], [-1], "label -1"),
    ],
)
def test_positives_of_the_wrong_kind(core, layer, indptr, labels, message):
    positives = Positives(torch.tensor(indptr), torch.tensor(labels))
    weight = layer.weight.clone()
    with pytest.raises(BackendError, match=message):
        _step(core, layer, positives=positives)
    with pytest.raises(BackendError, match=message):
        core.topk(layer, torch.zeros(B, D), 1, positives)
    assert torch.equal(layer.weight, weight)


def test_positives_of_the_wrong_dtype(core, layer):
    with pytest.raises(BackendError, match="positives as contiguous int64"):
        _step(core, layer, positives=Positives(NO_POSITIVES.indptr.int(), NO_POSITIVES.indices))


@pytest.mark.parametrize(
    ("scores", "cluster_size", "message"),
    [
        (torch.zeros(B, 3), 4, r"shape \(4, 3\); 12 labels in clusters of 4 and 4 rows need \(K, B\) = \(3, 4\)"),
        (torch.zeros(3, B), 6, r"need \(K, B\) = \(2, 4\)"),
        (torch.zeros(2, B - 1), 6, r"need \(K, B\) = \(2, 4\)"),
        (torch.zeros(B, 3).T, 4, "the shared scores as contiguous"),
        (torch.zeros(3, B, dtype=torch.float64), 4, "float64"),
        (torch.zeros(1, B), 0, "cluster_size is 0"),
    ],
)
def test_shared_scores_of_the_wrong_kind(core, layer, scores, cluster_size, message):
    x, shared = torch.zeros(B, D), SharedScores(scores, cluster_size)
    operations = [
        lambda: core.forward(layer, x, shared),
        lambda: core.topk(layer, x, 2, None, shared),
        lambda: _step(core, layer, x, shared=shared),
    ]
    for operation in operations:
        with pytest.raises(BackendError, match=message):
            operation()


@pytest.mark.parametrize("update", [SGD(0.1), SGD(0.1, momentum=0.9), AdamW(0.1)])
def test_moments_that_do_not_fit_the_update(core, layer, update):
    def moments(count):
        return Moments(
            tuple(torch.zeros(L, F) for _ in range(count)),
            tuple(torch.zeros(L) for _ in range(count)),
        )

    right = {"SGD": int(getattr(update, "momentum", 0) > 0), "AdamW": 2}[type(update).__name__]
    _step(core, layer, update=update, moments=moments(right))
    for wrong in {0, 1, 2} - {right}:
        with pytest.raises(BackendError, match="moments"):
            _step(core, layer, update=update, moments=moments(wrong))
    with pytest.raises(BackendError, match=r"a moment of the weights has shape \(1, 3\)"):
        _step(core, layer, moments=Moments((torch.zeros(1, F),), ()))


def test_parameters_that_require_gradients_are_served(core, layer):
    trained = replace(layer, weight=torch.nn.Parameter(layer.weight), bias=torch.nn.Parameter(layer.bias))
    before = trained.weight.detach().clone()
    _, dx, _ = _step(core, trained, torch.ones(B, D))
    assert not torch.equal(trained.weight, before)
    assert not dx.requires_grad


@pytest.mark.parametrize(
    ("values", "stored", "message"),
    [
        (
            torch.zeros(3),
            torch.zeros(3),
            r"belong to bfloat16 or float8_e4m3fn of the same shape, not to \(3,\) float32",
        ),
        (torch.zeros(3), torch.zeros(3).half(), "not to .* float16"),
        (torch.zeros(3, 2), torch.zeros(6).bfloat16(), r"float32 values \(3, 2\) belong to .* not to \(6,\)"),
        (torch.zeros(3).double(), torch.zeros(3).bfloat16(), "the values as contiguous float32"),
        (torch.zeros(6)[::2], torch.zeros(3).bfloat16(), "the values as contiguous"),
        (torch.zeros(3), torch.zeros(6).bfloat16()[::2], "the numbers in fewer bits as contiguous"),
    ],
)
def test_values_that_do_not_fit_what_is_stored(core, values, stored, message):
    with pytest.raises(BackendError, match=message):
        core.round_into(values, stored, 0, 1)
    with pytest.raises(BackendError, match=message):
        core.widen_into(stored, values)


@pytest.mark.parametrize("inputs", [0, -1, D + 1])
def test_regrowth_among_inputs_that_are_not_there(core, layer, inputs):
    index = layer.index.clone()
    with pytest.raises(BackendError, match="inputs"):
        core.rewire(layer, Moments(), Prune(0.5), 1, inputs)
    assert torch.equal(layer.index, index)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="relies on untouched memory taking none")
@pytest.mark.parametrize("G", [1024, 2**20])
def test_weights_beyond_2_to_31_elements(core, G):
    # 2^26 + 1024 labels of 32 weights, all zero: pages that are only read take no memory.
    labels = 2**26 + 1024
    weight = torch.from_numpy(np.zeros((labels, 32), dtype=np.float32))
    layer = SparseWeights(weight, core.draw_index(-(-labels // G), 32, 40, 1), None, G, 40)
    wanted = [labels - 1, 2**26, 5]
    for score, label in zip((3.0, 2.0, 1.0), wanted, strict=True):
        weight[label] = score
    scores, found = core.topk(layer, torch.ones(1, 40), 3, None)
    assert found.tolist() == [wanted]
    assert scores.tolist() == [[96.0, 64.0, 32.0]]


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="relies on untouched memory taking none")
def test_stored_weights_beyond_2_to_32_elements(core):
    labels, G = 2**27 + 64, 1024
    weight = torch.from_numpy(np.zeros((labels, 32), dtype=np.uint8)).view(torch.float8_e4m3fn)
    layer = SparseWeights(weight, core.draw_index(-(-labels // G), 32, 40, 1), None, G, 40, rounding_seed=5)
    wanted = [labels - 1, 2**27, 5]
    for score, label in zip((3.0, 2.0, 1.0), wanted, strict=True):
        weight[label] = score
    assert core.topk(layer, torch.ones(1, 40), 3, None)[1].tolist() == [wanted]
    nothing = Positives(torch.zeros(2).long(), torch.zeros(0).long())
    core.train_step(
        layer, Moments(), torch.zeros(1, 40), nothing, loss=Loss.BCE, update=SGD(2**-6, 0, 1.0), step=3, scale=1.0
    )
    for score, label in zip((3.0, 2.0, 1.0), wanted, strict=True):
        exact = torch.full((32,), score * (1 - 2**-6))
        expected = round_stochastically(exact, torch.float8_e4m3fn, 5, 3, first=32 * label)
        assert torch.equal(weight[label].float(), expected.float())


@pytest.mark.parametrize("values", [torch.ones(2, dtype=torch.float64), torch.ones(3), torch.ones(2, 1)])
@pytest.mark.parametrize("name", ["weights", "margins"])
def test_weights_and_margins_that_do_not_fit_are_refused(core, layer, name, values):
    positives = Positives(torch.tensor([0, 2, 2, 2, 2]), torch.tensor([1, 3]))
    with pytest.raises(BackendError, match=f"the positives' {name}"):
        _step(core, layer, positives=positives._replace(**{name: values}))
