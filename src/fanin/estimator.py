"""Text classification in a few lines of Python."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fanin.data.formats import open_dataset
from fanin.errors import ConfigError, DataError
from fanin.model_files import load_model, save_model
from fanin.training.preparation import prepare
from fanin.training.progress import Bar, Silent
from fanin.training.recipe_files import load_recipe
from fanin.training.run_folder import RunFolder, model_folder
from fanin.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fanin.model import Prediction, TextModel


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

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        labels: Iterable[Sequence[str]],
        *,
        recipe: str | Path = "default",
        settings: Iterable[str] = (),
        progress: bool = False,
    ) -> TextClassifier:
        """Train a classifier.

        Args:
            texts: the training texts.
            labels: for each text the names of its labels; may be empty.
            recipe: a shipped recipe's name or a YAML file.
            settings: changes of single settings, each "section.key=value".
            progress: whether to show a progress bar.

        Raises:
            DataError: texts and labels are not of one length, or not strings.
            ConfigError: recipe or settings are invalid.
        """
        chosen = load_recipe(recipe, settings)
        with tempfile.TemporaryDirectory(prefix="fanin-") as name:
            folder = Path(name)
            _write_json_lines(folder / "train.jsonl", texts, labels)
            display = Bar() if progress else Silent()
            data = prepare(open_dataset(folder / "train.jsonl"), chosen, folder / "cache")
            run = RunFolder.create(folder / "run", chosen)
            return cls(Trainer(chosen, data, run, display).train().model)

    def predict(self, texts: Sequence[str], k: int = 5) -> list[list[Prediction]]:
        """The k best labels of every text, best first; see :meth:`fanin.model.TextModel.predict`.

        Raises:
            ConfigError: ``texts`` is a single string, or k is below 1.
        """
        if isinstance(texts, str):
            raise ConfigError("predict wants a list of texts; for one text write predict([text])")
        if k < 1:
            raise ConfigError(f"k={k} must be at least 1")
        return self.model.predict(texts, k)

    def save(self, folder: str | Path) -> None:
        """Write the model folder whole, in the place of what stood there.

        Raises:
            CheckpointError: it cannot be written.
        """
        save_model(self.model, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> TextClassifier:
        """Read a model folder, or the model of a run folder.

        Raises:
            CheckpointError: it is missing, damaged or of another version.
        """
        return cls(load_model(model_folder(Path(folder))))


def _write_json_lines(path: Path, texts: Iterable[str], labels: Iterable[Sequence[str]]) -> None:
    rows = iter(labels)
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for text in texts:
            row = next(rows, None)
            if row is None:
                raise DataError(f"there are more texts than rows of labels ({count}); give one row of labels a text")
            if isinstance(row, str):
                raise DataError(f"labels of text {count} are a single string, {row!r}; give a list of names")
            file.write(json.dumps({"text": text, "labels": list(row)}) + "\n")
            count += 1
    if next(rows, None) is not None:
        raise DataError(f"there are more rows of labels than texts ({count}); give one row of labels a text")
