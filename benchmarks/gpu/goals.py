"""What the measurements were to reach, beside what they came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.gpu.recorder import Row
    from benchmarks.gpu.sizes import Sizes

PEAKS_GIB = (2.2, 2.8, 4.0)
"""Of a whole step with F = 64, G = 32 and fp8 weights, at each of ``Sizes.memory_labels``."""

TIMES_FASTER = 3.0
FP32_ERROR = 1e-5
_PARTS = ("logits", "dx", "weight_gradient")


def goals(sections: Mapping[str, Row], sizes: Sizes) -> Iterator[Row]:
    """A row a goal: what it is, the bound, what was measured (None where it was not), and whether it is met."""
    F, G = sizes.fan_ins[0], sizes.group
    whole, steps, errors = (_rows(sections, name) for name in ("whole_steps", "sparse_steps", "errors"))
    layout = {"classifier": "sparse", "fan_in": F, "group": G, "weights": "fp8"}
    for L, bound in zip(sizes.memory_labels, PEAKS_GIB, strict=False):
        row = _found(whole, labels=L, card_gib=None, **layout)
        yield _at_most(f"peak of a whole step at {L:,} labels, GiB allocated", bound, row.get("allocated_gib"))
    row = _found(whole, labels=sizes.card_labels, card_gib=sizes.card_bytes / 2**30, **layout)
    name = f"a whole step at {sizes.card_labels:,} labels on a card of {sizes.card_bytes / 2**30:g} GiB"
    yield {"goal": name, "bound": "runs", "measured": row.get("reserved_gib"), "met": row.get("fits")}
    for fan_in in sizes.fan_ins:
        for group, bound in ((G, TIMES_FASTER if fan_in == F else None), (1, 1.0 if fan_in == F else None)):
            row = _found(steps, fan_in=fan_in, group=group, weights="fp8", loss="bce")
            faster = row.get("dense_over_sparse")
            name = f"step with F = {fan_in}, G = {group}, times faster than dense bf16"
            met = None if faster is None or bound is None else bool(faster >= bound)
            yield {"goal": name, "bound": bound, "measured": faster, "met": met}
    for weights in ("fp32", "bf16"):
        for part in _PARTS:
            yield from _error_goal(errors, weights, part)


def _error_goal(errors: Sequence[Row], weights: str, part: str) -> Iterator[Row]:
    """The largest error of a part over all kernels of a format: below a bound, or below that of plain torch."""
    rows = [row for row in errors if row["weights"] == weights and part in row]
    name = f"largest error of {part.replace('_', ' ')} with {weights} weights"
    if not rows:
        yield {"goal": name, "bound": None, "measured": None, "met": None}
    elif weights == "fp32":
        yield _at_most(name, FP32_ERROR, max(row[part] for row in rows))
    else:
        worst = max(rows, key=lambda row: row[part] / row[f"{part}_plain_torch"])
        yield _at_most(f"{name}, beside plain torch", worst[f"{part}_plain_torch"], worst[part])


def _at_most(name: str, bound: float, measured: float | None) -> Row:
    return {"goal": name, "bound": bound, "measured": measured, "met": None if measured is None else measured <= bound}


def _rows(sections: Mapping[str, Row], name: str) -> list[Row]:
    return list(sections.get(name, {}).get("rows", []))


def _found(rows: Sequence[Row], **names: Any) -> Row:
    """The row of these names; an empty one where there is none."""
    return next((row for row in rows if all(row.get(name) == value for name, value in names.items())), {})
