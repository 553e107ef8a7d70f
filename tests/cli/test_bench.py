"""``fanin bench``."""

import json
from functools import partial

import pytest


def test_prediction(trained, drinks, invoke):
    outcome = invoke("bench", "prediction", trained, drinks, "-k", "2", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    (row,) = json.loads(outcome.out)
    assert (row["texts"], row["k"]) == (12, 2)
    table = invoke("bench", "prediction", trained, drinks)
    assert table.code == 0
    header, _, figures = table.out.splitlines()[:3]
    assert header.split()[:2] == ["texts", "k"]
    assert figures.split()[:2] == ["12", "5"]


def test_without_a_model(tmp_path, drinks, invoke):
    outcome = invoke("bench", "prediction", tmp_path, drinks)
    assert outcome.code == 2
    assert "holds no model" in outcome.err


def test_kernels(invoke, monkeypatch):
    from fanin.bench import kernels

    tiny = partial(
        kernels.measure_kernels, [kernels.LayerShape(96, 32, 8, 4)], threads=(1,), sgemm_size=64, chunk_sizes=(96,)
    )
    monkeypatch.setattr(kernels, "measure_kernels", tiny)
    outcome = invoke("bench", "kernels", "--rounds", "1", "--batch-size", "5", "--json")
    assert outcome.code == 0
    assert outcome.err.startswith("1 threads, L=96, D=32, F=8, G=4: ")
    (row,) = json.loads(outcome.out)
    assert (row["out_features"], row["batch_size"], row["dense_chunk_size"]) == (96, 5, 96)
    assert row["dense_over_sparse_ratio"] == pytest.approx(row["dense_ms"] / row["sparse_ms"])
    table = invoke("bench", "kernels", "--rounds", "1")
    assert table.code == 0
    assert "dense rate share %" in table.out.splitlines()[0]


def test_beam(invoke, monkeypatch):
    from fanin.bench import beam

    tiny = partial(beam.measure_beam_speed, [beam.LayerShape(1000, 32, 8, 4), beam.LayerShape(130, 32, 8)])
    monkeypatch.setattr(beam, "measure_beam_speed", tiny)
    chosen = ("--rounds", "1", "--batch-size", "5", "--width", "2", "--rank", "512", "--rank", "9")
    outcome = invoke("bench", "beam", *chosen, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.err.startswith("L=1000, G=4, 2 clusters, router of rank 32: ")
    rows = json.loads(outcome.out)
    assert [(row["clusters"], row["width"], row["router_rank"], row["batch_size"]) for row in rows] == [
        (16, 2, 32, 5),
        (16, 2, 9, 5),
        (3, 2, 32, 5),
        (3, 2, 9, 5),
    ]
    assert all(row["exact_over_beam_ratio"] == pytest.approx(row["exact_cpu_ms"] / row["beam_cpu_ms"]) for row in rows)
    table = invoke("bench", "beam", "--rounds", "1", "--width", "2")
    assert table.code == 0
    assert "exact over beam ratio" in table.out.splitlines()[0]


def test_storage(invoke, monkeypatch):
    from fanin.bench import storage

    tiny = partial(storage.measure_storage, [storage.LayerShape(96, 32, 8, 4)])
    monkeypatch.setattr(storage, "measure_storage", tiny)
    outcome = invoke("bench", "storage", "--rounds", "1", "--batch-size", "5", "--threads", "2", "--json")
    assert outcome.code == 0
    assert outcome.err.startswith("L=96, D=32, F=8, G=4, float32: ")
    rows = json.loads(outcome.out)
    assert [row["dtype"] for row in rows] == ["float32", "bfloat16", "float8_e4m3fn"]
    assert {(row["out_features"], row["batch_size"], row["threads"]) for row in rows} == {(96, 5, 2)}
    table = invoke("bench", "storage", "--rounds", "1")
    assert table.code == 0
    assert "step over float32 ratio" in table.out.splitlines()[0]


def test_memory(invoke):
    outcome = invoke("bench", "memory", "--labels", "1000", "--json")
    assert outcome.code == 0
    (row,) = json.loads(outcome.out)
    assert row["out_features"] == 1000
    assert row["classifier_gib"] * 2**30 == 1000 * (32 * 6 + 4)
    assert row["imports_gib"] <= row["peak_gib"]


def test_scale(invoke, monkeypatch):
    from fanin.bench import scale

    def measured(labels, group_sizes, steps, folder, done):
        runs = [
            scale.ScaleRun(count, size, 5, steps, 0.1, 0.1, 0.2, 1 + count, 1, 1, 1, 3, 2, 9, 9)
            for count in labels
            for size in group_sizes
        ]
        for run in runs:
            done(run)
        return runs

    monkeypatch.setattr(scale, "measure_scale", measured)
    arguments = ["bench", "scale", "--labels", "1000000", "--labels", "3000000", "--group-size", "4", "--steps", "7"]
    outcome = invoke(*arguments, "--json")
    assert outcome.code == 0
    assert outcome.err.splitlines()[0] == "1,000,000 labels, G=4: 1000001.00 GiB, 3 ms a step"
    found = json.loads(outcome.out)
    assert [run["steps"] for run in found["runs"]] == [7, 7]
    peak = found["lines"][0]
    assert (peak["group_size"], peak["figure"], peak["per_million"]) == (4, "peak_gib", pytest.approx(1e6))
    table = invoke(*arguments)
    assert table.code == 0
    assert "farthest from the line %" in table.out
