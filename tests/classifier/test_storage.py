"""Weights in bfloat16 and float8, in every kind of classifier: steps, starts, state, autograd, refusals."""

import copy

import pytest
import torch
from torch import nn

from fanin.classifier.banded import BandedLinear
from fanin.classifier.bottleneck import BottleneckLinear
from fanin.classifier.dense import DenseLinear
from fanin.classifier.dense_autograd import AutogradDenseLinear
from fanin.classifier.growth_gradient import GradientScores
from fanin.classifier.growth_separating import SeparatingScores
from fanin.classifier.head_tail import HeadTailLinear
from fanin.classifier.masked import MaskedLinear
from fanin.classifier.pruning import Pruning
from fanin.classifier.rewiring import Rewiring
from fanin.classifier.rewiring_schedule import RewiringSchedule
from fanin.classifier.sparse import SparseLinear
from fanin.errors import ConfigError
from fanin.kernels.active_inputs import ActiveInputs
from fanin.kernels.drawing import mix_seed
from fanin.kernels.rounding import round_stochastically
from fanin.kernels.spec import SGD, AdamW, Loss

L, D, B = 83, 14, 9
KINDS = {
    "sparse": lambda **options: SparseLinear(D, L, 5, **options),
    "sparse reference": lambda **options: SparseLinear(D, L, 5, 3, backend="reference", **options),
    "grouped, shared": lambda **options: SparseLinear(D, L, 6, 16, cluster_size=8, ordered=True, **options),
    "dense": lambda **options: DenseLinear(D, L, chunk_size=32, **options),
    "head/tail, shared": lambda **options: HeadTailLinear(D, L, 5, 3, head_labels=7, cluster_size=8, **options),
    "banded": lambda **options: BandedLinear(D, L, [(10, 9), (L - 10, 4)], cluster_size=8, **options),
}
BASELINES = {
    "masked": lambda **options: MaskedLinear(D, L, 5, **options),
    "bottleneck": lambda **options: BottleneckLinear(D, L, 5, **options),
    "dense by autograd": lambda **options: AutogradDenseLinear(D, L, **options),
}
BF16, FP8 = torch.bfloat16, torch.float8_e4m3fn
FORMATS = pytest.mark.parametrize("dtype", [BF16, FP8], ids=["bf16", "fp8"])
UPDATES = [SGD(0.3), SGD(0.2, 0.9, 0.1), AdamW(0.02, eps=1e-4, weight_decay=0.1)]


@pytest.fixture(params=KINDS)
def make(request):
    """Builds one kind of classifier; clusters start with values, not with zeros."""

    def build(**options):
        layer = KINDS[request.param](**options)
        for name, parameter in layer.named_parameters():
            if name.endswith("clusters.weight"):
                values = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
                parameter.data.copy_(values * 0.3)
        return layer

    return build


def _batch(make_positives, seed=0):
    return torch.randn(B, D, generator=torch.Generator().manual_seed(seed + 5)), make_positives(B, L, seed=seed)


def _bits(layer):
    """The state with every float8 tensor as bytes, which compare."""
    return {n: t.view(torch.uint8) if t.dtype is FP8 else t.clone() for n, t in layer.state_dict().items()}


def _same(one, other):
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def _widened(make, layer):
    """A float32 layer of the same weights."""
    twin = make()
    twin.load_state_dict({n: t.float() if t.dtype in {BF16, FP8} else t for n, t in layer.state_dict().items()})
    return twin


def _spacing(values, dtype):
    """At least the distance of the numbers of a format next to some values."""
    return values.abs() / 128 + 1e-30 if dtype is BF16 else (values.abs() / 8).clamp_min(2**-9)


@FORMATS
@pytest.mark.parametrize("update", UPDATES, ids=str)
@pytest.mark.parametrize("active", [False, True], ids=["dense x", "active columns"])
def test_a_step_is_that_of_float32_rounded(make, make_positives, dtype, update, active):
    layer = make(dtype=dtype)
    twin = _widened(make, layer)
    x, positives = _batch(make_positives)
    if active:
        x = ActiveInputs(x[:, :6].contiguous(), torch.tensor([0, 1, 2, 5, 9, 13]), D)
    value, dx = layer.train_step(x, positives, Loss.BCE, update, weight=0.6)
    true_value, true_dx = twin.train_step(x, positives, Loss.BCE, update, weight=0.6)
    assert value == pytest.approx(true_value, rel=1e-5)
    torch.testing.assert_close(dx, true_dx, rtol=1e-4, atol=1e-5)
    for name, tensor in layer.state_dict().items():
        truth = twin.state_dict()[name]
        if tensor.dtype is dtype:
            assert ((tensor.float() - truth).abs() <= 1.001 * _spacing(truth, dtype) + 1e-5).all(), name
        else:
            torch.testing.assert_close(tensor, truth, rtol=1e-4, atol=1e-5)
    for name, state in layer.optimizer_state().items():
        assert state.dtype == torch.float32
        torch.testing.assert_close(state, twin.optimizer_state()[name], rtol=1e-4, atol=1e-5)


