"""What every classifier does alike: the fused step against dense float64 training, top-k, state, and refusals."""

import copy
import io
import math

import pytest
import torch

from fanin.classifier.banded import BandedLinear
from fanin.classifier.bottleneck import BottleneckLinear
from fanin.classifier.dense import DenseLinear
from fanin.classifier.dense_autograd import AutogradDenseLinear
from fanin.classifier.head_tail import HeadTailLinear
from fanin.classifier.masked import MaskedLinear
from fanin.classifier.sparse import SparseLinear
from fanin.errors import BackendError, CheckpointError, ConfigError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.spec import SGD, AdamW, Loss, Positives
from kernel_checks import emphasised

L, D = 83, 14
# Layers of one weight tensor, for which the suite knows the dense layer that they stand for.
PLAIN = {
    "sparse": lambda **options: SparseLinear(D, L, 5, **options),
    "grouped": lambda **options: SparseLinear(D, L, 6, 16, **options),
    "sparse reference": lambda **options: SparseLinear(D, L, 5, 3, backend="reference", **options),
    "no bias": lambda **options: SparseLinear(D, L, 5, bias=False, **options),
    "dense": lambda **options: DenseLinear(D, L, chunk_size=32, **options),
    "dense no bias": lambda **options: DenseLinear(D, L, bias=False, **options),
    "dense by autograd": lambda **options: AutogradDenseLinear(D, L, **options),
    "masked": lambda **options: MaskedLinear(D, L, 5, chunk_size=32, **options),
}
# Composed ones have suites of their own for the values of a step: test_bottleneck.py, test_label_bands.py.
KINDS = PLAIN | {
    "bottleneck": lambda **options: BottleneckLinear(D, L, 5, chunk_size=32, **options),
    "bottleneck no bias": lambda **options: BottleneckLinear(D, L, 5, bias=False, **options),
    "head/tail": lambda **options: HeadTailLinear(D, L, 5, head_labels=11, **options),
    "head/tail, shared": lambda **options: HeadTailLinear(D, L, 5, 3, head_labels=7, cluster_size=8, **options),
    "banded": lambda **options: BandedLinear(D, L, [(1, D), (11, 9), (L - 12, 5)], **options),
    "banded, shared": lambda **options: BandedLinear(D, L, [(9, 7), (L - 9, 5)], 3, cluster_size=8, **options),
    "banded no bias": lambda **options: BandedLinear(D, L, [(9, 7), (L - 9, 5)], bias=False, **options),
    "head/tail no bias": lambda **options: HeadTailLinear(D, L, 5, head_labels=11, bias=False, **options),
}
UPDATES = [SGD(0.3, weight_decay=0.1), SGD(0.2, 0.9, 0.1), AdamW(0.02, eps=1e-4, weight_decay=0.1)]


@pytest.fixture(params=KINDS)
def make(request):
    """Builds one kind of classifier."""
    return KINDS[request.param]


@pytest.fixture(params=PLAIN)
def make_plain(request):
    """Builds one kind of classifier that is a single layer."""
    return PLAIN[request.param]


def _batches(make_positives, count, B=9, dtype=torch.float32):
    generator = torch.Generator().manual_seed(5)
    return [(torch.randn(B, D, dtype=dtype, generator=generator), make_positives(B, L, seed=i)) for i in range(count)]


def _columns(layer):
    """The input of every weight, (L, F)."""
    if isinstance(layer, MaskedLinear):
        return layer.mask.nonzero()[:, 1].view(L, layer.fan_in)
    if isinstance(layer, DenseLinear):
        return torch.arange(D).expand(L, D)
    return layer.index.long().repeat_interleave(layer.group_size, dim=0)[:L]


def _used(layer, tensor):
    """Weights, or their state, at the places of connections, (L, F)."""
    return tensor.gather(1, _columns(layer)) if isinstance(layer, MaskedLinear) else tensor


def _state(layer):
    return {name: tensor.clone() for name, tensor in layer.state_dict().items()}


