"""The backend: checks what it is given and hands it to the kernels of groups or to those of labels one by one."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from fanin.errors import BackendError
from fanin.kernels.checks import ArrayChecks
from fanin.kernels.reference import ReferenceBackend
from fanin.kernels.spec import DEFAULT_CHUNK_SIZE, StepResult, moment_count
from fanin.kernels.triton import grouped, grouped_gradients, per_label, per_label_weights, rounding, topk
from fanin.kernels.triton import sets as sets_kernels
from fanin.kernels.triton.arguments import stored_dtypes
from fanin.kernels.triton.products import INTERPRETED

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor

    from fanin.kernels.chosen_clusters import ChosenClusters, SharedVectors
    from fanin.kernels.spec import Loss, Moments, Positives, Prune, SharedScores, SparseWeights, Update

_SEED_MASK = 0x7FFF_FFFF_FFFF_FFFF


class TritonBackend:
    """Triton kernels on one GPU; see :class:`fanin.kernels.spec.Backend` for every operation.

    Weights are float32, bfloat16 or float8, everything else is float32. Products with float32 weights are computed in
    float32, or in TensorFloat-32 after ``torch.set_float32_matmul_precision("high")``; those with low formats take both
    operands in bfloat16 and add up in float32.

    Sums that several programs add to (dx of groups, the gradient of shared scores) depend on the order in which the
    programs run: with n terms t the error of a sum is below ``n * 2**-24 * sum(|t|)`` whatever the order. After
    ``torch.use_deterministic_algorithms(True)`` the order is fixed, and a call gives the same bits again on the same
    GPU; dx then takes a copy a program.

    With TRITON_INTERPRET=1 in the environment before the first import the kernels run on the CPU, very slowly, in
    Triton's interpreter.
    """

    name = "triton"

    def forward(self, layer: SparseWeights, x: Tensor, shared: SharedScores | None = None) -> Tensor:
        """Logits (B, L)."""
        _checks(layer, x, shared)
        B, L = len(x), len(layer.weight)
        logits = torch.empty(B, L, device=x.device)
        if B:
            with _on(x.device):
                family = grouped if grouped.serves(layer) else per_label
                family.Logits(layer, x, shared).write(logits, 1, L, 0, L)
        return logits

    def grad_input(self, layer: SparseWeights, grad: Tensor) -> Tensor:
        """Input gradient (B, D)."""
        checks = _checks(layer)
        checks.matrix("the gradient", grad, len(layer.weight))
        if not len(grad):
            return grad.new_zeros(0, layer.in_features)
        run = grouped_gradients.grad_input if grouped.serves(layer) else per_label_weights.grad_input
        with _on(grad.device):
            return run(layer, grad.detach())

    def grad_weight(self, layer: SparseWeights, grad: Tensor, x: Tensor) -> Tensor:
        """Weight gradient (L, F), float32."""
        checks = _checks(layer)
        checks.matrix("the gradient", grad, len(layer.weight))
        checks.matrix("x", x, layer.in_features, rows=len(grad))
        if not len(grad):
            return grad.new_zeros(layer.weight.shape)
        run = grouped_gradients.grad_weight if grouped.serves(layer) else per_label_weights.grad_weight
        with _on(grad.device):
            return run(layer, grad.detach(), x)

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
        chunk_size: int = DEFAULT_CHUNK_SIZE,  # noqa: ARG002 - chunks are as large as the GPU's cache
    ) -> StepResult:
        """Loss and gradients; updates the layer and the moments in place. Waits for the GPU, to read the loss."""
        value, dx, shared_grad = self.launch_train_step(
            layer, moments, x, positives, loss=loss, update=update, step=step, scale=scale, shared=shared
        )
        return StepResult(value.item(), dx, shared_grad)

    def launch_train_step(
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
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """As :meth:`train_step` without waiting for the GPU; the loss is a float64 scalar there.

        A CUDA graph can hold it. The step's number, learning rate and random bits are those of the capture then.
        """
        checks = _checks(layer, x, shared)
        checks.moments(moments, layer, moment_count(update))
        checks.positives("positives", positives, len(x))
        if not len(x):
            raise BackendError("training step: the batch has no rows")
        run = grouped.train_step if grouped.serves(layer) else per_label.train_step
        with _on(x.device):
            return run(layer, moments, x, positives, loss, update, step, scale, shared)

    def topk(
        self, layer: SparseWeights, x: Tensor, k: int, exclude: Positives | None, shared: SharedScores | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k best labels a row: scores (B, k) and labels (B, k)."""
        checks = _checks(layer, x, shared)
        if exclude is not None:
            checks.positives("exclude", exclude, len(x))
        if not 1 <= k <= len(layer.weight):
            raise BackendError(f"top-k: k={k} must lie in 1..{len(layer.weight)}")
        if not len(x):
            return x.new_empty(0, k), torch.empty(0, k, dtype=torch.int64, device=x.device)
        with _on(x.device):
            return topk.topk(layer, x, k, exclude, shared)

    def topk_among(
        self,
        layer: SparseWeights,
        x: Tensor,
        k: int,
        chosen: ChosenClusters,
        exclude: Positives | None,
        shared: SharedVectors | None = None,
    ) -> tuple[Tensor, Tensor]:
        """In plain torch, row by row: a GPU scores all labels so fast that a selection is not worth its own kernels."""
        return ReferenceBackend().topk_among(layer, x, k, chosen, exclude, shared)

    def widen_into(self, stored: Tensor, out: Tensor) -> None:
        """Float32 values of bfloat16 or float8; torch's own copy, which is exact and as fast as memory."""
        _check_codes(stored, out)
        out.detach().copy_(stored.detach())

    def round_into(self, values: Tensor, out: Tensor, seed: int, step: int, first_element: int = 0) -> None:
        """Stochastic rounding of float32 values into bfloat16 or float8."""
        _check_codes(out, values)
        with _on(values.device):
            rounding.round_into(values, out, seed, step, first_element)

    def draw_index(self, sets: int, fan_in: int, in_features: int, seed: int, first_set: int = 0) -> Tensor:
        """Index sets (sets, F), on the current GPU."""
        device = torch.device("cpu") if INTERPRETED else torch.device("cuda", torch.cuda.current_device())
        return sets_kernels.draw_index(sets, fan_in, in_features, seed & _SEED_MASK, device, first_set)

    def rewire(
        self, layer: SparseWeights, moments: Moments, prune: Prune, seed: int, inputs: int | None = None
    ) -> Tensor:
        """Prune and regrow every index set; returns the number of connections replaced in each, (S,) int32."""
        checks, D = _checks(layer), layer.in_features
        checks.moments(moments, layer)
        inputs = D if inputs is None else inputs
        if not 1 <= inputs <= D:
            raise BackendError(f"rewiring: inputs={inputs} to regrow must lie in 1..{D}")
        with _on(layer.weight.device):
            return sets_kernels.rewire(layer, moments, prune, seed & _SEED_MASK, inputs)


