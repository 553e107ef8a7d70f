"""``fanin inspect``."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file

from fanin.classifier.dense import DenseLinear
from fanin.classifier.sparse import SparseLinear
from fanin.cli.model_facts import feature_use
from fanin.encoders.bag import BagEncoder


def test_facts_as_json(trained, invoke):
    outcome = invoke("inspect", trained, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    facts = json.loads(outcome.out)
    assert facts["density"] == 0.5
    assert facts["parameters"]["classifier"] == 4 * 8 + 4
    tensors = load_file(trained / "model" / "encoder.safetensors")
    assert facts["parameters"]["embedding_table"] == tensors["table"].numel() > 0
    assert facts["parameters"]["encoder_layers"] == sum(p.numel() for p in BagEncoder(**facts["encoder"]).parameters())
    assert facts["classifier_bytes"] == {"weight": 4 * 8 * 4, "index": 4 * 8 * 2, "bias": 4 * 4}
    on_disk = sum(path.stat().st_size for path in (trained / "model").rglob("*") if path.is_file())
    assert sum(facts["file_bytes"].values()) == on_disk
    assert facts["labels"]["count"] == 4
    assert facts["labels"]["without_training_points"] == 1
    assert sum(facts["labels"][name] for name in ("head", "middle", "tail")) == 4
    assert facts["recipe"]["classifier"]["fan_in"] == 8


def test_tables(trained, invoke):
    outcome = invoke("inspect", trained)
    assert outcome.code == 0
    for part in ("50.00%", "fan-in 8, group size 1", "min/median/max", "features that no label reads", "6 epochs"):
        assert part in outcome.out
    bare = invoke("inspect", trained / "model")
    assert bare.code == 0
    assert "epochs" not in bare.out


@pytest.mark.parametrize(("L", "G"), [(10, 1), (12, 4), (13, 4), (1, 4)])
def test_feature_use_counts_labels(L, G):
    layer = SparseLinear(20, L, fan_in=5, group_size=G)
    columns = layer.index.numpy().repeat(G, axis=0)[:L]
    expected = np.array([(columns == feature).sum() for feature in range(20)])
    np.testing.assert_array_equal(feature_use(layer), expected)
    np.testing.assert_array_equal(feature_use(DenseLinear(20, L)), np.full(20, L))


def test_no_model_there(tmp_path, invoke):
    outcome = invoke("inspect", tmp_path / "nothing")
    assert outcome.code == 2
    assert "there is no such folder" in outcome.err
