"""Bad input: exit code 2, one message that names the place, no traceback, and nothing that was saved is lost."""

import json
import shutil
import struct

import numpy as np
import pytest

DATA_FAULTS = {
    "missing file": ("Y.txt", None, "missing Y.txt"),
    "fewer texts than rows": ("trn_X.txt", b"one text\n", "trn_X.txt: 1 texts (lines), but"),
    "fewer rows than promised": ("trn_X_Y.txt", b"48 4\n0:1\n", "trn_X_Y.txt, line 1: the header promises 48 rows"),
    "label id too large": ("tst_X_Y.txt", b"12 4\n4:1\n" + b"\n" * 11, "tst_X_Y.txt, line 2: id 4 is not below 4"),
    "negative id": ("tst_X_Y.txt", b"12 4\n\n-1:1\n" + b"\n" * 10, "tst_X_Y.txt, line 3: the id is negative"),
    "id not a number": ("tst_X_Y.txt", b"12 4\nx:1\n" + b"\n" * 11, "tst_X_Y.txt, line 2: expected"),
    "value NaN": ("tst_X_Y.txt", b"12 4\n0:nan\n" + b"\n" * 11, "tst_X_Y.txt, line 2: the value in '0:nan'"),
    "bad UTF-8": ("trn_X.txt", b"fine\n" * 47 + b"caf\xe9\n", "trn_X.txt, line 48: byte 4 (0xe9)"),
    "empty file": ("trn_X.txt", b"", "trn_X.txt: the file is empty"),
    "huge header": ("trn_X_Y.txt", b"1000000000000 4\n0:1\n", "line 1: the header promises 1000000000000 rows"),
    "duplicate label names": ("Y.txt", b"a\nb\na\nc\n", "Y.txt, lines 1 and 3: both labels are named 'a'"),
    "empty label name": ("Y.txt", b"a\nb\n\nc\n", "Y.txt, line 3: the label name is empty"),
    "too few label names": ("Y.txt", b"a\nb\n", "Y.txt: 2 label names"),
}


@pytest.mark.parametrize("fault", DATA_FAULTS)
def test_faulty_data(fault, write_drinks, tiny, tmp_path, invoke):
    file, content, message = DATA_FAULTS[fault]
    folder = write_drinks(tmp_path / "[data]")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    outcome = invoke("train", folder, "--out", tmp_path / "run", *tiny)
    assert_refused(outcome, message)
    assert "[data]" in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "labels": ["x"]}\n{"text": 3}', "line 2"),
        ('{"text": "a", "labels": ["x"]}\n{"text"', "line 2, column"),
        ('{"text": "a", "labels": [" "]}', "line 1"),
        ("", "empty"),
    ],
)
def test_faulty_json_lines(content, message, tmp_path, invoke):
    (tmp_path / "train.jsonl").write_text(content, encoding="utf-8")
    outcome = invoke("train", tmp_path / "train.jsonl", "--out", tmp_path / "run")
    assert_refused(outcome, message)
    assert "train.jsonl" in outcome.err


def test_a_data_set_that_is_not_there(tmp_path, invoke):
    assert_refused(invoke("train", tmp_path / "nothing", "--out", tmp_path / "run"), "there is no such folder or file")
    assert_refused(invoke("data", "stats", tmp_path), "no data set in this folder (it is empty)")


