"""``fanin doctor``."""

import json

import torch


def test_as_json(invoke):
    outcome = invoke("doctor", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    facts = json.loads(outcome.out)
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["torch_build"]["build"].startswith(("CPU", "CUDA"))
    assert facts["compiled_core"]["present"] is (facts["compiled_core"]["instruction_set"] is not None)
    assert facts["backend"]["reason"]
    assert facts["memory"]["total_bytes"] > 0
    assert facts["processor"]["threads"] == torch.get_num_threads()
    assert facts["cache"]["writable"] is True


def test_as_a_table(invoke):
    outcome = invoke("doctor")
    assert outcome.code == 0
    for part in ("compiled core: present", "backend: reason", "cache: folder", "MiB"):
        assert part in outcome.out


def test_a_backend_that_cannot_be_is_reported(invoke, monkeypatch):
    monkeypatch.setenv("FANIN_BACKEND", "[gpu]")
    outcome = invoke("doctor")
    assert outcome.code == 0
    assert "unknown backend '[gpu]'" in outcome.out
    monkeypatch.setenv("FANIN_BACKEND", "reference")
    assert json.loads(invoke("doctor", "--json").out)["backend"]["name"] == "reference"