def _same(one, other):
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def _nothing(B):
    return Positives(torch.zeros(B + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("update", UPDATES, ids=str)
@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_train_step_is_dense_training(make_plain, make_positives, train_densely, loss, update, dtype):
    layer, batches = make_plain(dtype=dtype), _batches(make_positives, 4, dtype=dtype)
    weight = _used(layer, layer.weight)
    truth = train_densely(weight, _columns(layer), layer.bias, D, batches, loss, update, factor=0.6)
    tolerance = {"rtol": 1e-5, "atol": 2e-5} if dtype is torch.float32 else {"rtol": 1e-9, "atol": 1e-11}
    for step, (x, positives) in enumerate(batches):
        value, dx = layer.train_step(x, positives, loss, update, weight=0.6)
        assert value == pytest.approx(truth.losses[step], rel=1e-5 if dtype is torch.float32 else 1e-12)
        torch.testing.assert_close(dx.double(), truth.input_gradients[step], **tolerance)
        assert layer.steps == step + 1
    torch.testing.assert_close(_used(layer, layer.weight).detach().double(), truth.weight, **tolerance)
    if layer.bias is not None:
        torch.testing.assert_close(layer.bias.detach().double(), truth.bias, **tolerance)
    state = [
        _used(layer, tensor).double() if name.startswith("weight") else tensor.double()
        for name, tensor in layer.optimizer_state().items()
    ]
    expected = [tensor for moments in truth.moments for tensor in moments]
    assert len(state) == len(expected)
    for actual, moment in zip(state, expected, strict=True):
        torch.testing.assert_close(actual, moment, **tolerance)


def test_the_fused_step_leaves_no_trace_in_autograd(make, make_positives):
    layer, (x, positives) = make(), _batches(make_positives, 1)[0]
    x.requires_grad_()
    _, dx = layer.train_step(x, positives, Loss.BCE, SGD(0.1))
    assert not dx.requires_grad
    assert all(parameter.grad is None and parameter.is_leaf for parameter in layer.parameters())
    assert x.grad is None


def test_the_gradient_of_the_fused_step_trains_what_lies_below(make, make_positives):
    """x.backward(dx) must give the encoder the gradient that autograd through forward would give it."""
    layer, (x, positives) = make(dtype=torch.float64), _batches(make_positives, 1, dtype=torch.float64)[0]
    encoder = torch.nn.Linear(D, D).double()
    target = torch.zeros(len(x), L, dtype=torch.float64)
    target[torch.repeat_interleave(torch.arange(len(x)), positives.indptr.diff()), positives.indices] = 1
    loss = torch.nn.functional.binary_cross_entropy_with_logits(layer(encoder(x)), target, reduction="sum") / len(x)
    (expected,) = torch.autograd.grad(loss, [encoder.weight])
    hidden = encoder(x)
    value, dx = layer.train_step(hidden, positives, Loss.BCE, SGD(0.1))
    hidden.backward(dx)
    assert value == pytest.approx(loss.item(), rel=1e-9)
    torch.testing.assert_close(encoder.weight.grad, expected)


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("parts", [("weights",), ("margins",), ("weights", "margins")], ids=str)
def test_weights_and_margins_of_positives(make, make_positives, loss, parts):
    """A positive of weight w and margin m adds w loss(z - m); a weight of 1 and a margin of 0 change nothing."""
    layer, (x, positives) = make(dtype=torch.float64), _batches(make_positives, 1, dtype=torch.float64)[0]
    positives = emphasised(positives, L, "weights" in parts, "margins" in parts)
    rows = torch.repeat_interleave(torch.arange(len(x)), positives.indptr.diff())
    target, weight, margin = torch.zeros(3, len(x), L, dtype=torch.float64)
    target[rows, positives.indices] = 1
    weight[rows, positives.indices] = 1.0 if positives.weights is None else positives.weights.double()
    margin[rows, positives.indices] = 0.0 if positives.margins is None else positives.margins.double()
    x.requires_grad_()
    z = layer(x)
    loss_of = torch.nn.functional.softplus if loss is Loss.BCE else (lambda t: (1 + t).clamp_min(0) ** 2)
    values = torch.where(target == 1, weight * loss_of(margin - z), loss_of(z))
    expected = 0.7 * values.sum() / len(x)
    (expected_dx,) = torch.autograd.grad(expected, [x])
    value, dx = layer.train_step(x, positives, loss, SGD(0.1), weight=0.7)
    assert value == pytest.approx(expected.item(), rel=1e-9)
    torch.testing.assert_close(dx, expected_dx)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("weights", torch.ones(3)),
        ("weights", torch.tensor([1.0, -0.1])),
        ("weights", torch.tensor([1.0, math.inf])),
        ("margins", torch.tensor([1.0, math.nan])),
        ("margins", torch.tensor([1, 2])),
        ("margins", torch.ones(2, 1)),
    ],
)
def test_wrong_weights_and_margins_are_refused(make, name, values):
    positives = Positives(torch.tensor([0, 2]), torch.tensor([3, 4]))._replace(**{name: values})
    with pytest.raises(ConfigError, match=f"positives.{name} must be"):
        make().train_step(torch.zeros(1, D), positives, Loss.BCE, SGD(0.1))


