"""``fanin predict``."""

import json

import pytest

from fanin.cli import text_input


def lines_of(outcome):
    assert outcome.code == 0, outcome.err
    return [json.loads(line) for line in outcome.out.splitlines()]


def labels_of(outcome):
    return [row["predictions"][0]["label"] for row in lines_of(outcome)]


def test_texts_given_as_options(trained, invoke):
    outcome = invoke("predict", trained, "--text", "green leaves", "--text", "[red]milk[/red] chocolate", "-k", "2")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0] == "green leaves"
    assert lines[1].endswith("  [bold]tea[/bold]")
    assert lines[3] == "[red]milk[/red] chocolate"
    assert lines[4].endswith("  cocoa")
    assert len(lines) == 6
    assert outcome.err == ""


def test_terminal_escapes_are_shown_and_never_sent(trained, invoke):
    plain = invoke("predict", trained, "--text", "roasted beans\x1b]0;title\x07\u202e", "-k", "1").out
    assert plain.splitlines()[0] == r"roasted beans\x1b]0;title\x07\u202e"
    assert plain.splitlines()[1].endswith(r"  coffee \x1b[31m")
    lines = invoke("predict", trained, "--text", "roasted beans\x1b\x9b", "-k", "1", "--json").out
    assert "\x1b" not in lines + plain
    assert "\x9b" not in lines
    assert json.loads(lines) == {
        "text": "roasted beans\x1b\x9b",
        "predictions": [{"label": "coffee \x1b[31m", "score": pytest.approx(0.5, abs=0.5)}],
    }


def test_file_and_standard_input(trained, tmp_path, invoke):
    (tmp_path / "texts").write_bytes(b"\xef\xbb\xbfgreen leaves\r\nmilk \xe2\x80\xa8 chocolate\x0b\n\nroasted beans")
    found = invoke("predict", trained, "--file", tmp_path / "texts", "-", "--json", stdin=b"milk chocolate\n")
    rows = lines_of(found)
    assert [row["text"] for row in rows] == [
        "green leaves",
        "milk \u2028 chocolate\x0b",
        "",
        "roasted beans",
        "milk chocolate",
    ]
    assert labels_of(found)[0] == "[bold]tea[/bold]"
    assert labels_of(found)[3:] == ["coffee \x1b[31m", "cocoa"]
    assert lines_of(invoke("predict", trained, "-", "--json", stdin=b"")) == []


def test_a_file_is_read_in_blocks(trained, tmp_path, invoke, monkeypatch):
    monkeypatch.setattr(text_input, "_READ_BYTES", 10)
    texts = [f"milk {'x' * (i % 23)} {i}" for i in range(200)]
    (tmp_path / "texts").write_text("\r\n".join(texts), encoding="utf-8")
    assert max(map(len, text_input.file_texts(tmp_path / "texts"))) < 3
    rows = lines_of(invoke("predict", trained, "--file", tmp_path / "texts", "--json", "-k", "1"))
    assert [row["text"] for row in rows] == texts


def test_more_labels_than_there_are(trained, invoke):
    (row,) = lines_of(invoke("predict", trained, "--text", "milk", "-k", "100", "--json"))
    scores = [prediction["score"] for prediction in row["predictions"]]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --text TEXT, --file FILE, or -"),
        (("texts.txt",), "unexpected argument 'texts.txt'"),
        (("--text", "a", "-k", "0"), "-k"),
        (("--text", "fine", "--text", "\udcff"), "--text number 2"),
        (("--file", "nowhere.txt"), "nowhere.txt: cannot be read (No such file or directory)"),
    ],
)
def test_mistakes(arguments, message, trained, invoke):
    outcome = invoke("predict", trained, *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert outcome.err.startswith("error: ")


def test_bad_files_of_texts(trained, tmp_path, invoke, monkeypatch):
    (tmp_path / "bad").write_bytes(b"good\nmilk \xff chocolate\n")
    outcome = invoke("predict", trained, "--file", tmp_path / "bad")
    assert outcome.code == 2
    assert f"{tmp_path / 'bad'}, line 2: byte 6 (0xff) is not valid UTF-8" in outcome.err
    assert "standard input, line 1" in invoke("predict", trained, "-", stdin=b"\xff").err
    (tmp_path / "empty").touch()
    assert "the file is empty" in invoke("predict", trained, "--file", tmp_path / "empty").err
    assert "Is a directory" in invoke("predict", trained, "--file", tmp_path).err
    monkeypatch.setattr(text_input, "MAX_LINE_BYTES", 100)
    assert "a line is longer than" in invoke("predict", trained, "-", stdin=b"x" * 1000).err
