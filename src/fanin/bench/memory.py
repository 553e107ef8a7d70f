"""How much memory a process takes that makes a sparse classifier and trains it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LABEL_COUNTS = (670_000, 3_000_000)

# A process of its own: the peak of this one would count everything that it did before.
_CHILD = "import sys; from fanin.bench.memory import train_and_report; train_and_report(*map(int, sys.argv[1:]))"


@dataclass(frozen=True)
class TrainingMemory:
    """One classifier, trained in a process of its own.

    Attributes:
        out_features: L.
        in_features: D.
        fan_in: F.
        batch_size: B.
        steps: training steps made, SGD without momentum.
        imports_gib: peak resident memory before the classifier was made, in GiB: Python, torch, fanin.
        classifier_gib: weights, index sets and biases.
        peak_gib: peak resident memory (VmHWM on Linux) at the end.
    """

    out_features: int
    in_features: int
    fan_in: int
    batch_size: int
    steps: int
    imports_gib: float
    classifier_gib: float
    peak_gib: float


def measure_memory(
    label_counts: Iterable[int] = LABEL_COUNTS,
    *,
    in_features: int = 768,
    fan_in: int = 32,
    batch_size: int = 128,
    steps: int = 20,
) -> list[TrainingMemory]:
    """Peak memory of making and training a per-label sparse classifier, one process for each number of labels.

    Args:
        label_counts: L of each row.
        in_features: D.
        fan_in: F.
        batch_size: B.
        steps: training steps.

    Raises:
        subprocess.CalledProcessError: a process failed; its messages are on standard error.
    """
    rows = []
    for out_features in label_counts:
        sizes = (out_features, in_features, fan_in, batch_size, steps)
        command = [sys.executable, "-c", _CHILD, *map(str, sizes)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own code
        rows.append(TrainingMemory(*sizes, **json.loads(done.stdout)))
    return rows


def train_and_report(out_features: int, in_features: int, fan_in: int, batch_size: int, steps: int) -> None:
    """The child: makes, trains, and writes its figures to standard output as JSON."""
    import torch

    from fanin.classifier.sparse import SparseLinear
    from fanin.kernels.spec import SGD, Loss, Positives
    from fanin.training.process_memory import peak_bytes

    imports = peak_bytes()
    layer = SparseLinear(in_features, out_features, fan_in)
    indptr = torch.arange(batch_size + 1)  # one positive a row
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(batch_size, in_features, generator=generator)
        positives = Positives(indptr, torch.randint(out_features, (batch_size,), generator=generator))
        layer.train_step(x, positives, Loss.BCE, SGD(0.1))
    figures = {"imports_gib": imports, "classifier_gib": sum(layer.nbytes().values()), "peak_gib": peak_bytes()}
    sys.stdout.write(json.dumps({name: count / 2**30 for name, count in figures.items()}))
