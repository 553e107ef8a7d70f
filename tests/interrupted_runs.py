"""Runs that end in the middle, by a signal or as if their process had been killed, and go on in the same process."""

import os
import signal

import pytest

from fanin.data.formats import open_dataset
from fanin.runs.run_folder import RunFolder
from fanin.training.preparation import prepare
from fanin.training.progress import Silent
from fanin.training.resume import resume_run
from fanin.training.stop_signals import Stopped, StopSignals
from fanin.training.trainer import Trainer


class Killed(BaseException):
    """Nothing is saved after it."""


class Telling(Silent):
    """Keeps what it is told, and does something when so many batches of a stage are done."""

    def __init__(self, batches=0, stage="epoch", then=None):
        self.lines, self._left, self._stage, self._then, self._now = [], batches, stage, then, ""

    def start(self, what, total):
        self._now = what

    def advance(self, texts, note=""):
        self._left -= texts > 0 and self._now.startswith(self._stage)
        if self._left == 0:
            self._left = -1
            if self._then is not None:
                self._then()

    def say(self, line):
        self.lines.append(line)


def killed():
    raise Killed


class StopAt(Telling):
    """Sends this process a signal when so many batches of training, or of another stage, are done."""

    def __init__(self, batches, stage="epoch"):
        super().__init__(batches, stage, lambda: os.kill(os.getpid(), signal.SIGTERM))


class Runs:
    """Begins runs of a data set and goes on with them."""

    def __init__(self, data, folder):
        self._data, self._folder = data, folder

    def begin(self, recipe, display=None, name="run"):
        """Train until it is over or interrupted; gives the folder."""
        data = prepare(open_dataset(self._data), recipe, self._folder / "cache")
        with RunFolder.create(self._folder / name, recipe, self._data) as run, StopSignals() as stop:
            try:
                Trainer(recipe, data, run, display or Silent(), stop=stop).train()
            except (Killed, Stopped):
                assert not run.finished
        return self._folder / name

    def go_on(self, path, display=None, **options):
        """Go on to the end; gives the result."""
        with RunFolder.open(path) as run:
            return resume_run(run, display or Silent(), cache=self._folder / "cache", **options)


@pytest.fixture
def runs_of(planted, tmp_path):
    return Runs(planted, tmp_path)
