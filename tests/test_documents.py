"""The documents name files that there are, and the floors that the imports are held to."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "fanin"
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")]
LINK = re.compile(r"\]\(([^)\s]+)\)")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def anchors(path):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document):
    for link in LINK.findall(document.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_room_has_a_row_and_its_files():
    rows = [line.split(" | ") for line in ARCHITECTURE.split("## Rooms")[1].split("\n## ")[0].splitlines()]
    rooms = {name: row for row in rows for name in re.findall(r"`(\w+)/`", row[0])}
    there = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert there <= rooms.keys()
    for room in there:
        files = re.findall(r"`(\w+\.py)`", rooms[room][1])
        assert [name for name in files if not (SOURCE / room / name).is_file()] == [], room


def test_floors_are_those_of_the_contract():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    block = ARCHITECTURE.split("## Floors")[1].split("\n\n")[2]
    written = [line.split("(")[0].strip() for line in block.splitlines()]
    assert written == [layer.replace("fanin.", "") for layer in layers]
