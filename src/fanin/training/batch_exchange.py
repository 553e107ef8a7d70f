"""A batch whose rows several processes encode: brought together for the classifier, and taken apart again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fanin.encoders.batch_share import BatchShare, shared_batch
from fanin.kernels.active_inputs import ActiveInputs
from fanin.model import encode

if TYPE_CHECKING:
    from torch import Tensor

    from fanin.data.batches import Batch
    from fanin.encoders.interface import Encoder
    from fanin.processes.group import Processes


def encode_own_rows(
    encoder: Encoder, batch: Batch, processes: Processes, device: torch.device
) -> Tensor | ActiveInputs:
    """Vectors of the rows of a batch that this process encodes, (b, D), or their active columns; on a device."""
    if processes.size == 1:
        return encode(encoder, batch.inputs, device)
    tokens = processes.counts(len(batch.inputs[0]))
    rank, own = processes.rank, processes.own_rows(len(batch))
    share = BatchShare(own.start, len(batch), first_token=sum(tokens[:rank]), tokens=sum(tokens))
    assert isinstance(encoder, torch.nn.Module)
    with shared_batch(encoder, share):
        return encode(encoder, batch.inputs, device)


@torch.no_grad()
def brought_together(own: Tensor | ActiveInputs, rows: int, processes: Processes) -> Tensor | ActiveInputs:
    """Vectors of all rows of a batch, (B, D), or their active columns.

    Args:
        own: of the rows that this process has encoded.
        rows: B.
        processes: all of them.
    """
    if processes.size == 1:
        return own
    parts = [processes.rows_of(rank, rows) for rank in range(processes.size)]
    counts = [part.stop - part.start for part in parts]
    if not isinstance(own, ActiveInputs):
        return processes.concatenated(own.detach(), counts)
    learned = _learned(own)
    dense = processes.concatenated(own.values[:, :learned].detach(), counts)
    # Of the others only what is not zero is sent.
    at_rows, at_columns = own.values[:, learned:].nonzero(as_tuple=True)
    entries = own.values[:, learned:][at_rows, at_columns].detach()
    held = processes.counts(len(entries))
    all_rows = processes.concatenated((at_rows + parts[processes.rank].start).int(), held).long()
    columns = processes.concatenated(own.columns[learned + at_columns].int(), held).long()
    values = processes.concatenated(entries, held)
    active, places = torch.unique(columns, return_inverse=True)
    mostly_zero = dense.new_zeros(rows, len(active)).index_put_((all_rows, places), values)
    columns = torch.cat([own.columns[:learned], active])
    return ActiveInputs(torch.cat([dense, mostly_zero], dim=1), columns, own.in_features, learned)


def own_gradient(own: Tensor | ActiveInputs, dx: Tensor, processes: Processes) -> Tensor:
    """The gradient by the vectors of the own rows, in their shape.

    Args:
        own: these vectors.
        dx: what the own labels give of the gradient by the vectors of all rows, of :func:`brought_together`.
        processes: all of them.
    """
    if processes.size == 1:
        return dx
    if not isinstance(own, ActiveInputs):
        return processes.summed_rows(dx)
    learned = _learned(own)
    found = torch.zeros_like(own.values)
    found[:, :learned] = processes.summed_rows(dx[:, :learned])
    return found


def _learned(x: ActiveInputs) -> int:
    assert x.dense_inputs is not None, "what is active in one batch only wants no gradient"
    return x.dense_inputs
