"""The run folder: resolved recipe, log, metrics and model of one training run."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from fanin.errors import CheckpointError, ConfigError
from fanin.training.recipe_files import recipe_text

if TYPE_CHECKING:
    from pathlib import Path

    from fanin.training.recipe import Recipe

RECIPE, LOG, METRICS, MODEL = "recipe.yaml", "log.jsonl", "metrics.json", "model"


class RunFolder:
    """Paths of a run and what is written while it goes on.

    Args:
        path: the folder.

    Attributes:
        path: the folder.
        model: folder of the kept model.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = path / MODEL
        self._start = time.monotonic()

    @classmethod
    def create(cls, path: Path, recipe: Recipe) -> RunFolder:
        """Start a run in a new or empty folder.

        Raises:
            ConfigError: the folder holds something already, or cannot be written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise ConfigError(f"{path}: the run folder is not empty; name a new one, or delete it first")
            try:
                (path / RECIPE).write_text(recipe_text(recipe), encoding="utf-8")
            except OSError:
                (path / RECIPE).unlink(missing_ok=True)  # so that the folder can be used once there is space
                raise
        except OSError as error:
            raise ConfigError(f"{path}: the run folder cannot be written ({error.strerror or error})") from error
        return cls(path)

    def log(self, event: str, **values: Any) -> None:
        """Append one line of JSON to the log: the event, seconds since the start, and the values."""
        line = {"event": event, "seconds": round(time.monotonic() - self._start, 3), **values}
        try:
            with (self.path / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise CheckpointError(f"{self.path / LOG}: cannot be written ({error.strerror or error})") from error

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json whole."""
        path = self.path / METRICS
        temporary = path.with_suffix(".writing")
        try:
            temporary.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be written ({error.strerror or error})") from error


def model_folder(path: Path) -> Path:
    """The model folder that a user means: a run folder's, or the folder itself.

    Where a process died while it replaced a model, the older one, kept as ``<name>.previous``, stands in.

    Raises:
        CheckpointError: there is no model.
    """
    previous = path.resolve().with_name(f"{path.resolve().name}.previous")
    for candidate in (path / MODEL, path / f"{MODEL}.previous", path, *([] if path.exists() else [previous])):
        if (candidate / "model.json").is_file():
            return candidate
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such folder; give a run folder or a model folder")
    raise CheckpointError(f"{path}: holds no model; give a run folder of a training that saved one, or a model folder")