def test_strided_arrays_are_as_good(make, make_positives):
    (x, positives), update = _batches(make_positives, 1)[0], SGD(0.1)
    strided = Positives(*(array.repeat_interleave(2)[::2] for array in positives[:2]))
    wide = x.repeat_interleave(2, dim=1)[:, ::2]
    value, dx = make().train_step(x, positives, Loss.BCE, update)
    strided_value, strided_dx = make().train_step(wide, strided, Loss.BCE, update)
    assert value == strided_value
    assert torch.equal(dx, strided_dx)
    assert torch.equal(make().topk(x, 3, positives)[1], make().topk(wide, 3, strided)[1])


def test_topk_is_that_of_forward(make, make_positives):
    layer, (x, positives) = make(), _batches(make_positives, 1)[0]
    logits = layer(x).detach()
    scores, labels = layer.topk(x, 4)
    torch.testing.assert_close(scores, logits.topk(4).values)
    torch.testing.assert_close(logits.gather(1, labels), scores)
    assert not scores.requires_grad
    scores, labels = layer.topk(x, L + 100, positives)
    assert scores.shape == labels.shape == (9, L)
    for row in range(9):
        own = set(positives.indices[positives.indptr[row] : positives.indptr[row + 1]].tolist())
        assert set(labels[row].tolist()) - {-1} == set(range(L)) - own
        assert (labels[row] == -1).sum() == (scores[row] == -math.inf).sum() == len(own)


def test_topk_of_no_rows(make):
    assert [part.shape for part in make().topk(torch.empty(0, D), 3)] == [(0, 3), (0, 3)]


@pytest.mark.parametrize("update", UPDATES, ids=str)
def test_mistake_09_training_continues_bit_for_bit_from_saved_state(make, make_positives, update):
    batches = _batches(make_positives, 6)
    layer = make(seed=3)
    for x, positives in batches[:3]:
        layer.train_step(x, positives, Loss.BCE, update)
    stream = io.BytesIO()
    torch.save((layer.state_dict(), layer.optimizer_state(), layer.steps), stream)
    stream.seek(0)
    parameters, moments, steps = torch.load(stream, weights_only=True)
    other = make(seed=4)
    other.load_state_dict(parameters)
    other.load_optimizer_state(moments, steps)
    for x, positives in batches[3:]:
        value, dx = layer.train_step(x, positives, Loss.BCE, update)
        value_there, dx_there = other.train_step(x, positives, Loss.BCE, update)
        assert value == value_there
        assert torch.equal(dx, dx_there)
    assert all(map(torch.equal, layer.state_dict().values(), other.state_dict().values()))
    assert all(map(torch.equal, layer.optimizer_state().values(), other.optimizer_state().values()))
    assert layer.steps == other.steps == 6


def test_loaded_state_is_a_copy(make, make_positives):
    (x, positives), update = _batches(make_positives, 1)[0], SGD(0.1, 0.9)
    layer, other = make(), make()
    layer.train_step(x, positives, Loss.BCE, update)
    other.load_optimizer_state(layer.optimizer_state(), layer.steps)
    before = {name: tensor.clone() for name, tensor in other.optimizer_state().items()}
    layer.train_step(x, positives, Loss.BCE, update)
    assert _same(other.optimizer_state(), before)
    assert not _same(layer.optimizer_state(), before)


def test_the_state_of_an_untrained_layer_binds_it_to_no_update(make, make_positives):
    layer = make()
    layer.load_optimizer_state(make().optimizer_state(), 0)
    x, positives = _batches(make_positives, 1)[0]
    layer.train_step(x, positives, Loss.BCE, AdamW(0.1))
    assert layer.steps == 1


def test_a_deep_copy_trains_alike_and_alone(make, make_positives):
    (first, second), update = _batches(make_positives, 2), AdamW(0.1)
    layer = make()
    layer.train_step(*first, Loss.BCE, update)
    twin = copy.deepcopy(layer)
    value, _ = layer.train_step(*second, Loss.BCE, update)
    after = _state(layer)
    assert not _same(twin.state_dict(), after)
    assert twin.train_step(*second, Loss.BCE, update)[0] == value
    assert _same(twin.state_dict(), after)


