"""What a classifier takes in memory: weights, the state of their updates, and what its operations make for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from fanin.classifier.bottleneck import BottleneckLinear
from fanin.classifier.dense import DENSE_CHUNK_SIZE, DenseLinear
from fanin.classifier.dense_autograd import AutogradDenseLinear
from fanin.classifier.internal_order import InternalOrder
from fanin.classifier.label_bands import LabelBands
from fanin.classifier.masked import MaskedLinear
from fanin.classifier.sparse import SparseLinear
from fanin.kernels.spec import compute_dtype, index_dtype, moment_count
from fanin.memory import gpu_parts
from fanin.memory.parts import Part, part
from fanin.processes.group import ALONE, Processes
from fanin.training.assemble_classifier import finds_related_labels, lay_out_classifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fanin.classifier.interface import Classifier
    from fanin.encoders.interface import Encoder
    from fanin.processes.group import Transport
    from fanin.recipes.classifier_recipe import AnyClassifierSection
    from fanin.recipes.optimizer_recipe import UpdateSection

PLACES = "places of the labels"
"""Name of what a classifier makes of the order of its labels; it is in no file."""

_FLOAT, _LONG = 4, 8
_NAMES = {
    "weight": "classifier weights",
    "projection": "classifier weights",
    "mask": "classifier mask",
    "index": "classifier index sets",
    "bias": "classifier biases",
    "clusters.weight": "cluster vectors",
    "order.outer": "label order",
}
_NOBODY = object()  # in the place of what connects processes
_GIVEN_BACK = 32 << 20  # of glibc, the largest M_MMAP_THRESHOLD
_SCRATCH = 8 << 20  # of the kernels' blocks and of the update of cluster vectors, a piece at a time


def lay_out(section: AnyClassifierSection, encoder: Encoder, labels: int, processes: int = 1) -> Classifier:
    """The recipe's classifier without memory for its weights, or the first process's part of it, which is the largest.

    Raises:
        ConfigError: the kind cannot serve so many labels, or so many processes.
    """
    # Which part it is decides what is made; nothing is exchanged for that.
    team = Processes(0, processes, cast("Transport", _NOBODY)) if processes > 1 else ALONE
    with torch.device("meta"):
        return lay_out_classifier(section, encoder, labels, 0, ordered=finds_related_labels(section), processes=team)


def weight_parts(classifier: Classifier) -> list[Part]:
    """Everything that prediction needs, by what it is."""
    found: dict[str, int] = {}
    for name, tensor in classifier.state_dict().items():
        known = next((known for known in sorted(_NAMES, key=len, reverse=True) if name.endswith(known)), "weight")
        found[_NAMES[known]] = found.get(_NAMES[known], 0) + tensor.nbytes
    places = sum(_LONG * len(module.outer) for module in classifier.modules() if isinstance(module, InternalOrder))
    return [Part(name, size) for name, size in found.items()] + part(PLACES, places)


def moment_bytes(classifier: Classifier, update: UpdateSection) -> int:
    """The state of the update."""
    numbers = sum(parameter.numel() * compute_dtype(parameter.dtype).itemsize for parameter in classifier.parameters())
    return moment_count(update.at(1.0)) * numbers


def dropped_bytes(classifier: Classifier, update: UpdateSection) -> int:
    """Of the state of the update, what may still be the process's when it is dropped.

    The C library gives large blocks back at once, and may keep smaller ones for itself.
    """
    sizes = [own.numel() * compute_dtype(own.dtype).itemsize for own in classifier.parameters()]
    return moment_count(update.at(1.0)) * sum(size for size in sizes if size < _GIVEN_BACK)


def step_bytes(classifier: Classifier, rows: int, active: float, update: UpdateSection, *, gpu: bool = False) -> int:
    """The most that a training step makes for a while.

    Args:
        classifier: the classifier, its weights perhaps without memory.
        rows: B.
        active: inputs that are active in a batch; 0 where x is dense.
        update: of the weights.
        gpu: whether it is made on a GPU.
    """
    return int(max(_step_bytes(layer, rows, active, update, gpu=gpu) for layer in _layers(classifier)))


def ranking_bytes(classifier: Classifier, rows: int, active: float, *, gpu: bool = False) -> int:
    """The most that finding the best labels makes for a while; arguments as of :func:`step_bytes`."""
    return int(max(_ranking_bytes(layer, rows, active, gpu=gpu) for layer in _layers(classifier)))


def build_bytes(classifier: Classifier, *, prior: bool) -> int:
    """The most that is there for a while when the classifier is made."""
    most = 3 * _LONG * classifier.out_features if prior else 0  # of the log-odds of all labels
    if prior and any(isinstance(layer, SparseLinear) for layer in _layers(classifier)):
        most += _LONG * classifier.out_features  # brought into the layer's order
    if isinstance(classifier, MaskedLinear):
        most = max(most, 2 * _LONG * classifier.connections)
    return most


def rewiring_bytes(classifier: Classifier) -> int:
    """The most that a rewiring makes for a while, whatever it remembers of batches apart."""
    if isinstance(classifier, MaskedLinear):
        # Their places, sizes and ranks; a sorted copy beside the ranks.
        return classifier.connections * (3 * _LONG + 3 * _FLOAT)
    sets = sum(len(layer.index) for layer in _layers(classifier) if isinstance(layer, SparseLinear))
    return (_FLOAT + _LONG) * sets


def _layers(classifier: Classifier) -> Iterator[DenseLinear | SparseLinear]:
    """The layers, of which one is at work at a time."""
    if isinstance(classifier, LabelBands):
        yield from classifier.bands
    elif isinstance(classifier, BottleneckLinear):
        yield classifier.output
    else:
        assert isinstance(classifier, DenseLinear | SparseLinear)
        yield classifier


def _step_bytes(
    layer: DenseLinear | SparseLinear, rows: int, active: float, update: UpdateSection, *, gpu: bool
) -> float:
    if isinstance(layer, SparseLinear) and gpu:
        return gpu_parts.sparse_step_bytes(layer, rows, active) + 2 * _shared_bytes(layer, rows) + _SCRATCH
    if isinstance(layer, SparseLinear):
        return _read_bytes(layer, rows, active, gradients=True) + 2 * _shared_bytes(layer, rows) + _SCRATCH
    L, D = layer.weight.shape
    x = 2 * rows * D * _FLOAT
    if isinstance(layer, AutogradDenseLinear):
        steps = 2 if moment_count(update.at(1.0)) > 1 else 0  # AdamW's temporary arrays
        return x + 5 * rows * L * _FLOAT + (1 + steps) * L * D * _FLOAT
    chunk = min(DENSE_CHUNK_SIZE, L)
    gradient = 0 if update.kind == "sgd" and not update.momentum and not isinstance(layer, MaskedLinear) else chunk * D
    return x + _FLOAT * (2 * rows * chunk + 2 * gradient)


def _ranking_bytes(layer: DenseLinear | SparseLinear, rows: int, active: float, *, gpu: bool) -> float:
    if isinstance(layer, SparseLinear) and gpu:
        return gpu_parts.sparse_ranking_bytes(layer, rows, active) + _shared_bytes(layer, rows)
    if isinstance(layer, SparseLinear):
        return _read_bytes(layer, rows, active, gradients=False) + _shared_bytes(layer, rows)
    L, D = layer.weight.shape
    return _FLOAT * rows * (D + 3 * min(DENSE_CHUNK_SIZE, L))


def _read_bytes(layer: SparseLinear, rows: int, active: float, *, gradients: bool) -> float:
    """X as the kernels read it, and the index sets narrowed to its active columns."""
    width = active or layer.in_features
    narrowed = layer.index.numel() * index_dtype(int(active) + 1).itemsize if active else 0
    copies = (3 + torch.get_num_threads() if gradients else 2) if not active else (5 if gradients else 3)
    return narrowed + copies * rows * width * _FLOAT


def _shared_bytes(layer: SparseLinear, rows: int) -> int:
    """Scores that clusters share."""
    return 0 if layer.clusters is None else len(layer.clusters.weight) * rows * _FLOAT
