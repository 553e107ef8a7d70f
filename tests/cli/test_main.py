"""What becomes of errors, and the help."""

import errno

import pytest

from fanin.cli import doctor


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "'trian'. Did you mean 'train'?"),
        (["train"], "DATA"),
        (["train", "x"], "--out"),
        (["evaluate", "[x]"], "Missing argument 'DATA'. (see 'fanin evaluate --help')"),
        (["train", "\x1b[31m", "--ou", "x"], "--ou"),
        (["data", "get"], "NAME"),
        (["data"], "command"),
    ],
)
def test_usage_errors_are_one_line_and_2(arguments, message, invoke):
    outcome = invoke(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_our_own_faults_are_1_with_a_traceback(invoke, monkeypatch):
    def broken():
        raise AssertionError("invariant \x1b[31m")

    monkeypatch.setattr(doctor, "_cache", broken)
    outcome = invoke("doctor")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("Traceback")
    assert "please report it" in outcome.err.splitlines()[-1]
    assert "\x1b" not in outcome.err


def test_other_failures_of_the_system_are_ours(invoke, monkeypatch):
    def broken():
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(doctor, "_cache", broken)
    assert invoke("doctor").code == 1


def test_ctrl_c_is_130(invoke, monkeypatch):
    def broken():
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "_cache", broken)
    assert invoke("doctor") == (130, "", "interrupted\n")


def test_help(invoke):
    outcome = invoke()
    assert outcome == invoke("--help")
    assert outcome.code == 0
    for name in ("train", "evaluate", "predict", "inspect", "results", "recipes", "data", "bench", "doctor"):
        assert f"  {name}" in outcome.out
        assert invoke(name, "--help").code == 0
    assert invoke("--version").out.startswith("fanin 0.")
