"""What was measured, written after every section, so that a run that is cut off leaves what it has."""

from __future__ import annotations

import json
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

Row = dict[str, Any]


class Recorder:
    """Runs sections, each on its own: one that fails is noted and the next one runs.

    Args:
        path: the JSON file, written anew after every row.
        seconds: no section is begun, and no row asked for, later than this after the start.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self._path, self._seconds, self._started = path, seconds, time.monotonic()
        self.sections: dict[str, Row] = {}

    def run(self, name: str, rows: Callable[[], Iterable[Row]]) -> list[Row]:
        """Collect the rows of a section; returns those that were measured."""
        section: Row = {"rows": []}
        self.sections[name] = section
        started = time.monotonic()
        print(f"\n== {name}", flush=True)
        try:
            source = iter(rows())
            while self.seconds_left() > 0:
                row = next(source, None)
                if row is None:
                    break
                section["rows"].append(row)
                print("  ".join(f"{key} {_short(value)}" for key, value in row.items()), flush=True)
                self._write()
            else:
                section["cut"] = "out of time"
        except Exception as error:  # whatever a section dies of, the others are worth having
            section["error"] = f"{type(error).__name__}: {error}"
            section["traceback"] = traceback.format_exc()
            print(section["traceback"], flush=True)
        section["seconds"] = round(time.monotonic() - started, 1)
        self._write()
        return list(section["rows"])

    def conclude(self, name: str, rows: Iterable[Row]) -> None:
        """Keep rows that are made of others, however late it is, and print them as a table."""
        self.sections[name] = {"rows": list(rows)}
        self._write()
        print(f"\n== {name}")
        for row in self.sections[name]["rows"]:
            print("  ".join(_short(value) for value in row.values()), flush=True)

    def seconds_left(self) -> float:
        """Until no more is begun."""
        return self._seconds - (time.monotonic() - self._started)

    def failed(self) -> list[str]:
        """Sections that broke off with an error, or with one in a row."""
        return [
            name
            for name, section in self.sections.items()
            if "error" in section or any("error" in row for row in section["rows"])
        ]

    def _write(self) -> None:
        new = self._path.with_suffix(".part")
        new.write_text(json.dumps(self.sections, indent=1) + "\n")
        new.replace(self._path)


def guarded(measure: Callable[[], Row], **names: Any) -> Row:
    """A row of a measurement; where it fails, its names and the error, so that the next one runs."""
    try:
        return {**names, **measure()}
    except Exception as error:  # as above
        return {**names, "error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if len(text) < 100 else text[:100] + " ..."
