"""``fanin evaluate``."""

import json

import numpy as np
import pytest

from fanin.cli.label_matching import match_labels
from fanin.data.building import build_store
from fanin.data.formats import open_dataset
from fanin.labels.vocabulary import LabelVocabulary


def evaluated(invoke, *arguments):
    outcome = invoke("evaluate", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_it_repeats_what_training_measured(trained, drinks, invoke):
    stored = json.loads((trained / "metrics.json").read_text(encoding="utf-8"))["test"]
    found = evaluated(invoke, trained, drinks)
    times = ("seconds", "texts_per_second")
    assert {k: v for k, v in stored.items() if k not in times}.items() <= found.items()
    assert (found["split"], found["unknown_labels"]) == ("test", 0)
    assert evaluated(invoke, trained / "model", drinks)["P@1"] == stored["P@1"]
    assert evaluated(invoke, trained, drinks, "--split", "train")["points"] == 48


def test_the_table(trained, drinks, invoke):
    outcome = invoke("evaluate", trained, drinks)
    assert outcome.code == 0
    assert "12 test texts" in outcome.out
    assert "100.00" in outcome.out
    assert outcome.err == ""


def test_labels_are_matched_by_name(trained, tmp_path, invoke):
    """Another order of labels, one that the model does not know, and another format."""
    rows = [
        {"text": "milk chocolate", "labels": ["cocoa"]},
        {"text": "green leaves", "labels": ["[bold]tea[/bold]", "a new label"]},
        {"text": "roasted beans", "labels": ["coffee \x1b[31m"]},
        {"text": "milk", "labels": ["a new label"]},
    ]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "train.jsonl").write_text(json.dumps(rows[0]), encoding="utf-8")
    outcome = invoke("evaluate", trained, tmp_path, "--json")
    found = json.loads(outcome.out)
    assert found["P@1"] == 0.75
    assert found["R@1"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    assert found["coverage@5"] == 0.75
    assert (found["unknown_labels"], found["unknown_positives"]) == (1, 2)
    assert "does not know 1 of its labels" in outcome.err


def test_filter_pairs_are_honoured(trained, write_drinks, tmp_path, invoke):
    folder = write_drinks(tmp_path)
    (folder / "filter_labels_test.txt").write_text("".join(f"{i} {i % 3}\n" for i in range(12)), encoding="utf-8")
    assert evaluated(invoke, trained, folder)["P@5"] == 0


def test_matching_gives_ids_of_the_model_and_drops_unknown_filter_pairs(write_drinks, tmp_path):
    folder = write_drinks(tmp_path / "data", test=4)
    (folder / "filter_labels_test.txt").write_text("0 1\n2 0\n2 2\n3 3\n", encoding="utf-8")
    dataset = open_dataset(folder)
    store = build_store(dataset, lambda texts: [[0] for _ in texts], "one token", tmp_path / "cache")
    matched = match_labels(store, "test", LabelVocabulary(["x", "cocoa", "y", "[bold]tea[/bold]"]))
    # The four labels of the data become 3, 4 (unknown), 1 and 5 (unknown); the rows have labels 0, 1, 2, 0.
    np.testing.assert_array_equal(matched.split.labels, [3, 4, 1, 3])
    np.testing.assert_array_equal(matched.excluded.indptr, [0, 0, 0, 2, 2])
    np.testing.assert_array_equal(np.sort(matched.excluded.indices), [1, 3])
    assert (matched.label_count, matched.unknown_labels, matched.unknown_positives) == (6, 2, 1)


def test_a_split_that_is_not_there(trained, drinks, invoke):
    outcome = invoke("evaluate", trained, drinks, "--split", "dev")
    assert outcome.code == 2
    assert "there is no 'dev' split; it has train, test" in outcome.err
    assert "dev" in invoke("evaluate", trained, drinks, "--split", "nothing").err
