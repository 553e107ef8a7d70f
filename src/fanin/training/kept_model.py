"""Whether a run that goes on from a checkpoint can count on the model that it has kept as its best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanin.errors import CheckpointError
from fanin.model_description import model_digest

if TYPE_CHECKING:
    from fanin.runs.run_folder import RunFolder


def fault_of_kept_model(run: RunFolder, kept: str | None) -> str | None:
    """Why the kept model is not the one that a checkpoint counts on, as the beginning of a sentence; None where it is.

    A model that is damaged is put aside, so that another can take its place.

    Args:
        run: its folder.
        kept: digest of the model that was kept when the checkpoint was saved, None where it was not noted.
    """
    try:
        found = model_digest(run.model)
    except CheckpointError as error:
        aside = run.put_model_aside()
        return f"{error}; the kept model is put aside" if aside else "the kept model is gone"
    # It was kept after the checkpoint: of a past that the run may not come to again.
    return None if kept in (None, found) else "the kept model is not that of the checkpoint"
