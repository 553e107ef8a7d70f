"""Printing literally."""

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanin.cli.output import literal, write_json, write_table


@given(st.text(st.characters(exclude_categories=[])))
def test_nothing_that_a_terminal_acts_on_is_left(text):
    shown = literal(text)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    shown.encode()


@pytest.mark.parametrize("text", ["[bold]x[/bold]", "Brontë, 作家, می‌خواهم", "a\\b", ":smile:", "http://x.y/z 123"])
def test_everything_else_stays(text, capsys):
    assert literal(text) == text
    write_table(["name", "value"], [[text, "1"]])
    assert text in capsys.readouterr().out


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_says_the_same_after_escaping(text):
    assert json.loads(printed_json({text: [text]}, "utf-8")) == {text: [text]}
    assert json.loads(printed_json(text, "latin-1")) == text


def printed_json(document, encoding):
    before = sys.stdout
    sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    try:
        write_json(document)
        sys.stdout.flush()
        return sys.stdout.buffer.getvalue().decode(encoding)
    finally:
        sys.stdout = before


def test_long_cells_are_not_cut_off_the_terminal(capsys):
    write_table(["run", "P@1"], [["x" * 300, "-"], ["y", "1.00"]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "x" * 300 + "      -"
    assert lines[3].endswith("   1.00")
