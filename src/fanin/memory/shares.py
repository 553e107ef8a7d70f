"""What several processes that train together exchange: what it takes in memory, and what one sends in a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.encoders.intermediate import base_encoder
from fanin.memory.parts import Part, part

if TYPE_CHECKING:
    from fanin.encoders.interface import Encoder

_FLOAT, _INT, _LONG = 4, 4, 8


def own_rows(rows: int, processes: int) -> int:
    """Rows of a batch that a process encodes; where they are not even, those of one that has one more.

    >>> own_rows(7, 3), own_rows(7, 1)
    (3, 7)
    """
    return -(-rows // processes)


def vector_bytes(rows: int, width: float, processes: int) -> float:
    """What is there at most while vectors of a batch, or gradients by them, go between processes.

    They come from all processes and are put together, for (B, D) noise is drawn by each.

    Args:
        rows: B.
        width: D, or the inputs that are active in a batch.
        processes: N.
    """
    return 4 * rows * width * _FLOAT if processes > 1 else 0.0


def gradient_bytes(encoder: Encoder, rows: int, processes: int, *, tokens: float) -> float:
    """What is there at most while gradients of the encoder go between processes; arguments as below."""
    if processes == 1:
        return 0.0
    return 2 * _dense(encoder) * _FLOAT + 3 * rows * _of_the_table(encoder, tokens)


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
    others, own, table = processes - 1, own_rows(rows, processes), _of_the_table(encoder, tokens)
    counts = 3 + bool(table) + bool(lexical)  # tokens, whether to save, whether to stop, and sizes of what follows
    return [
        *part("vectors of the texts", others * own * encoder.learned_features * _FLOAT),
        *part("lexical features", others * own * lexical * (2 * _INT + _FLOAT)),
        *part("gradients by the vectors", (rows - own) * encoder.learned_features * _FLOAT),
        *part("gradients of dense parameters", 2 * _dense(encoder) * _FLOAT * others / processes),
        *part("gradients of the embedding table", others * (2 * _INT + own * table) if table else 0),
        *part("losses and counts", counts * _LONG * others + 6 * _LONG * others / processes),
    ]


def _dense(encoder: Encoder) -> int:
    """Parameters outside the embedding table."""
    return sum(parameter.numel() for parameter in encoder.dense_parameters())


def _of_the_table(encoder: Encoder, tokens: float) -> float:
    """Bytes of a text that tell the gradient of the embedding table: its tokens, their weights, its bag's gradient."""
    width = base_encoder(encoder).table.shape[1]
    return _INT * (1 + 2 * tokens + width) if width else 0.0