@FORMATS
def test_the_mean_over_rounding_seeds_is_the_step_of_float32(make, make_positives, dtype):
    """Whatever is stored in fewer bits is rounded stochastically, shared vectors and dense rows too."""
    batch, seeds = _batch(make_positives), 60
    start = make(dtype=dtype)
    twin = _widened(make, start)
    twin.train_step(*batch, Loss.BCE, SGD(0.01))
    sums = {name: torch.zeros(t.shape) for name, t in start.state_dict().items() if t.dtype is dtype}
    for seed in range(seeds):
        layer = make(dtype=dtype, rounding_seed=seed)
        layer.load_state_dict(start.state_dict())
        layer.train_step(*batch, Loss.BCE, SGD(0.01))
        for name in sums:
            sums[name] += layer.state_dict()[name].float()
    for name, total in sums.items():
        truth = twin.state_dict()[name]
        error = total / seeds - truth
        assert (error.abs() <= 6 * _spacing(truth, dtype) * 0.5 / seeds**0.5 + 1e-6).all(), name
        spread = (_spacing(truth, dtype) ** 2).mean().sqrt() * 0.5
        assert error.mean().abs() <= 5 * spread / (seeds * truth.numel()) ** 0.5 + 1e-6, name


@FORMATS
def test_every_step_and_every_seed_rounds_anew(make, make_positives, dtype):
    batch, start = _batch(make_positives), make(dtype=dtype)

    def step_from_the_start(steps_before=0, **options):
        layer = make(dtype=dtype, **options)
        layer.load_state_dict(start.state_dict())
        layer.load_optimizer_state({}, steps_before)
        layer.train_step(*batch, Loss.BCE, SGD(0.01))
        return _bits(layer)

    first = step_from_the_start()
    assert _same(first, step_from_the_start())
    assert not _same(first, step_from_the_start(steps_before=1))
    assert not _same(first, step_from_the_start(rounding_seed=5))
    weights = [name for name, tensor in start.state_dict().items() if tensor.dtype is dtype]
    later = step_from_the_start(steps_before=1)
    for name in weights:
        assert not torch.equal(first[name], later[name]), name


@FORMATS
@pytest.mark.parametrize("update", UPDATES, ids=str)
def test_settings_and_state_go_on_with_the_same_bits(make, make_positives, dtype, update):
    layer = make(dtype=dtype, seed=4)
    for seed in range(3):
        layer.train_step(*_batch(make_positives, seed), Loss.BCE, update)
    settings = layer.settings()
    assert settings["dtype"] == str(dtype).removeprefix("torch.")
    twin = make(dtype=dtype, rounding_seed=settings["rounding_seed"])
    twin.load_state_dict(layer.state_dict())
    twin.load_optimizer_state(copy.deepcopy(layer.optimizer_state()), layer.steps)
    for seed in range(3, 6):
        for one in (layer, twin):
            one.train_step(*_batch(make_positives, seed), Loss.BCE, update)
    assert _same(_bits(twin), _bits(layer))
    assert twin.settings() == type(layer)(**settings).settings() == settings
    x = _batch(make_positives)[0]
    assert torch.equal(twin.topk(x, 5)[0], layer.topk(x, 5)[0])


@FORMATS
def test_top_k_is_that_of_the_logits(make, make_positives, dtype):
    layer, (x, _) = make(dtype=dtype), _batch(make_positives)
    scores, labels = layer.topk(x, 7)
    with torch.no_grad():
        best = layer(x).sort(dim=1, descending=True, stable=True)
    torch.testing.assert_close(scores, best.values[:, :7])
    assert scores.dtype == torch.float32
    assert (labels == best.indices[:, :7]).float().mean() > 0.9  # but for order among near equals


@FORMATS
def test_bytes_of_weights_shrink_and_those_of_nothing_else(make, dtype):
    small, wide = make(dtype=dtype).nbytes(), make().nbytes()
    assert small.keys() == wide.keys()
    for name, size in wide.items():
        share = dtype.itemsize / 4 if name.endswith(("weight", "clusters")) else 1
        assert small[name] == size * share, name


