"""A process that dies between the two renames of a save loses nothing: what was moved away is put back."""

import pytest

from fanin import folders
from interrupted_runs import Killed, Telling
from same_runs import assert_same_run


@pytest.fixture
def dies_between_renames(monkeypatch):
    """Let it die when it replaces a folder of this name, the older one moved away and the newer not yet in place."""

    def arrange(name):
        swap = folders._swap

        def half(temporary, folder, previous):
            if folder.name == name and folder.exists():
                monkeypatch.setattr(folders, "_swap", swap)
                folder.rename(previous)
                raise Killed
            swap(temporary, folder, previous)

        monkeypatch.setattr(folders, "_swap", half)

    return arrange


@pytest.mark.parametrize("kept", [1, 3])
def test_a_checkpoint_of_the_same_step(kept, dies_between_renames, runs_of, tiny_recipe):
    """The state of a last step is saved, and again once its epoch is over."""
    recipe = tiny_recipe("plain", "training.epochs=1", f"training.checkpoint={{steps: 9, kept: {kept}}}")
    whole = runs_of.begin(recipe, name="whole")
    dies_between_renames("step-00000018")
    path = runs_of.begin(recipe)
    older = ["step-00000009"] if kept > 1 else []
    assert sorted(folder.name for folder in (path / "checkpoints").iterdir()) == [*older, "step-00000018.previous"]
    display = Telling()
    runs_of.go_on(path, display)
    assert "going on after step 18" in display.lines
    assert_same_run(whole, path)


def test_the_best_model(dies_between_renames, runs_of, tiny_recipe):
    recipe = tiny_recipe("plain", "training.epochs=4", "training.checkpoint.steps=10")
    whole = runs_of.begin(recipe, name="whole")
    dies_between_renames("model")
    path = runs_of.begin(recipe)
    assert not (path / "model").exists()
    assert (path / "model.previous" / "model.json").is_file()
    runs_of.go_on(path)
    assert not (path / "model.previous").exists()
    assert_same_run(whole, path)
