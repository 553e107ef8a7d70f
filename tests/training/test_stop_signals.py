"""Signals to stop, in processes of their own."""

import signal
import subprocess
import sys
import threading

import pytest

from fanin.runs.checkpoint_series import CheckpointSeries
from fanin.runs.run_folder import RunFolder
from fanin.training.stop_signals import Stopped, StopSignals
from process_threads import run_together

BEGIN = """
import os, signal, sys, time
from fanin.training.stop_signals import Stopped, StopSignals

def send(number):
    os.kill(os.getpid(), number)

"""


def run(program):
    """Exit code and output of a program."""
    done = subprocess.run([sys.executable, "-c", BEGIN + program], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_going_on_is_finished_first(number):
    with StopSignals() as stop:
        steps = []

        def work():
            with stop.deferred():
                steps.append(1)
                signal.raise_signal(number)
                signal.raise_signal(number)  # the same wish
                steps.append(2)

        with pytest.raises(Stopped) as caught:
            work()
        assert steps == [1, 2]
        assert caught.value.exit_code == 128 + number
        with stop.deferred():  # saving what was done
            steps.append(3)
    assert steps == [1, 2, 3]


def test_elsewhere_it_ends_at_once():
    with StopSignals(), pytest.raises(Stopped):
        signal.raise_signal(signal.SIGTERM)


def test_an_error_inside_is_not_hidden():
    def work():
        with StopSignals() as stop, stop.deferred():
            signal.raise_signal(signal.SIGTERM)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_second_signal_leaves_at_once(number):
    program = f"""
with StopSignals() as stop, stop.deferred():
    send(signal.SIGTERM)
    time.sleep(1.1)
    print("waiting", flush=True)
    send(signal.{number})
    time.sleep(5)
    print("never", flush=True)
"""
    assert run(program) == (-getattr(signal, number), "waiting\n")


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopSignals():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_once_it_is_as_good_as_over_a_wish_comes_too_late():
    with StopSignals() as stop:
        with stop.deferred():
            stop.disregard()
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)


def test_a_second_signal_leaves_then_too():
    program = """
with StopSignals() as stop:
    stop.disregard()
    send(signal.SIGTERM)
    time.sleep(1.1)
    print("waiting", flush=True)
    send(signal.SIGTERM)
    time.sleep(5)
    print("never", flush=True)
"""
    assert run(program) == (-signal.SIGTERM, "waiting\n")


@pytest.mark.parametrize("name", ["write_metrics", "remove"])
def test_a_run_whose_scores_are_known_ends_as_finished(name, runs_of, tiny_recipe, monkeypatch):
    part = RunFolder if name == "write_metrics" else CheckpointSeries
    work = getattr(part, name)

    def interrupted(self, *values):
        signal.raise_signal(signal.SIGTERM)
        work(self, *values)

    monkeypatch.setattr(part, name, interrupted)
    path = runs_of.begin(tiny_recipe("dense", "training.steps=1"))
    assert (path / "metrics.json").is_file()
    assert not (path / "checkpoints").exists()


def test_outside_the_main_thread_it_does_nothing():
    errors, before = [], signal.getsignal(signal.SIGTERM)

    def work():
        try:
            with StopSignals() as stop, stop.deferred():
                assert signal.getsignal(signal.SIGTERM) is before
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == []


def test_several_processes_stop_together_at_the_end_of_what_they_do():
    def work(processes):
        stop, done = StopSignals(), []
        stop.stop_together(processes)
        if processes.rank == 1:
            stop._receive(signal.SIGTERM, None)  # outside of everything: the others could not know
        with pytest.raises(Stopped) as stopped, stop.deferred():
            done.append("a step")
        with stop.deferred():
            done.append("a save")
        return stopped.value.exit_code, done

    assert run_together(2, work) == [(143, ["a step", "a save"])] * 2