@FORMATS
def test_the_start_is_that_of_float32_rounded(dtype, monkeypatch):
    monkeypatch.setattr("fanin.classifier.weighted._DRAWN_VALUES", 100)
    for make in (KINDS["sparse"], KINDS["dense"]):
        layer, wide = make(dtype=dtype, seed=3, initial_scale=0.5), make(seed=3, initial_scale=0.5)
        rounded = round_stochastically(wide.weight.detach(), dtype, layer.rounding_seed, 0)
        assert torch.equal(layer.weight.float(), rounded.float())
        assert torch.equal(layer.bias, wide.bias)
        assert not make(dtype=dtype, initial_scale=0.0).weight.float().any()


@FORMATS
def test_streams_of_parts_are_their_own(dtype):
    layer = HeadTailLinear(D, L, 5, head_labels=7, cluster_size=8, dtype=dtype)
    banded = BandedLinear(D, L, [(10, 9), (L - 10, 4)], dtype=dtype, rounding_seed=1)
    seeds = [layer.head.rounding_seed, layer.tail.rounding_seed, layer.tail.clusters.rounding_seed]
    seeds += [band.rounding_seed for band in banded.bands]
    assert len(set(seeds)) == 5


def _as_linear(layer):
    columns = layer.index.long().repeat_interleave(layer.group_size, dim=0)[:L]
    linear = nn.Linear(D, L)
    with torch.no_grad():
        linear.weight.zero_().scatter_(1, columns, layer.weight.float())
        linear.bias.copy_(layer.bias)
    return linear, columns


@FORMATS
@pytest.mark.parametrize("x_dtype", [torch.float32, BF16])
def test_autograd_gives_what_a_linear_layer_of_these_weights_gives(dtype, backend_name, x_dtype):
    layer = SparseLinear(D, L, 5, 3, dtype=dtype, backend=backend_name)
    linear, columns = _as_linear(layer)
    x = torch.randn(4, D, generator=torch.Generator().manual_seed(2)).to(x_dtype).requires_grad_()
    twin = x.detach().float().requires_grad_()
    logits = layer(x)
    assert logits.dtype == x_dtype
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if x_dtype is torch.float32 else {"rtol": 2**-7, "atol": 0.05}
    torch.testing.assert_close(logits.float(), linear(twin), **tolerance)
    logits.float().square().sum().backward()
    linear(twin).square().sum().backward()
    torch.testing.assert_close(x.grad.float(), twin.grad, **tolerance)
    torch.testing.assert_close(layer.bias.grad, linear.bias.grad, **tolerance)
    if dtype is FP8:
        assert not layer.weight.requires_grad
        assert layer.weight.grad is None
    else:
        assert layer.weight.grad.dtype == BF16
        expected = linear.weight.grad.gather(1, columns)
        torch.testing.assert_close(layer.weight.grad.float(), expected, rtol=2**-7, atol=0.05)


def test_every_kind_is_differentiable_by_x(make):
    for dtype in (BF16, FP8):
        layer, x = make(dtype=dtype), torch.ones(2, D, requires_grad=True)
        layer(x).sum().backward()
        twin, same = _widened(make, layer), torch.ones(2, D, requires_grad=True)
        twin(same).sum().backward()
        torch.testing.assert_close(x.grad, same.grad)
        logits = layer(x.detach().bfloat16())
        assert logits.dtype is BF16
        torch.testing.assert_close(logits, twin(same).bfloat16())


def test_gradients_of_float8_weights_are_refused_not_rounded():
    layer = SparseLinear(D, L, 5, dtype=FP8)
    layer.weight.requires_grad_()
    with pytest.raises(ConfigError, match="train them with train_step"):
        layer(torch.ones(1, D))
    with torch.no_grad():
        assert layer(torch.ones(1, D)).shape == (1, L)


@FORMATS
def test_to_converts_weights_and_nothing_else(make, make_positives, dtype):
    layer, batch = make(), _batch(make_positives)
    layer.train_step(*batch, Loss.BCE, AdamW(0.02))
    before, state = copy.deepcopy(layer.state_dict()), copy.deepcopy(layer.optimizer_state())
    layer.to(dtype)
    for name, tensor in layer.state_dict().items():
        if name.endswith("weight"):
            assert tensor.dtype is dtype
            assert ((tensor.float() - before[name]).abs() <= _spacing(before[name], dtype) / 2 * 1.001).all()
        else:
            assert torch.equal(tensor, before[name])
    assert all(torch.equal(tensor, state[name]) for name, tensor in layer.optimizer_state().items())
    weights = [parameter for name, parameter in layer.named_parameters() if name.endswith("weight")]
    assert all(parameter.requires_grad == (dtype is BF16) for parameter in weights)
    layer.train_step(*batch, Loss.BCE, AdamW(0.02))
    layer.float()
    assert all(tensor.dtype is torch.float32 for tensor in layer.parameters())
    assert all(parameter.requires_grad for parameter in layer.parameters())


