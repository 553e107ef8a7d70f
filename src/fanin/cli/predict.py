"""``fanin predict``."""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fanin.cli.options import Device, Run
from fanin.cli.output import write_json, write_line
from fanin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fanin.classifier.beam import Beam
    from fanin.model import Prediction, TextModel


def predict(
    run: Run,
    source: Annotated[str | None, typer.Argument(metavar="-", help="Read texts from standard input.")] = None,
    texts: Annotated[
        list[str] | None, typer.Option("--text", metavar="TEXT", help="A text to predict for. Repeatable.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="A file with a text a line; for a model of features, a file of features (.npy, or sparse rows).",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many labels a text.")] = 5,
    device: Device = "cpu",
    beam: Annotated[
        str,
        typer.Option(
            "--beam",
            metavar="N|kept|exact",
            help="Score only the labels of N clusters a text, or of as many as 'fanin index' has kept.",
        ),
    ] = "exact",
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines: the text and its predictions, best first.")
    ] = False,
) -> None:
    """Predict the labels of texts.

    Scores are probabilities where the model was trained with the loss "bce", else raw scores.
    """
    from fanin.beams.files import load_beam
    from fanin.model_files import load_model
    from fanin.runs.run_folder import model_folder
    from fanin.training.device import resolve_device

    place, blocks = resolve_device(device), _blocks(texts or [], file, source)
    width, folder = _beam_width(beam), model_folder(run)
    model = load_model(folder).to(place)
    search = None if beam == "exact" else load_beam(folder, model.classifier, width)
    if model.tokenizer is None:
        _predict_features(model, texts or [], file, source, k, search, json=json)
        return
    for block in blocks:
        for text, predictions in zip(block, model.predict_stream(block, k, beam=search), strict=True):
            if json:
                _write_json_line({"text": text}, predictions)
            else:
                _write_lines(text, predictions)
        sys.stdout.flush()  # a process that feeds us texts may be waiting for these answers


def _beam_width(beam: str) -> int | None:
    """How many clusters are asked for, None where it is not a number."""
    if beam in {"exact", "kept"}:
        return None
    if not (beam.isascii() and beam.isdecimal() and int(beam)):
        raise ConfigError(f"--beam {beam} is not known; give a number of clusters from 1 on, kept, or exact")
    return int(beam)


def _predict_features(
    model: TextModel,
    texts: Sequence[str],
    file: Path | None,
    source: str | None,
    k: int,
    beam: Beam | None,
    *,
    json: bool,
) -> None:
    from fanin.data.feature_store import read_features

    if texts or source or file is None:
        raise ConfigError("this model reads features, no texts; give a file of them with --file (.npy, or sparse rows)")
    for row, predictions in enumerate(model.predict_features(read_features(file), k, beam=beam)):
        if json:
            _write_json_line({"row": row}, predictions)
        else:
            _write_lines(f"row {row}", predictions)


def _blocks(texts: Sequence[str], file: Path | None, source: str | None) -> Iterator[Sequence[str]]:
    from fanin.cli.text_input import file_texts, standard_input_texts

    if source not in (None, "-"):
        raise ConfigError(f"unexpected argument {source!r}; give texts with --text, --file or - for standard input")
    if not texts and file is None and source is None:
        raise ConfigError("no texts to predict for; give --text TEXT, --file FILE, or - for standard input")
    for number, text in enumerate(texts, 1):
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ConfigError(f"--text number {number}: the text is not UTF-8; save it in a UTF-8 file and use --file")
    parts: list[Iterable[Sequence[str]]] = [[texts]] if texts else []
    if file is not None:
        parts.append(file_texts(file))
    if source == "-":
        parts.append(standard_input_texts())
    return chain.from_iterable(parts)


def _write_json_line(source: dict[str, str] | dict[str, int], predictions: Iterable[Prediction]) -> None:
    # Six digits are what float32 holds.
    ranked = [{"label": prediction.label, "score": float(f"{prediction.score:.6g}")} for prediction in predictions]
    write_json({**source, "predictions": ranked}, indent=None)


def _write_lines(text: str, predictions: Iterable[Prediction]) -> None:
    write_line(text)
    for prediction in predictions:
        write_line(f"  {prediction.score:8.4f}  {prediction.label}")
