"""The run folder: begun once, taken up by one process at a time."""

import fcntl
from pathlib import Path

import pytest

from fanin.errors import CheckpointError, ConfigError
from fanin.recipes.recipe_files import load_recipe
from fanin.runs.run_folder import RunFolder


@pytest.fixture
def recipe():
    return load_recipe("plain")


def begun(path, recipe, **options):
    with RunFolder.create(path, recipe, path.parent / "data", **options):
        pass
    return path


def test_a_run_is_begun_and_taken_up(tmp_path, recipe):
    path = begun(tmp_path / "a" / "run", recipe, score_test=False, device="cuda:1")
    assert load_recipe(path / "recipe.yaml") == recipe
    with RunFolder.open(path) as run:
        assert run.origin.data == str(tmp_path / "a" / "data")
        assert run.origin.score_test is False
        assert run.origin.device == "cuda:1"
        assert not run.finished
        assert not run.has_model
        run.write_metrics({"validation": {}})
        assert run.finished


def test_one_process_at_a_time(tmp_path, recipe):
    with RunFolder.create(tmp_path / "run", recipe, tmp_path) as run:
        with pytest.raises(ConfigError, match="another process is training in this run folder"):
            RunFolder.open(tmp_path / "run")
        run.close()
        with RunFolder.open(tmp_path / "run"), pytest.raises(ConfigError, match="another process"):
            RunFolder.open(tmp_path / "run")
    with RunFolder.open(tmp_path / "run"):
        pass


def test_no_descriptor_is_left_open(tmp_path, recipe):
    before = len(list(Path("/dev/fd").iterdir()))
    path = begun(tmp_path / "run", recipe)
    with RunFolder.open(path), pytest.raises(ConfigError):
        RunFolder.open(path)
    (path / "run.json").write_text("{")
    with pytest.raises(CheckpointError):
        RunFolder.open(path)
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_what_was_begun_in_vain_can_be_discarded(tmp_path, recipe):
    (tmp_path / "own").mkdir()
    for name, left in (("made", False), ("own", True)):
        run = RunFolder.create(tmp_path / name, recipe, tmp_path)
        run.discard()
        assert (tmp_path / name).exists() == left
        assert not left or list((tmp_path / name).iterdir()) == []
        with RunFolder.create(tmp_path / name, recipe, tmp_path):
            pass


def test_a_full_disk_leaves_nothing(tmp_path, recipe, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("fanin.runs.run_folder.replace_file", full)
        with pytest.raises(ConfigError, match=r"cannot be written \(No space left"):
            RunFolder.create(tmp_path / "run", recipe, tmp_path)
    assert not (tmp_path / "run").exists()
    begun(tmp_path / "run", recipe)


def test_what_a_killed_process_left_is_put_right(tmp_path, recipe):
    path = begun(tmp_path / "run", recipe)
    (path / "model.previous").mkdir()
    (path / "model.previous" / "model.json").write_text("{}")
    for name in ("step-00000005.previous", "step-00000009.previous", "step-00000009"):
        (path / "checkpoints" / name).mkdir(parents=True)
        (path / "checkpoints" / name / "checkpoint.json").write_text(name)
    for name in ("model.writing-12-0123abcd", "checkpoints/step-00000005.writing-9-00000000"):
        (path / name).mkdir()
        (path / name / "half").touch()
    (path / "metrics.json.writing-3-ffffffff").touch()
    (path / "notes.writing").touch()  # somebody's own
    with RunFolder.open(path) as run:
        assert run.has_model
    assert sorted(p.name for p in path.iterdir()) == [
        "checkpoints",
        "model",
        "notes.writing",
        "recipe.yaml",
        "run.json",
    ]
    found = {p.name: (p / "checkpoint.json").read_text() for p in (path / "checkpoints").iterdir()}
    assert found == {"step-00000005": "step-00000005.previous", "step-00000009": "step-00000009"}


def test_a_finished_run_needs_no_checkpoints(tmp_path, recipe):
    path = begun(tmp_path / "run", recipe)
    (path / "checkpoints" / "step-00000005").mkdir(parents=True)
    with RunFolder.open(path) as run:
        assert run.checkpoints.exists()
        run.write_metrics({"validation": {}})
    with RunFolder.open(path) as run:
        assert run.finished
        assert not run.checkpoints.exists()


def test_a_newer_model_is_not_replaced_by_an_older_one(tmp_path, recipe):
    path = begun(tmp_path / "run", recipe)
    for name in ("model", "model.previous"):
        (path / name).mkdir()
        (path / name / "model.json").write_text(f'"{name}"')
    with RunFolder.open(path) as run:
        assert (run.model / "model.json").read_text() == '"model"'
    assert not (path / "model.previous").exists()


def test_what_stands_in_the_place_of_a_model_is_put_aside(tmp_path, recipe):
    with RunFolder.open(begun(tmp_path / "run", recipe)) as run:
        assert not run.put_model_aside()
        for content in ("older", "newer"):
            run.model.mkdir()
            (run.model / "model.json").write_text(content)
            assert run.put_model_aside()
            assert not run.model.exists()
            assert (run.path / "model.damaged" / "model.json").read_text() == content


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", "{}", '{"format": 1}', '{"format": 1, "data": "x"}', '{"format": 7}']
)
def test_a_damaged_description_is_named(content, tmp_path, recipe):
    path = begun(tmp_path / "run", recipe)
    (path / "run.json").write_text(content)
    with pytest.raises(CheckpointError, match=str(path / "run.json")):
        RunFolder.open(path)


def test_a_folder_without_a_run_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(CheckpointError, match=f"{path}: holds no run that could be resumed"):
            RunFolder.open(path)


def test_a_disk_that_knows_no_locks_is_named(tmp_path, recipe, monkeypatch):
    def refuse(*_args):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ConfigError, match="No locks available"):
        RunFolder.create(tmp_path / "run", recipe, tmp_path)
