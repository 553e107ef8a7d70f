"""Model folders whose files or description are changed, with digests that fit: as somebody could who means it."""

import json

from fanin.file_digests import file_digest, value_digest


def body_of(folder):
    """What a folder's description says of its model."""
    return json.loads((folder / "model.json").read_text(encoding="utf-8"))["model"]


def sealed(body):
    """The content of a description that says so."""
    return json.dumps({"format": 2, "sha256": value_digest(body), "model": body}).encode("utf-8", "surrogatepass")


def describe(folder, **changes):
    (folder / "model.json").write_bytes(sealed(body_of(folder) | changes))


def note_file(folder, name):
    """Let the description fit another content of a file."""
    noted = {"bytes": (folder / name).stat().st_size, "sha256": file_digest(folder / name)}
    describe(folder, files=body_of(folder)["files"] | {name: noted})


def as_format_1(folder):
    """Write the description that versions before wrote."""
    body = body_of(folder)
    sizes = {name: noted["bytes"] for name, noted in body.pop("files").items()}
    (folder / "model.json").write_text(json.dumps({"format": 1, **body, "bytes": sizes}), encoding="utf-8")
