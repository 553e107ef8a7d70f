"""Whether two runs came to the same, bit for bit: state, log, metrics and kept model, but for times and memory."""

import json

import torch


def assert_same_state(one, other):
    """Two checkpoints of one step."""
    for part in sorted(path.stem for path in one.folder.glob("*.safetensors")):
        first, second = one.tensors(part), other.tensors(part)
        assert first.keys() == second.keys()
        for name, tensor in first.items():
            assert torch.equal(tensor, second[name]), f"{part}: {name}"
    times = {"train_seconds": 0, "epoch_seconds": 0, "peak_bytes": 0}
    assert one.facts.position.model_copy(update=times) == other.facts.position.model_copy(update=times)


def assert_same_run(one, other):
    """Two run folders."""
    assert log_lines(one) == log_lines(other)
    first, second = (json.loads((run / "metrics.json").read_text(encoding="utf-8")) for run in (one, other))
    assert _lasting(first) == _lasting(second)
    files = [path.relative_to(one) for path in (one / "model").rglob("*") if path.is_file()]
    assert files
    for file in files:
        assert (one / file).read_bytes() == (other / file).read_bytes(), file


def log_lines(run):
    """The events of a run that do not say how it was interrupted, without times."""
    events = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [_lasting(event) for event in events if event["event"] not in ("checkpoint", "resume")]


def _lasting(value):
    if not isinstance(value, dict):
        return value
    return {key: _lasting(inner) for key, inner in value.items() if "second" not in key and key != "peak_bytes"}
