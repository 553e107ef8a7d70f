"""The run folder: resolved recipe, log, metrics, checkpoints and model of one training run."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fanin.errors import CheckpointError, ConfigError
from fanin.folders import (
    make_folder,
    real_path,
    remove_drafts,
    remove_folder,
    replace_file,
    settle_folder,
    settle_folders,
)
from fanin.recipes.recipe_files import recipe_text
from fanin.runs.run_log import RunLog
from fanin.version import __version__

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from fanin.recipes.recipe import Recipe

RECIPE, LOG, METRICS, MODEL = "recipe.yaml", "log.jsonl", "metrics.json", "model"
RUN_FILE, CHECKPOINTS = "run.json", "checkpoints"
_FORMAT = 1
_MODEL_MARK, _CHECKPOINT_MARK = "model.json", "checkpoint.json"  # what is in every such folder that is whole


@dataclass(frozen=True)
class RunOrigin:
    """What a run was started with, besides its recipe.

    Attributes:
        data: the data set, as an absolute path.
        score_test: whether the test split is scored at the end, where there is one; tuning leaves it alone.
        device: where it trains, by a name of :func:`fanin.training.device.resolve_device`.
    """

    data: str
    score_test: bool = True
    device: str = "cpu"


class RunFolder:
    """A run's files. One process at a time works on a run: this object holds its lock until it is closed.

    Made by :meth:`create` or :meth:`open`; a context manager, which closes it.

    Attributes:
        path: the folder.
        model: folder of the kept model.
        checkpoints: folder of the checkpoints.
        log: the run's log.
        origin: what the run was started with.
    """

    def __init__(self, path: Path, origin: RunOrigin, lock: int, *, made: bool = False) -> None:
        self.path, self.origin, self._made = path, origin, made
        self.model, self.checkpoints = path / MODEL, path / CHECKPOINTS
        self.log = RunLog(path / LOG)
        self._lock = lock

    @classmethod
    def create(
        cls, path: Path, recipe: Recipe, data: Path, *, score_test: bool = True, device: str = "cpu"
    ) -> RunFolder:
        """Start a run in a new or empty folder.

        Args:
            path: the folder.
            recipe: all settings of the run.
            data: the data set.
            score_test: whether to score the test split at the end.
            device: where it trains.

        Raises:
            ConfigError: the folder holds something already, or cannot be written.
        """
        origin = RunOrigin(str(data.resolve()), score_test, device)
        made = not path.exists()
        try:
            make_folder(path)
            if any(path.iterdir()):
                raise ConfigError(f"{path}: the run folder is not empty; name a new one, or delete it first")
            lock = _locked(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            run = cls(path, origin, lock, made=made)
            try:
                _write_description(lock, origin)
                run.write_recipe(recipe)
            except OSError:
                run.discard()  # so that the folder can be used once there is space
                raise
        except OSError as error:
            raise ConfigError(f"{path}: the run folder cannot be written ({error.strerror or error})") from error
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Take up a run that another process has left.

        What that process was writing when it was killed is removed, and of a model or checkpoint that it was replacing
        the older one is put back.

        Raises:
            CheckpointError: there is no run, its description is damaged, or the folder cannot be written.
            ConfigError: a process is at work on it.
        """
        try:
            lock = _locked(path, os.O_RDWR)
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{path}: holds no run that could be resumed ({RUN_FILE} is missing); give the folder that fanin train "
                "was given with --out"
            ) from error
        except OSError as error:
            raise CheckpointError(f"{path}: the run folder cannot be opened ({error.strerror or error})") from error
        try:
            run = cls(path, _read_description(path / RUN_FILE), lock)
            run._recover()
        except BaseException:
            os.close(lock)
            raise
        return run

    @property
    def finished(self) -> bool:
        """Whether the run is over: its metrics are written last."""
        return (self.path / METRICS).is_file()

    @property
    def has_model(self) -> bool:
        """Whether a model was kept."""
        return (self.model / _MODEL_MARK).is_file()

    def write_recipe(self, recipe: Recipe) -> None:
        """Write the resolved recipe.

        Raises:
            OSError: it cannot be written.
        """
        replace_file(self.path / RECIPE, recipe_text(recipe))

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json whole, which says that the run is over."""
        path = self.path / METRICS
        try:
            replace_file(path, json.dumps(metrics, indent=2) + "\n")
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be written ({error.strerror or error})") from error

    def put_model_aside(self) -> bool:
        """Keep what stands in the place of the model as ``model.damaged``; gives whether there was something."""
        aside = self.path / f"{MODEL}.damaged"
        remove_folder(aside)
        try:
            self.model.rename(aside)
        except OSError:
            return False
        return True

    def discard(self) -> None:
        """Remove what :meth:`create` wrote, and the folder if it made that."""
        with contextlib.suppress(OSError):
            for name in (RECIPE, RUN_FILE):
                (self.path / name).unlink(missing_ok=True)
            if self._made:
                self.path.rmdir()
        self.close()

    def close(self) -> None:
        """Let other processes work on the run."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _recover(self) -> None:
        try:
            settle_folder(self.model, _MODEL_MARK)
            settle_folders(self.checkpoints, _CHECKPOINT_MARK)
            if self.finished:  # a process that was killed may not have come to that
                remove_folder(self.checkpoints)
            for folder in (self.path, self.checkpoints):
                if folder.is_dir():
                    remove_drafts(folder)
        except OSError as error:
            raise CheckpointError(f"{self.path}: the run folder cannot be written ({error})") from error


def _locked(folder: Path, flags: int) -> int:
    """A descriptor of the run's description, locked; however its process ends, the lock goes with it."""
    descriptor = os.open(folder / RUN_FILE, flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConfigError(
            f"{folder}: another process is training in this run folder; wait for it, or stop it with Ctrl-C or SIGTERM "
            "(it saves where it stands)"
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _write_description(lock: int, origin: RunOrigin) -> None:
    values = {"format": _FORMAT, "fanin": __version__, **asdict(origin)}
    os.write(lock, (json.dumps(values, indent=2) + "\n").encode())
    os.fsync(lock)


def _read_description(path: Path) -> RunOrigin:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != _FORMAT:
            raise CheckpointError(
                f"{path}: format {values['format']!r}; this version of fanin reads format {_FORMAT}; use the version "
                "that wrote it"
            )
        return RunOrigin(str(values["data"]), bool(values["score_test"]), str(values.get("device", "cpu")))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: damaged ({error!r}); train again in a new folder") from error


def model_folder(path: Path) -> Path:
    """The model folder that a user means: a run folder's, or the folder itself.

    Where a process died while it replaced a model, the older one, kept as ``<name>.previous``, stands in.

    Raises:
        CheckpointError: there is no model.
    """
    real = real_path(path)
    previous = real.with_name(f"{real.name}.previous")
    for candidate in (path / MODEL, path / f"{MODEL}.previous", path, *([] if path.exists() else [previous])):
        if (candidate / _MODEL_MARK).is_file():
            return candidate
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such folder; give a run folder or a model folder")
    raise CheckpointError(f"{path}: holds no model; give a run folder of a training that saved one, or a model folder")