def test_moments_follow_a_move_to_another_dtype(make, make_positives):
    (x, positives), update = _batches(make_positives, 1)[0], AdamW(0.1)
    layer = make()
    layer.train_step(x, positives, Loss.BCE, update)
    layer.double()
    assert all(tensor.dtype == torch.float64 for tensor in layer.optimizer_state().values())
    layer.train_step(x.double(), positives, Loss.BCE, update)
    assert layer.float().dtype == torch.float32
    layer.train_step(x, positives, Loss.BCE, update)
    assert layer.steps == 3


def test_nbytes_counts_what_prediction_needs(make):
    layer = make()
    if isinstance(layer, MaskedLinear):
        pytest.skip("it counts the bytes of compressed rows, see test_masked.py")
    stored = {name: tensor.numel() * tensor.element_size() for name, tensor in layer.state_dict().items()}
    # The sparse layer's clusters and order are called by their part alone.
    assert {name.replace("clusters.weight", "clusters"): size for name, size in stored.items()} == layer.nbytes()


def test_settings_build_a_layer_that_takes_the_state(make):
    layer = make(seed=1)
    twin = type(layer)(**layer.settings())
    twin.load_state_dict(layer.state_dict())
    x = torch.ones(2, D)
    torch.testing.assert_close(twin(x), layer(x))
    assert f"out_features={L}" in repr(layer)


def test_the_start_is_uniform_within_the_scale(make_plain):
    layer = make_plain(seed=9, initial_scale=0.5)
    bound = 0.5 / _columns(layer).shape[1] ** 0.5
    assert 0.9 * bound < layer.weight.detach().abs().max().item() <= bound * (1 + 1e-6)
    assert not make_plain(initial_scale=0.0).weight.any()


def test_the_start_is_reproducible(make):
    layer = make(seed=9, initial_scale=0.5)
    assert _same(make(seed=9, initial_scale=0.5).state_dict(), layer.state_dict())
    assert not _same(make(seed=10, initial_scale=0.5).state_dict(), layer.state_dict())
    assert not make(initial_scale=0.0)(torch.ones(1, D)).any()
    make(seed=-1)


def test_biases_are_set_by_label_id(make):
    layer, bias = make(initial_scale=0.0), torch.arange(float(L))
    if "bias=False" in repr(layer):
        with pytest.raises(ConfigError, match="no bias"):
            layer.set_bias(bias)
        return
    layer.set_bias(bias)
    assert torch.equal(layer(torch.zeros(1, D))[0], bias)


def test_active_columns_are_as_good_as_the_whole_x(make, make_positives):
    positives, update = make_positives(20, L), AdamW(0.02, eps=1e-4, weight_decay=0.1)
    columns = torch.tensor([0, 1, 2, 5, 9, 13])
    active = ActiveInputs(torch.randn(20, 6, generator=torch.Generator().manual_seed(1)), columns, D)
    one, other = make(), make()
    for _ in range(3):
        value, dx = one.train_step(active, positives, Loss.BCE, update)
        expected, whole = other.train_step(active.dense(), positives, Loss.BCE, update)
        assert value == pytest.approx(expected, rel=1e-5)
        torch.testing.assert_close(dx, whole[:, columns], rtol=1e-4, atol=1e-6)
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.topk(active, 5)[0], one.topk(active.dense(), 5)[0])


