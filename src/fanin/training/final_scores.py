"""What a finished run has reached: the scores of the kept model, its bytes, and what the training took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fanin.model_files import folder_bytes, load_model
from fanin.training.gpu_memory import gpu_peaks
from fanin.training.process_memory import peak_bytes
from fanin.training.scoring import score_split

if TYPE_CHECKING:
    import torch

    from fanin.data.batches import Batches
    from fanin.data.label_rows import LabelRows
    from fanin.model import TextModel
    from fanin.training.position import Position
    from fanin.training.preparation import PreparedData
    from fanin.training.progress import ProgressDisplay
    from fanin.training.recipe import Recipe
    from fanin.training.run_folder import RunFolder


def final_scores(
    run: RunFolder,
    recipe: Recipe,
    data: PreparedData,
    position: Position,
    display: ProgressDisplay,
    device: torch.device,
) -> tuple[TextModel, dict[str, Any]]:
    """Score the kept model.

    Args:
        run: holds the model, and says whether the test split is scored.
        recipe: its evaluation section is used.
        data: the splits.
        position: of the run, at its end; peaks of memory are noted there.
        display: told of the progress.
        device: where it is scored, and stays.

    Returns:
        The model and what metrics.json holds.
    """
    model = load_model(run.model).to(device)

    def score(name: str, batches: Batches, excluded: LabelRows | None) -> dict[str, Any]:
        display.start(f"scoring {name}", batches.n_rows)
        return score_split(model, batches, recipe.evaluation, display, excluded).as_dict()

    metrics: dict[str, Any] = {
        "validation": score("validation", data.validation_batches(), data.store.excluded(data.validation)),
        "validation_source": data.validation_source,
        "train_seconds": round(position.train_seconds, 3),
        "train_texts_per_second": round(position.texts / position.train_seconds, 1),
        "classifier_bytes": sum(model.classifier.nbytes().values()),
        "model_bytes": folder_bytes(run.model),
    }
    if position.skipped:
        metrics["skipped_steps"] = position.skipped
    if run.origin.score_test and "test" in data.store.split_names:
        metrics["test"] = score("test", data.test_batches(), data.store.excluded("test"))
    position.note_peaks(peak_bytes(), *gpu_peaks(device))
    metrics["peak_bytes"] = position.peak_bytes
    if position.gpu_peak_bytes:
        metrics |= {"gpu_peak_bytes": position.gpu_peak_bytes, "gpu_reserved_bytes": position.gpu_reserved_bytes}
    metrics["device"] = str(device)
    return model, metrics
