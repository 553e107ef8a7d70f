import json

from fanin.data.formats import open_dataset
from fanin.data.statistics import describe


def test_counts_what_a_small_folder_holds(raw_text):
    found = describe(
        open_dataset(
            raw_text(
                trn_X="red apple\ngreen pear\nred apple\n \n",
                tst_X="red apple\nnew\n",
                tst_X_Y="2 3\n0 2\n\n",
            )
        )
    )
    assert (found.labels, found.labels_without_training_points, found.most_training_points) == (3, 1, 2)
    assert (found.head_labels, found.middle_labels, found.tail_labels) == (1, 1, 1)
    train, test = found.splits["train"], found.splits["test"]
    assert (train.rows, train.positives, train.positives_per_row, train.most_positives) == (4, 4, 1.0, 2)
    assert (train.rows_without_labels, train.empty_texts, train.repeated_texts, train.texts_in_train) == (1, 1, 1, 0)
    assert (test.texts_in_train, test.repeated_texts, test.rows_without_labels) == (1, 0, 1)
    assert (test.labels, test.labels_unseen, test.positives_unseen) == (2, 1, 1)
    assert test.words == {"0": 1.0, "0.05": 1.05, "0.25": 1.25, "0.5": 1.5, "0.75": 1.75, "0.95": 1.95, "1": 2.0}
    assert train.characters["1"] == 10
    by_least = {label_class.at_least: label_class.labels for label_class in found.label_classes}
    assert by_least == {0: 1, 1: 0, 2: 2, 6: 0, 11: 0, 101: 0, 1001: 0}
    assert sum(label_class.positives for label_class in found.label_classes) == 4


def test_is_ready_for_json(json_lines):
    found = json.loads(json.dumps(describe(open_dataset(json_lines())).as_dict()))
    assert found["format"] == "json-lines 1"
    assert found["splits"]["test"]["labels_unseen"] == 1
