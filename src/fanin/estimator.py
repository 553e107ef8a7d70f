"""Text classification in a few lines of Python."""

from __future__ import annotations

import json
import reprlib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fanin.beams.files import load_beam
from fanin.data.formats import open_dataset
from fanin.errors import ConfigError, DataError
from fanin.model_files import load_model, save_model
from fanin.recipes.recipe_files import load_recipe
from fanin.runs.run_folder import RunFolder, model_folder
from fanin.training.device import resolve_device
from fanin.training.non_finite import NonFiniteError
from fanin.training.preparation import prepare
from fanin.training.progress import Bar, Silent
from fanin.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fanin.classifier.beam import Beam
    from fanin.model import Prediction, TextModel

_LOWER_RATES = "lower classifier.schedule.learning_rate or encoder.optimizer.learning_rate in the settings"


class TextClassifier:
    """A text classifier for huge numbers of labels. Made by :meth:`fit` or :meth:`load`.

    Attributes:
        model: its parts, for those who need them.

    >>> texts = ["green tea", "black tea", "espresso", "filter coffee"] * 8
    >>> labels = [["tea"], ["tea"], ["coffee"], ["coffee"]] * 8
    >>> classifier = TextClassifier.fit(texts, labels, settings=["encoder.out_features=64", "training.epochs=1"])
    >>> len(classifier.predict(["white tea"], k=2)[0])
    2
    """

    def __init__(self, model: TextModel) -> None:
        self.model = model
        self._folder: Path | None = None
        self._beam: Beam | None = None

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        labels: Iterable[Iterable[str]],
        *,
        recipe: str | Path = "default",
        settings: Iterable[str] = (),
        device: str = "cpu",
        progress: bool = False,
    ) -> TextClassifier:
        """Train a classifier.

        Args:
            texts: the training texts: a list, an array or a column of strings.
            labels: for each text the names of its labels; may be empty.
            recipe: a shipped recipe's name or a YAML file.
            settings: changes of single settings, each "section.key=value".
            device: where to train and then to predict: "cpu", "cuda", or "cuda:N" for one of several GPUs.
            progress: whether to show a progress bar.

        Raises:
            DataError: texts and labels are not of one length or not strings; the message names the place, such as
                ``labels[3]``.
            ConfigError: recipe, settings or device are invalid.
            BackendError: torch finds no such GPU.
            NonFiniteError: values of a training step are not finite.
        """
        # Nobody could go on with this run: its folder is gone when this is over.
        chosen = load_recipe(recipe, ["training.checkpoint.minutes=null", *settings])
        place = resolve_device(device)
        checked = _checked_texts(texts), _checked_labels(labels)
        with tempfile.TemporaryDirectory(prefix="fanin-") as name:
            folder = Path(name)
            _write_json_lines(folder / "train.jsonl", *checked)
            display = Bar() if progress else Silent()
            data = prepare(open_dataset(folder / "train.jsonl"), chosen, folder / "cache", display, place)
            with RunFolder.create(folder / "run", chosen, folder / "train.jsonl") as run:
                try:
                    return cls(Trainer(chosen, data, run, display, device=place).train().model)
                except NonFiniteError as error:
                    raise NonFiniteError(error.step, error.fault, _LOWER_RATES) from error

    def predict(
        self, texts: Iterable[str], k: int = 5, *, beam: int | Literal["kept"] | None = None
    ) -> list[list[Prediction]]:
        """The k best labels of every text, best first; see :meth:`fanin.model.TextModel.predict`.

        Args:
            texts: the texts.
            k: how many labels a text.
            beam: score the labels of so many clusters only, or of as many as ``fanin index`` has kept; None scores
                all labels. Only of a classifier that was loaded from the folder of a model that has a beam.

        Raises:
            ConfigError: ``texts`` is a single string, k or the beam is below 1, or the model was not loaded from a
                folder and a beam is asked for.
            CheckpointError: the folder has no beam that fits its model.
            DataError: one of the texts is not a string.
        """
        if isinstance(texts, str):
            raise ConfigError("predict wants a list of texts; for one text write predict([text])")
        if k < 1:
            raise ConfigError(f"k={k} must be at least 1")
        return self.model.predict(_checked_texts(texts), k, beam=None if beam is None else self._beam_of(beam))

    def save(self, folder: str | Path) -> None:
        """Write the model folder whole, in the place of what stood there.

        Raises:
            CheckpointError: it cannot be written.
        """
        save_model(self.model, Path(folder))

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> TextClassifier:
        """Read a model folder, or the model of a run folder.

        Args:
            folder: the folder.
            device: where to predict, as for :meth:`fit`.

        Raises:
            ConfigError: the device is none of these.
            BackendError: torch finds no such GPU.
            CheckpointError: it is missing, damaged or of another version.
        """
        place = resolve_device(device)
        found = model_folder(Path(folder))
        loaded = cls(load_model(found).to(place))
        loaded._folder = found
        return loaded

    def _beam_of(self, width: int | Literal["kept"]) -> Beam:
        """The beam of the model's folder, read once."""
        if self._folder is None:
            raise ConfigError("a beam lies in a model's folder; save this classifier, run 'fanin index' and load it")
        if self._beam is None:
            self._beam = load_beam(self._folder, self.model.classifier)
        return self._beam if width == "kept" else replace(self._beam, width=width)


def _checked_texts(texts: Iterable[str]) -> list[str]:
    return _strings(texts, "texts", "a list of texts")


def _checked_labels(labels: Iterable[Iterable[str]]) -> list[list[str]]:
    rows = _listed(labels, "labels", "one list of label names a text")
    return [_strings(row, f"labels[{i}]", "a list of label names") for i, row in enumerate(rows)]


def _strings(values: object, name: str, wanted: str) -> list[str]:
    found = _listed(values, name, wanted)
    for i, value in enumerate(found):
        if not isinstance(value, str):
            raise DataError(f"{name}[{i}] is {_shown(value)}; it must be a string")
    return found


def _listed(values: Any, name: str, wanted: str) -> list[Any]:
    if isinstance(values, str | bytes):
        raise DataError(f"{name} is a single string, {_shown(values)}; give {wanted}")
    try:
        return list(values)
    except TypeError as error:
        raise DataError(f"{name} is {_shown(values)}; give {wanted}") from error


def _shown(value: object) -> str:
    return f"{reprlib.repr(value)} of type {type(value).__name__}"


def _write_json_lines(path: Path, texts: list[str], labels: list[list[str]]) -> None:
    if len(texts) != len(labels):
        more, fewer = ("texts", "rows of labels") if len(texts) > len(labels) else ("rows of labels", "texts")
        raise DataError(f"there are more {more} than {fewer} ({len(texts)} texts, {len(labels)} rows); give one a text")
    with path.open("w", encoding="utf-8") as file:
        for text, row in zip(texts, labels, strict=True):
            file.write(json.dumps({"text": text, "labels": row}) + "\n")