def test_faulty_features(tmp_path, invoke):
    np.save(tmp_path / "nan.npy", np.array([[0.0, 1.0], [2.0, np.nan]]))
    assert_refused(invoke("data", "stats", tmp_path / "nan.npy"), "nan.npy, row 1, column 1: the value is nan")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert_refused(invoke("data", "stats", tmp_path / "objects.npy"), "objects.npy: not a whole .npy file of numbers")
    content = (tmp_path / "nan.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(content[:-1])
    assert_refused(invoke("data", "stats", tmp_path / "cut.npy"), "cut.npy")
    (tmp_path / "huge.npy").write_bytes(content.replace(b"(2, 2), ", b"(1000000000000, 2), "))
    assert_refused(invoke("data", "stats", tmp_path / "huge.npy"), "huge.npy")
    assert_refused(invoke("data", "stats", tmp_path / "none.npy"), "none.npy: cannot be read")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("classifier:\n  fanin: 3\n", "unknown setting 'classifier.fanin' (did you mean 'fan_in'?)"),
        ("classifier: {fan_in: 64}\nencoder: {out_features: 32}\n", "classifier.fan_in is 64"),
        ("training: {epochs: 0, batch_size: none}\n", "training.batch_size"),
        ("training: !!python/object/apply:os.system ['touch pwned']\n", "tags"),
        ("training: {seed: 1}\ntraining: {seed: 2}\n", "stands twice"),
        ("- 1\n", "must be a mapping"),
        ("extends: nothing\n", "extends 'nothing'"),
        ("training: [\n", "not plain YAML"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_faulty_recipes(recipe, message, drinks, tmp_path, invoke, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[mine].yaml").write_bytes(recipe if isinstance(recipe, bytes) else recipe.encode())
    outcome = invoke("train", drinks, "--recipe", "[mine].yaml", "--out", "run")
    assert_refused(outcome, message)
    assert "[mine].yaml" in outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["[mine].yaml"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("classifier.fan_in=9999", "classifier.fan_in is 9999"),
        ("classifier.fan_in", "write section.key=value"),
        ("nothing.at.all=1", "unknown setting 'nothing'"),
        ("training.epochs=[", "not plain YAML"),
        ("training.seed=!!python/name:os.system", "not plain YAML"),
    ],
)
def test_faulty_settings(setting, message, drinks, tmp_path, invoke):
    assert_refused(invoke("train", drinks, "--out", tmp_path / "run", "--set", setting), message)


def copy_model(trained, folder):
    for path in (trained / "model").rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(trained / "model")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return folder


def test_faulty_models(trained, drinks, tmp_path, invoke):
    def commands(folder):
        return [("predict", folder, "--text", "tea"), ("evaluate", folder, drinks), ("inspect", folder)]

    truncated = copy_model(trained, tmp_path / "truncated")
    weights = truncated / "classifier.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    foreign = copy_model(trained, tmp_path / "foreign")
    (foreign / "model.json").write_text('{"format": 99}', encoding="utf-8")
    huge = copy_model(trained, tmp_path / "huge")
    content = (huge / "classifier.safetensors").read_bytes()
    (huge / "classifier.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + content[8:])
    damaged = copy_model(trained, tmp_path / "damaged")
    (damaged / "model.json").write_bytes(b"{")
    (tmp_path / "none").mkdir()
    for folder, message in [
        (truncated, "classifier.safetensors: truncated or damaged"),
        (foreign, "format 99; this version of fanin reads format"),
        (huge, "classifier.safetensors: damaged"),
        (damaged, "model.json: damaged, not JSON"),
        (tmp_path / "none", "holds no model"),
        (tmp_path / "nowhere", "there is no such folder"),
    ]:
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for command in commands(folder):
            assert_refused(invoke(*command), message)
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_link_to_itself_is_no_folder(drinks, tiny, tmp_path, invoke):
    loop, run = tmp_path / "loop", tmp_path / "run"
    loop.symlink_to(loop)
    for command in [
        ("predict", loop, "--text", "tea"),
        ("evaluate", loop, drinks),
        ("inspect", loop),
        ("index", loop, drinks),
        ("bench", "prediction", loop, drinks),
        ("resume", loop),
        ("results", loop),
        ("train", drinks, "--out", loop),
        ("train", loop, "--out", run),
        ("plan", loop),
        ("compare", drinks, "--recipe", "plain", "--out", loop, "--budget", "steps=1"),
        ("data", "stats", loop),
        ("data", "synth", "--labels", 10, "--rows", 10, "--out", loop),
    ]:
        assert_refused(invoke(*command), str(loop))
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


def test_a_kept_model_that_links_to_itself(trained, drinks, tmp_path, invoke):
    run = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("model"))
    (run / "model").symlink_to(run / "model")
    for command in [("predict", run, "--text", "tea"), ("evaluate", run, drinks), ("inspect", run)]:
        assert_refused(invoke(*command), "holds no model")
    assert invoke("resume", run, "--quiet").code == 0  # it is finished


def test_faulty_data_does_not_touch_a_model(trained, write_drinks, tmp_path, invoke):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    folder = write_drinks(tmp_path / "data")
    (folder / "tst_X_Y.txt").write_bytes(b"12 4\n9:1\n" + b"\n" * 11)
    assert_refused(invoke("evaluate", trained, folder), "tst_X_Y.txt, line 2")
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_crlf_and_bom_are_accepted_and_lines_end_at_line_feeds_only(write_drinks, trained, tmp_path, invoke):
    folder = write_drinks(tmp_path / "data")
    for name in ("trn_X.txt", "tst_X.txt", "trn_X_Y.txt", "tst_X_Y.txt", "Y.txt"):
        text = (folder / name).read_bytes().replace(b"\n", b"\r\n")
        (folder / name).write_bytes(b"\xef\xbb\xbf" + text)
    texts = (folder / "tst_X.txt").read_bytes()
    (folder / "tst_X.txt").write_bytes(texts.replace(b" ", " \u2028\x0b\x0c\x85 \r ".encode(), 1))
    outcome = invoke("evaluate", trained, folder, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert (found["points"], found["P@1"], found["unknown_labels"]) == (12, 1, 0)


def test_a_folder_that_cannot_be_written(drinks, tmp_path, invoke):
    (tmp_path / "file").touch()
    outcome = invoke("train", drinks, "--out", tmp_path / "file" / "run")
    assert_refused(outcome, "run: the run folder cannot be written")


def assert_refused(outcome, message):
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.err