@pytest.mark.parametrize(
    ("positives", "words"),
    [
        (
            Positives(torch.tensor([0, 1, 1]), torch.tensor([L])),
            f"labels from {L} to {L}; this layer has labels 0 to {L - 1}",
        ),
        (Positives(torch.tensor([0, 1, 1]), torch.tensor([-1])), "labels from -1 to -1"),
        (Positives(torch.tensor([0, 1]), torch.tensor([1])), "indptr has 2 entries for 2 rows; it needs 3"),
        (Positives(torch.tensor([0, 2, 1]), torch.tensor([1])), "never fall"),
        (Positives(torch.tensor([1, 1, 1]), torch.tensor([1])), "start at 0"),
        (Positives(torch.tensor([0, 1, 2]), torch.tensor([1])), "end at len"),
        (Positives(torch.tensor([0, 1, 1], dtype=torch.int32), torch.tensor([1])), "must be torch.int64"),
        (Positives(torch.tensor([0, 1, 1]), torch.tensor([1.0])), "must be torch.int64"),
    ],
)
def test_mistake_11_bad_positives_get_a_message_and_change_nothing(make, positives, words):
    layer, x = make(), torch.ones(2, D)
    before = _state(layer)
    with pytest.raises(ConfigError, match=words):
        layer.train_step(x, positives, Loss.BCE, SGD(0.1))
    with pytest.raises(ConfigError, match=words):
        layer.topk(x, 1, positives)
    assert _same(layer.state_dict(), before)
    assert layer.steps == 0


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.ones(2, D + 1), rf"x has shape \(2, {D + 1}\); this layer needs {D} features"),
        (torch.ones(D), "x has shape"),
        (torch.ones(1, 2, D), "x has shape"),
        (torch.ones(2, D).double(), r"x is torch.float64 and this layer computes in torch.float32"),
        (torch.ones(2, D).long(), "x is torch.int64"),
    ],
)
def test_mistake_11_bad_inputs_get_a_message(make, x, words):
    layer = make()
    with pytest.raises(ConfigError, match=words):
        layer.train_step(x, _nothing(2), Loss.BCE, SGD(0.1))
    with pytest.raises(ConfigError, match=words):
        layer.topk(x, 1)
    if x.shape[-1] != D or x.dtype != torch.float32:
        with pytest.raises(ConfigError, match=words):
            layer(x)


def test_other_refusals(make, make_positives):
    layer, (x, positives) = make(), _batches(make_positives, 1)[0]
    with pytest.raises(ConfigError, match="no rows"):
        layer.train_step(torch.empty(0, D), _nothing(0), Loss.BCE, SGD(0.1))
    with pytest.raises(ConfigError, match="k=0"):
        layer.topk(x, 0)
    layer.train_step(x, positives, Loss.BCE, SGD(0.1, 0.9))
    for update, words in ((AdamW(0.1), "1 state tensors and AdamW needs 2"), (SGD(0.1), "SGD needs 0")):
        with pytest.raises(ConfigError, match=words):
            layer.train_step(x, positives, Loss.BCE, update)
    assert layer.steps == 1
    layer.train_step(x, positives, Loss.BCE, SGD(0.01, 0.5))


def test_a_foreign_optimizer_state_is_refused(make, make_positives):
    layer, (x, positives) = make(), _batches(make_positives, 1)[0]
    layer.train_step(x, positives, Loss.BCE, AdamW(0.1))
    good = layer.optimizer_state()
    for name in good:
        cut = {**good, name: good[name][:-1]}
        with pytest.raises(CheckpointError, match="optimizer state"):
            make().load_optimizer_state(cut, 1)
    for name in (name for name in good if name.endswith(".0")):
        missing = {other: tensor for other, tensor in good.items() if other != name}
        with pytest.raises(CheckpointError, match="optimizer state"):
            make().load_optimizer_state(missing, 1)
    for name in ("steps.0", "index.0", "head.0", "weight.7", "projection.x"):
        with pytest.raises(CheckpointError, match="optimizer state"):
            make().load_optimizer_state({**good, name: torch.ones(L, 5)}, 1)


@pytest.mark.parametrize(
    "kind",
    [
        lambda i, o: SparseLinear(i, o, 1),
        DenseLinear,
        lambda i, o: BottleneckLinear(i, o, 1),
        lambda i, o: HeadTailLinear(i, o, 1, head_labels=1),
        lambda i, o: BandedLinear(i, o, [(o, 1)]),
        lambda i, o: MaskedLinear(i, o, 1),
    ],
)
@pytest.mark.parametrize(("inputs", "outputs"), [(0, 3), (3, 0), (-1, 3)])
def test_a_layer_of_nothing_is_refused(kind, inputs, outputs):
    with pytest.raises(ConfigError, match=f"in_features={inputs}, out_features={outputs}"):
        kind(inputs, outputs)


def test_a_forced_backend_that_cannot_serve_is_refused():
    with pytest.raises(BackendError, match="unknown backend 'gpu'"):
        SparseLinear(4, 4, 2, backend="gpu")


def test_a_forced_core_refuses_what_it_cannot_compute(compiled_core):
    layer = SparseLinear(4, 4, 2, backend="cpu", dtype=torch.float64)
    with pytest.raises(BackendError, match="float64"):
        layer(torch.ones(1, 4).double())
