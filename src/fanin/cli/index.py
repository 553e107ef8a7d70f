"""``fanin index``: a beam for fast approximate prediction, beside a trained model."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fanin.cli.options import Data, Json, Quiet, Run
from fanin.cli.output import note, percent, stored_size, write_json, write_table

if TYPE_CHECKING:
    from fanin.classifier.beam import Beam
    from fanin.data.batches import Batches
    from fanin.data.dataset import Dataset
    from fanin.model import TextModel
    from fanin.training.progress import ProgressDisplay


def index(
    run: Run,
    data: Data,
    recall: Annotated[
        float, typer.Option("--recall", help="Share of the exact k best labels that the beam shall find.")
    ] = 0.95,
    k: Annotated[int, typer.Option("-k", min=1, help="How many labels a text shall be found.")] = 10,
    texts: Annotated[int, typer.Option("--texts", min=1, help="Training texts to learn from, at most.")] = 20_000,
    held_out: Annotated[int, typer.Option("--held-out", min=1, help="Texts to measure on, at most.")] = 2_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a beam for a model: prediction that scores a few clusters of labels only.

    Worth it from some hundred thousand labels on. Measures recall and speed of some beams on the test split (dev, or
    held-out training texts, where there is none; their labels are not read), and keeps the narrowest that reaches the
    recall. 'fanin predict --beam kept' uses it; it is of no use any more once the model changes.
    """
    from fanin.beams.building import build_beam
    from fanin.beams.files import DESCRIPTION, TENSORS, save_beam
    from fanin.beams.quality import measure_beam
    from fanin.cli.progress import make_display
    from fanin.data.formats import open_dataset
    from fanin.model_files import load_model
    from fanin.runs.run_folder import model_folder

    dataset, folder = open_dataset(data), model_folder(run)
    dataset.check_split("train")
    model = load_model(folder)
    display = make_display(quiet=quiet)
    try:
        taught, others = _texts(dataset, model, texts, held_out, seed, display)
        beam = build_beam(model, taught, others, k=k, recall=recall, seed=seed, display=display)
        widths = sorted({max(1, beam.width // 4), max(1, beam.width // 2), beam.width, 2 * beam.width, 4 * beam.width})
        rows = measure_beam(model, beam, others, [w for w in widths if w <= max(beam.width, len(beam.router))], k)
    finally:
        display.close()
    measured = [asdict(row) for row in rows]
    facts = {"k": k, "recall": recall, "texts": taught.n_rows, "held_out": others.n_rows, "measured": measured}
    save_beam(beam, folder, facts)
    size = sum((folder / name).stat().st_size for name in (DESCRIPTION, TENSORS))
    if beam.width > len(beam.router):
        note(
            f"note: the beam must be very wide: too many of the labels of held-out texts are best for none of "
            f"{taught.n_rows:,} training texts; give more with --texts"
        )
    if next(row.ratio for row in rows if row.width == beam.width) < 1:
        note("note: the exact ranking is faster than this beam; beams are for more labels than this model has")
    if json:
        made = {"width": beam.width, "clusters": beam.clusters.count, "router_rank": beam.router.rank, "bytes": size}
        write_json(made | facts)
        return
    write_table(
        ["beam", f"recall@{k} %", "texts/s", "times faster"],
        [
            [
                "exact" if row.width is None else f"{row.width:,}{' (kept)' if row.width == beam.width else ''}",
                percent(row.recall),
                f"{row.texts_per_second:,.0f}",
                f"{row.ratio:.1f}",
            ]
            for row in rows
        ],
    )
    write_table(
        None,
        [
            ("clusters", f"{beam.clusters.count:,}, {len(beam.router):,} of them routed to"),
            ("router", f"in {beam.router.rank:,} dimensions{_of_inputs(beam)}"),
            ("measured on", f"{others.n_rows:,} texts"),
            ("size", stored_size(size)),
        ],
    )


def _of_inputs(beam: Beam) -> str:
    projection = beam.router.projection
    return "" if projection is None else f" of {projection.shape[1]:,} inputs"


def _texts(
    dataset: Dataset, model: TextModel, most: int, held_out: int, seed: int, display: ProgressDisplay
) -> tuple[Batches, Batches]:
    """Texts to learn from, and others to measure on."""
    import numpy as np

    from fanin.data.batches import Batches
    from fanin.training.preparation import SCORING_BATCH, open_split

    other = next((name for name in ("test", "dev") if name in dataset.split_names), "train")
    train = open_split(dataset, model, "train", None, display).split("train")
    order = np.random.default_rng(seed).permutation(len(train))
    if other == "train":
        held_out = min(held_out, len(train) // 2)
        apart, order = np.sort(order[:held_out]), order[held_out:]
        measured = Batches(train, SCORING_BATCH, shuffle=False, rows=apart)
    else:
        split = open_split(dataset, model, other, None, display).split(other)
        rows = np.sort(np.random.default_rng(seed).permutation(len(split))[:held_out])
        measured = Batches(split, SCORING_BATCH, shuffle=False, rows=rows)
    return Batches(train, SCORING_BATCH, shuffle=False, rows=np.sort(order[:most])), measured
