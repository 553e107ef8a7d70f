"""Binding to the compiled C++ core, on as many threads as ``torch.get_num_threads()`` says.

It computes in float32 on the CPU; weights may be stored as bfloat16 or float8.

The environment variable FANIN_CPU_ISA (avx512, avx2 or portable) forces an instruction set; without it the best one
of the processor runs. The compiled module refuses arrays of a wrong dtype, shape, device or layout by itself; what is
checked here gets a message for people.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from fanin.errors import BackendError
from fanin.kernels.drawing import mix_seed
from fanin.kernels.spec import DEFAULT_CHUNK_SIZE, SGD, Loss, StepResult, index_dtype

try:
    from fanin.kernels import _cpu
except ImportError as error:
    raise BackendError(f"the compiled CPU core is not installed ({error})") from error

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.kernels.chosen_clusters import ChosenClusters, SharedVectors
    from fanin.kernels.spec import Moments, Positives, Prune, SharedScores, SparseWeights, Update

_SEED_MASK = 0xFFFF_FFFF_FFFF_FFFF
_CODES = {torch.bfloat16: torch.uint16, torch.float8_e4m3fn: torch.uint8}  # how the core is given weights in few bits


class CpuBackend:
    """The compiled core; see :class:`fanin.kernels.spec.Backend` for every operation.

    Attributes:
        instruction_set: the one that runs: "avx512", "avx2" or "portable".

    Raises:
        BackendError: FANIN_CPU_ISA names an instruction set that this processor cannot run.
    """

    name = "cpu"

    def __init__(self) -> None:
        try:
            self.instruction_set: str = _cpu.instruction_set()
        except RuntimeError as error:
            raise BackendError(str(error)) from error

    def forward(self, layer: SparseWeights, x: Tensor, shared: SharedScores | None = None) -> Tensor:
        """Logits (B, L)."""
        arrays, x = _layer(layer), _matrix("x", x, layer.in_features)
        logits = torch.empty(len(x), len(layer.weight), dtype=torch.float32)
        _cpu.forward(arrays, x, *_scores(shared, layer, len(x)), logits, torch.get_num_threads())
        return logits

    def grad_input(self, layer: SparseWeights, grad: Tensor) -> Tensor:
        """Input gradient (B, D)."""
        arrays, grad = _layer(layer), _matrix("the gradient", grad, len(layer.weight))
        dx = torch.empty(len(grad), layer.in_features, dtype=torch.float32)
        _cpu.grad_input(arrays, grad, dx, torch.get_num_threads())
        return dx

    def grad_weight(self, layer: SparseWeights, grad: Tensor, x: Tensor) -> Tensor:
        """Weight gradient (L, F)."""
        grad = _matrix("the gradient", grad, len(layer.weight))
        arrays, x = _layer(layer), _matrix("x", x, layer.in_features, rows=len(grad))
        dw = torch.empty(layer.weight.shape, dtype=torch.float32)
        _cpu.grad_weight(arrays, grad, x, dw, torch.get_num_threads())
        return dw

    def train_step(
        self,
        layer: SparseWeights,
        moments: Moments,
        x: Tensor,
        positives: Positives,
        *,
        loss: Loss,
        update: Update,
        step: int,
        scale: float,
        shared: SharedScores | None = None,
        chunk_size: int = DEFAULT_CHUNK_SIZE,  # noqa: ARG002 - the core keeps its blocks in the cache, whatever the chunk
    ) -> StepResult:
        """Loss and gradients; updates the layer and the moments in place."""
        arrays, x = _layer(layer), _matrix("x", x, layer.in_features)
        dx = torch.empty(x.shape, dtype=torch.float32)
        weight_moments = [_same("a moment of the weights", moment, layer.weight) for moment in moments.weight]
        scores, cluster_size = _scores(shared, layer, len(x))
        shared_grad = None if scores is None else torch.empty(scores.shape, dtype=torch.float32)
        bias_moments = [] if layer.bias is None else [_same("a moment", m, layer.bias) for m in moments.bias]
        try:
            value = _cpu.train_step(
                arrays,
                weight_moments,
                bias_moments,
                x,
                *_csr("positives", positives, len(x)),
                loss is Loss.SQUARED_HINGE,
                _rule(update, step, layer),
                scale,
                scores,
                cluster_size,
                dx,
                shared_grad,
                torch.get_num_threads(),
                _of_pairs("the positives' weights", positives.weights, positives),
                _of_pairs("the positives' margins", positives.margins, positives),
            )
        except ValueError as error:
            raise BackendError(f"training step: {error}") from error
        if layer.dense_inputs is not None:
            dx[:, layer.dense_inputs :] = 0
        return StepResult(value, dx, shared_grad)

    def topk(
        self, layer: SparseWeights, x: Tensor, k: int, exclude: Positives | None, shared: SharedScores | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k best labels a row: scores (B, k) and labels (B, k)."""
        arrays, x = _layer(layer), _matrix("x", x, layer.in_features)
        scores = torch.empty(len(x), k, dtype=torch.float32)
        labels = torch.empty(len(x), k, dtype=torch.int64)
        indptr, indices = (None, None) if exclude is None else _csr("exclude", exclude, len(x))
        try:
            _cpu.topk(
                arrays,
                x,
                *_scores(shared, layer, len(x)),
                indptr,
                indices,
                scores,
                labels,
                torch.get_num_threads(),
            )
        except ValueError as error:
            raise BackendError(f"top-k: {error}") from error
        return scores, labels

    def topk_among(
        self,
        layer: SparseWeights,
        x: Tensor,
        k: int,
        chosen: ChosenClusters,
        exclude: Positives | None,
        shared: SharedVectors | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The k best labels of each row's clusters: scores (B, k) and labels (B, k)."""
        arrays, x = _layer(layer), _matrix("x", x, layer.in_features)
        for name, numbers, dtype in (
            ("the members", chosen.members, torch.int32),
            ("the bounds", chosen.bounds, torch.int64),
            ("the chosen clusters", chosen.chosen, torch.int64),
        ):
            _check(name, numbers, dtype)
        scores = torch.empty(len(x), k, dtype=torch.float32)
        labels = torch.empty(len(x), k, dtype=torch.int64)
        indptr, indices = (None, None) if exclude is None else _csr("exclude", exclude, len(x))
        try:
            _cpu.topk_among(
                arrays,
                x,
                chosen.members,
                chosen.bounds,
                chosen.chosen,
                chosen.unit,
                *_vectors(shared, layer),
                indptr,
                indices,
                scores,
                labels,
                torch.get_num_threads(),
            )
        except ValueError as error:
            raise BackendError(f"top-k among chosen clusters: {error}") from error
        return scores, labels

    def widen_into(self, stored: Tensor, out: Tensor) -> None:
        """Float32 values of bfloat16 or float8."""
        codes = _codes(stored, out)
        _cpu.widen_into(codes, out.detach().view(-1), torch.get_num_threads())

    def round_into(self, values: Tensor, out: Tensor, seed: int, step: int, first_element: int = 0) -> None:
        """Stochastic rounding of float32 values into bfloat16 or float8."""
        codes = _codes(out, values)
        _cpu.round_into(values.detach().view(-1), mix_seed(seed, step), first_element, codes, torch.get_num_threads())

    def draw_index(self, sets: int, fan_in: int, in_features: int, seed: int, first_set: int = 0) -> Tensor:
        """Index sets (sets, F)."""
        index = torch.empty(sets, fan_in, dtype=index_dtype(in_features))
        part = (first_set,) if first_set else ()
        _cpu.draw_index(index, in_features, seed & _SEED_MASK, torch.get_num_threads(), *part)
        return index

    def rewire(
        self, layer: SparseWeights, moments: Moments, prune: Prune, seed: int, inputs: int | None = None
    ) -> Tensor:
        """Prune and regrow every index set; returns the number of connections replaced in each, (S,) int32."""
        D = layer.in_features
        inputs = D if inputs is None else inputs
        if not 1 <= inputs <= D:
            raise BackendError(f"rewiring: inputs={inputs} to regrow must lie in 1..{D}")
        replaced = torch.empty(len(layer.index), dtype=torch.int32)
        _cpu.rewire(
            _layer(layer),
            [_same("a moment of the weights", moment, layer.weight) for moment in moments.weight],
            math.floor(prune.fraction * layer.weight.shape[1]),
            math.inf if prune.threshold is None else prune.threshold,
            seed & _SEED_MASK,
            inputs,
            replaced,
            torch.get_num_threads(),
        )
        return replaced


def _rule(update: Update, step: int, layer: SparseWeights) -> _cpu.UpdateRule:
    if isinstance(update, SGD):
        rule = _cpu.sgd(update.learning_rate, update.momentum, update.weight_decay)
    else:
        rule = _cpu.adamw(update.learning_rate, update.beta1, update.beta2, update.eps, update.weight_decay, step)
    if layer.weight.dtype in _CODES:
        rule.rounding_key = mix_seed(layer.rounding_seed, step)
    return rule


def _layer(layer: SparseWeights) -> _cpu.Layer:
    weight = _stored("the weights", layer.weight)
    _check("the index", layer.index, index_dtype(layer.in_features))
    if layer.bias is not None:
        _check("the bias", layer.bias, torch.float32)
    bias = None if layer.bias is None else layer.bias.detach()
    try:
        dense = layer.in_features if layer.dense_inputs is None else layer.dense_inputs
        arrays = _cpu.Layer(weight, layer.index, bias, layer.group_size, layer.in_features, dense)
        if layer.first_label:
            arrays.first_label = layer.first_label
        return arrays  # noqa: TRY300 - the whole of it is refused alike
    except ValueError as error:
        raise BackendError(f"layer: {error}") from error


def _stored(name: str, weight: Tensor) -> Tensor:
    """Weights as the core is given them: float32, or codes."""
    weight = weight.detach()
    if weight.dtype not in _CODES:
        _check(name, weight, torch.float32)
        return weight
    _check(name, weight, weight.dtype)
    return weight.view(_CODES[weight.dtype])


def _vectors(shared: SharedVectors | None, layer: SparseWeights) -> tuple[Tensor | None, int]:
    if shared is None:
        return None, 0
    return _stored("the shared vectors", shared.weight), min(shared.cluster_size, len(layer.weight))


def _codes(stored: Tensor, values: Tensor) -> Tensor:
    """The codes of stored numbers, (n,), of which ``values`` are the float32 ones."""
    if stored.dtype not in _CODES or values.shape != stored.shape:
        raise BackendError(
            f"float32 values {tuple(values.shape)} belong to bfloat16 or float8_e4m3fn of the same shape, "
            f"not to {tuple(stored.shape)} {_short(stored.dtype)}"
        )
    _check("the values", values, torch.float32)
    _check("the numbers in fewer bits", stored, stored.dtype)
    return stored.detach().view(_CODES[stored.dtype]).view(-1)


def _scores(shared: SharedScores | None, layer: SparseWeights, rows: int) -> tuple[Tensor | None, int]:
    if shared is None:
        return None, 0
    labels, cluster_size = len(layer.weight), shared.cluster_size
    if cluster_size < 1:
        raise BackendError(f"shared scores: cluster_size is {cluster_size}; a cluster has at least one label")
    _check("the shared scores", shared.scores, torch.float32)
    wanted = (-(-labels // cluster_size), rows)
    if shared.scores.shape != wanted:
        raise BackendError(
            f"the shared scores have shape {tuple(shared.scores.shape)}; "
            f"{labels} labels in clusters of {cluster_size} and {rows} rows need (K, B) = {wanted}"
        )
    return shared.scores.detach(), min(cluster_size, labels)


def _csr(name: str, positives: Positives, rows: int) -> tuple[Tensor, Tensor]:
    for array in (positives.indptr, positives.indices):
        _check(name, array, torch.int64)
    if positives.indptr.shape != (rows + 1,) or positives.indices.dim() != 1:
        shape = tuple(positives.indptr.shape)
        raise BackendError(f"{name}: indptr has shape {shape}; a batch of {rows} rows needs ({rows + 1},)")
    return positives.indptr, positives.indices


def _of_pairs(name: str, values: Tensor | None, positives: Positives) -> Tensor | None:
    if values is None:
        return None
    _check(name, values, torch.float32)
    if values.shape != positives.indices.shape:
        raise BackendError(f"{name} have shape {tuple(values.shape)}; {len(positives.indices)} positives need one each")
    return values.detach()


def _matrix(name: str, matrix: Tensor, columns: int, rows: int | None = None) -> Tensor:
    _check(name, matrix, torch.float32)
    if matrix.dim() != 2 or matrix.shape[1] != columns or rows not in {None, len(matrix)}:
        wanted = f"({'B' if rows is None else rows}, {columns})"
        raise BackendError(f"{name} has shape {tuple(matrix.shape)}; the layer needs {wanted}")
    return matrix.detach()


def _same(name: str, tensor: Tensor, like: Tensor) -> Tensor:
    _check(name, tensor, torch.float32)
    if tensor.shape != like.shape:
        raise BackendError(f"{name} has shape {tuple(tensor.shape)}; the parameter has {tuple(like.shape)}")
    return tensor.detach()


def _check(name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    if tensor.dtype is not dtype or tensor.device.type != "cpu" or not tensor.is_contiguous():
        layout = "" if tensor.is_contiguous() else "non-contiguous "
        raise BackendError(
            f"the cpu backend needs {name} as contiguous {_short(dtype)} on the CPU, "
            f"not {layout}{_short(tensor.dtype)} on {tensor.device}"
        )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
