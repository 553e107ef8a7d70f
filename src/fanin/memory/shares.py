"""What one of several processes that train together holds, and what it sends in a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.encoders.intermediate import base_encoder
from fanin.memory.parts import Part, Stage, part
from fanin.memory.plan import CUDA, TO_A_FILE, TO_THE_GPU, MemoryPlan
from fanin.processes.spread import CHUNK_BYTES

if TYPE_CHECKING:
    from fanin.encoders.interface import Encoder

_SHARED = frozenset(
    {
        "classifier weights",
        "classifier index sets",
        "classifier biases",
        "cluster vectors",
        "classifier's update state",
        "auxiliary objective's update state",
    }
)
_FLOAT, _INT, _LONG = 4, 4, 8


def plan_of_a_process(plan: MemoryPlan, processes: int) -> MemoryPlan:
    """The training plan of one of several processes, from that of one alone.

    What belongs to single labels is shared evenly, on a GPU as in memory; all else, buffers included, is counted as in
    one process. Prediction stays that of one.

    Args:
        plan: of one process.
        processes: N.

    >>> alone = Stage("training", (Part("classifier weights", 600), Part("label counts", 80)))
    >>> plan_of_a_process(MemoryPlan((alone,), alone), 3).training[0].bytes
    280
    """
    training = tuple(Stage(stage.name, _own_parts(stage.parts, processes)) for stage in plan.training)
    return MemoryPlan(training, plan.prediction, plan.gpu)


def _own_parts(parts: tuple[Part, ...], processes: int) -> tuple[Part, ...]:
    """What one of several processes holds of a stage's parts."""

    def own(held: Part) -> Part:
        return held._replace(bytes=-(-held.bytes // processes)) if held.name in _SHARED else held

    shared = sum(held.bytes - own(held).bytes for held in parts if held.gpu)
    whole = sum(held.bytes for held in parts if held.gpu and held.name not in _SHARED | {CUDA})
    # What passes through this machine's memory between a GPU and a file: shared tensors a chunk at a time.
    passing = {TO_A_FILE: lambda size: min(size, whole + CHUNK_BYTES), TO_THE_GPU: lambda size: max(0, size - shared)}
    owned = (own(held) for held in parts)
    return tuple(held._replace(bytes=passing.get(held.name, int)(held.bytes)) for held in owned)


def sent_in_a_step(encoder: Encoder, rows: int, processes: int, *, tokens: float, lexical: float = 0.0) -> list[Part]:
    """Bytes that a process sends in a step of training, by what they are; see :attr:`Processes.sent`.

    Where rows are not even, those of the process that has one more.

    Args:
        encoder: what is trained; its weights may be without memory.
        rows: B.
        processes: N.
        tokens: of a text, as an embedding table reads them.
        lexical: lexical features of a text that are not zero.
    """
    base, others = base_encoder(encoder), processes - 1
    own = -(-rows // processes)
    dense = sum(parameter.numel() for parameter in encoder.dense_parameters())
    width = base.table.shape[1]
    counts = 3 + bool(width) + bool(lexical)  # tokens, whether to save, whether to stop, and sizes of what follows
    table = _INT * (2 + own + 2 * own * tokens + own * width) if width else 0
    return [
        *part("vectors of the texts", others * own * encoder.learned_features * _FLOAT),
        *part("lexical features", others * own * lexical * (2 * _INT + _FLOAT)),
        *part("gradients by the vectors", (rows - own) * encoder.learned_features * _FLOAT),
        *part("gradients of dense parameters", 2 * dense * _FLOAT * others / processes),
        *part("gradients of the embedding table", others * table),
        *part("losses and counts", counts * _LONG * others + 6 * _LONG * others / processes),
    ]