@FORMATS
@pytest.mark.parametrize("name", BASELINES)
def test_baselines_refuse_fewer_bits(name, dtype):
    with pytest.raises(ConfigError, match="is a baseline of float32 weights"):
        BASELINES[name](dtype=dtype)
    layer = BASELINES[name]()
    with pytest.raises(ConfigError, match="is a baseline of float32 weights"):
        layer.to(dtype)
    assert all(parameter.dtype is torch.float32 for parameter in layer.parameters())
    layer.double()


@pytest.mark.parametrize("dtype", [torch.float8_e5m2, torch.int32, "float8", "nn", None], ids=str)
def test_other_dtypes_are_refused(make, dtype):
    with pytest.raises(ConfigError, match="weights are stored as one of float32, bfloat16, float8_e4m3fn"):
        make(dtype=dtype)


def test_a_rounding_seed_is_a_whole_number(make):
    with pytest.raises(ConfigError, match="rounding_seed='3' must be a whole number"):
        make(rounding_seed="3")


@FORMATS
def test_steps_take_float32(make, make_positives, dtype):
    layer, (x, positives) = make(dtype=dtype), _batch(make_positives)
    for wrong in (x.bfloat16(), x.double()):
        with pytest.raises(ConfigError, match=r"this layer computes in torch\.float32"):
            layer.train_step(wrong, positives, Loss.BCE, SGD(0.1))


@FORMATS
@pytest.mark.parametrize("scope", ["set", "layer"])
@pytest.mark.parametrize("G", [1, 4])
def test_rewiring_by_blocks_is_that_of_float32(make_positives, dtype, scope, G):
    layer, update = SparseLinear(D, L, 6, G, dtype=dtype), AdamW(0.02)
    layer.train_step(*_batch(make_positives), Loss.BCE, update)
    twin = SparseLinear(D, L, 6, G)
    twin.load_state_dict({n: t.float() if t.dtype is dtype else t for n, t in layer.state_dict().items()})
    twin.load_optimizer_state(layer.optimizer_state(), layer.steps)
    schedule = RewiringSchedule(interval=1, fraction=0.5, total_steps=100, decay="none")
    reports = []
    for one in (layer, twin):
        pruning = Pruning(scope=scope, group_score="max")
        reports.append(Rewiring([one.sparse_parts()[0]], schedule, mix_seed(1, 2), pruning).rewire(1))
    assert reports[0] == reports[1]
    assert reports[0].replaced > 0
    assert torch.equal(layer.index, twin.index)
    assert torch.equal(layer.weight.float(), twin.weight)
    for name, state in twin.optimizer_state().items():
        assert torch.equal(layer.optimizer_state()[name], state)


@FORMATS
@pytest.mark.parametrize("mode", ["gradient", "separating"])
def test_growth_reads_weights_in_fewer_bits(make_positives, dtype, mode):
    """The measures see the logits of the stored weights and vectors: they choose as for float32 ones."""
    layers = []
    for stored in (dtype, torch.float32):
        layer = SparseLinear(D, L, 5, 3, cluster_size=8, dtype=stored)
        vectors = torch.randn(layer.clusters.weight.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        layer.clusters.weight.data.copy_(vectors)
        if layers:
            layer.weight.data.copy_(layers[0].weight)
        layers.append(layer)
    choices = []
    for layer in layers:
        if mode == "gradient":
            measure = GradientScores([layer], Loss.BCE, inputs=D)
        else:
            measure = SeparatingScores([layer], inputs=D, rows=4 * B)
        for seed in range(3):
            x, positives = _batch(make_positives, seed)
            measure.observe(x, positives, 2 - seed)
        choices.append(measure.scores(0, torch.arange(len(layer.index))))
    assert choices[0].dtype == torch.float32
    torch.testing.assert_close(choices[0], choices[1], rtol=1e-5, atol=1e-6)


@FORMATS
def test_what_autograd_computes_is_what_the_step_computes(make, make_positives, dtype):
    layer, (x, positives) = make(dtype=dtype), _batch(make_positives)
    logits = layer(x.requires_grad_())
    target = torch.zeros(B, L)
    target[torch.repeat_interleave(torch.arange(B), positives.indptr.diff()), positives.indices] = 1
    loss = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum") / B
    loss.backward()
    value, dx = layer.train_step(x.detach(), positives, Loss.BCE, SGD(0.1))
    assert value == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(dx, x.grad, rtol=1e-4, atol=1e-6)
