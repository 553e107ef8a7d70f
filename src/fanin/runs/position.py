"""Where a run stands: what a loop over its steps counts."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_Number = Annotated[int, Field(ge=0)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Position(BaseModel):
    """Counters of a run, kept in its checkpoints.

    Attributes:
        epoch: number of the epoch that is going on, from 1; one more than there are when all are over.
        batch: number of its batch that comes next, from 0.
        step: steps made.
        texts: texts trained on in the epochs that are over.
        best: the best validation value so far, None before the first.
        kept: digest of the model that was kept for it, see :func:`fanin.model_description.model_digest`; None before
            the first, and in checkpoints of versions that did not note it.
        train_seconds: of training in the epochs that are over, and of the start.
        peak_bytes: largest memory of the processes that made the run so far.
        gpu_peak_bytes: most that their tensors took of a GPU's memory; 0 on the CPU.
        gpu_reserved_bytes: most that torch held of it, for tensors to come too.
        epoch_loss: losses of this epoch, summed over its texts.
        epoch_texts: texts trained on in this epoch.
        epoch_seconds: of training in this epoch.
        skipped: steps whose batches were passed over.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    epoch: Annotated[int, Field(ge=1)] = 1
    batch: _Number = 0
    step: _Number = 0
    texts: _Number = 0
    best: Annotated[float, Field(allow_inf_nan=False)] | None = None
    kept: str | None = None
    train_seconds: _Amount = 0.0
    peak_bytes: _Number = 0
    gpu_peak_bytes: _Number = 0
    gpu_reserved_bytes: _Number = 0
    epoch_loss: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    epoch_texts: _Number = 0
    epoch_seconds: _Amount = 0.0
    skipped: list[_Number] = []

    @property
    def mean_loss(self) -> float:
        """Of the texts of this epoch so far."""
        return self.epoch_loss / max(self.epoch_texts, 1)

    @property
    def texts_per_second(self) -> float:
        """Of this epoch so far."""
        return self.epoch_texts / self.epoch_seconds if self.epoch_seconds else 0.0

    def note_peaks(self, memory: int, gpu: int, gpu_reserved: int) -> None:
        """Keep the largest of what this process has taken, and those before it."""
        self.peak_bytes = max(self.peak_bytes, memory)
        self.gpu_peak_bytes = max(self.gpu_peak_bytes, gpu)
        self.gpu_reserved_bytes = max(self.gpu_reserved_bytes, gpu_reserved)

    def end_step(self, texts: int, loss: float) -> None:
        """A step is made on so many texts, with this mean loss."""
        self.step += 1
        self.batch += 1
        self.epoch_texts += texts
        self.epoch_loss += loss * texts

    def end_epoch(self) -> None:
        """The epoch is over; the next one begins."""
        self.epoch += 1
        self.texts += self.epoch_texts
        self.train_seconds += self.epoch_seconds
        self.batch, self.epoch_loss, self.epoch_texts, self.epoch_seconds = 0, 0.0, 0, 0.0
