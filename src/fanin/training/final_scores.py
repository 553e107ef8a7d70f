"""What a finished run has reached: the scores of the kept model, its bytes, and what the training took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fanin.model_files import folder_bytes
from fanin.processes.group import ALONE
from fanin.training.gpu_memory import gpu_peaks
from fanin.training.process_memory import peak_bytes
from fanin.training.scoring import score_split

if TYPE_CHECKING:
    from fanin.data.batches import Batches
    from fanin.data.label_rows import LabelRows
    from fanin.model import TextModel
    from fanin.processes.group import Processes
    from fanin.recipes.recipe import Recipe
    from fanin.runs.position import Position
    from fanin.runs.run_folder import RunFolder
    from fanin.training.preparation import PreparedData
    from fanin.training.progress import ProgressDisplay
    from fanin.training.scoring import Ranking


def final_scores(
    model: TextModel,
    run: RunFolder,
    recipe: Recipe,
    data: PreparedData,
    position: Position,
    display: ProgressDisplay,
    processes: Processes = ALONE,
    ranking: Ranking | None = None,
) -> dict[str, Any]:
    """Score the kept model.

    Args:
        model: the kept model.
        run: holds the model, and says whether the test split is scored.
        recipe: its evaluation section is used.
        data: the splits.
        position: of the run, at its end; peaks of memory are noted there.
        display: told of the progress.
        processes: that share the model.
        ranking: how they rank a batch, where there are several.

    Returns:
        What metrics.json holds.
    """
    own_rows = processes.own_rows

    def score(name: str, batches: Batches, excluded: LabelRows | None) -> dict[str, Any]:
        display.start(f"scoring {name}", batches.n_rows)
        scores = score_split(model, batches, recipe.evaluation, display, excluded, ranking=ranking, processes=processes)
        return scores.as_dict()

    metrics: dict[str, Any] = {
        "validation": score("validation", data.validation_batches(own_rows), data.store.excluded(data.validation)),
        "validation_source": data.validation_source,
        "train_seconds": round(position.train_seconds, 3),
        "train_texts_per_second": round(position.texts / position.train_seconds, 1),
        "classifier_bytes": sum(model.classifier.nbytes().values()),
        "model_bytes": folder_bytes(run.model),
    }
    if position.skipped:
        metrics["skipped_steps"] = position.skipped
    if run.origin.score_test and "test" in data.store.split_names:
        metrics["test"] = score("test", data.test_batches(own_rows), data.store.excluded("test"))
    position.note_peaks(*processes.largest(peak_bytes(), *gpu_peaks(model.device)))
    metrics["peak_bytes"] = position.peak_bytes
    if position.gpu_peak_bytes:
        metrics |= {"gpu_peak_bytes": position.gpu_peak_bytes, "gpu_reserved_bytes": position.gpu_reserved_bytes}
    metrics["device"] = str(model.device)
    if processes.size > 1:
        metrics["processes"] = processes.size
    return metrics
