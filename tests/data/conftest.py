from pathlib import Path

import pytest

RAW_TEXT = {
    "trn_X.txt": "red apple\ngreen pear\nred cherry\n\n",
    "trn_X_Y.txt": "4 3\n0:1.0 1:1.0\n0:1.0\n1\n\n",
    "tst_X.txt": "red pear\ngreen apple\n",
    "tst_X_Y.txt": "2 3\n0:1.0 2:1\n\n",
    "Y.txt": "fruit\nred thing\nunseen\n",
}
JSON_LINES = {
    "train.jsonl": '{"text": "red apple", "labels": ["red", "fruit"]}\n{"text": "sky", "labels": []}\n',
    "test.jsonl": '{"text": "green pear", "labels": ["green", "fruit", "fruit"]}\n',
}


def write_files(folder: Path, files: dict[str, str | bytes | None]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if content is not None:
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.fixture
def raw_text(tmp_path):
    """A function that writes a small raw-text folder, with some files replaced (None leaves one out)."""
    return lambda **changes: write_files(
        tmp_path / "raw", {**RAW_TEXT, **{f"{name}.txt": content for name, content in changes.items()}}
    )


@pytest.fixture
def json_lines(tmp_path):
    """The same for a JSON-lines folder."""
    return lambda **changes: write_files(
        tmp_path / "json", {**JSON_LINES, **{f"{name}.jsonl": content for name, content in changes.items()}}
    )