def _check_codes(stored: Tensor, values: Tensor) -> None:
    """Refuse numbers in fewer bits and float32 values that are not each other's."""
    checks = ArrayChecks("triton", values.device)
    if stored.dtype not in stored_dtypes() or stored.dtype is torch.float32 or values.shape != stored.shape:
        raise BackendError(
            f"float32 values {tuple(values.shape)} belong to bfloat16 or float8_e4m3fn of the same shape, "
            f"not to {tuple(stored.shape)} {str(stored.dtype).removeprefix('torch.')}"
        )
    checks.tensor("the values", values, torch.float32)
    checks.tensor("the numbers in fewer bits", stored, stored.dtype)


def _checks(layer: SparseWeights, x: Tensor | None = None, shared: SharedScores | None = None) -> ArrayChecks:
    """The checks of a call, with those of the layer, x and the shared scores made."""
    device, dtype = layer.weight.device, layer.weight.dtype
    if device.type != ("cpu" if INTERPRETED else "cuda"):
        raise BackendError(f"the triton backend works on {'the CPU' if INTERPRETED else 'a GPU'}, not on {device}")
    if dtype not in stored_dtypes():
        known = ", ".join(str(known).removeprefix("torch.") for known in stored_dtypes())
        raise BackendError(f"the triton backend reads weights in {known}, not in {str(dtype).removeprefix('torch.')}")
    checks = ArrayChecks("triton", device)
    checks.layer(layer)
    if x is not None:
        checks.matrix("x", x, layer.in_features)
        checks.shared(shared, layer, len(x))
    return checks


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Kernels are launched on the current GPU: make it the tensors'."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
