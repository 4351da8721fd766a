"""Every record of a decision is in the index, and every library we chose has a record."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DECISIONS = ROOT / "docs/decisions"
INDEX = (DECISIONS / "README.md").read_text()
RECORDS = sorted(path.name for path in DECISIONS.glob("*.md") if path.name != "README.md")
STUBS = "types-"
"""Type information for a library is no choice of its own."""


def chosen() -> set[str]:
    """What requirements/*.in name, in lower case, without extras and bounds."""
    found: set[str] = set()
    for path in (ROOT / "requirements").glob("*.in"):
        for line in path.read_text().splitlines():
            name = re.match(r"[A-Za-z0-9-]+", line)
            if name and not line.startswith(("-r", STUBS)):
                found.add(name.group().lower())
    return found


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_in_the_index(name: str) -> None:
    assert f"]({name})" in INDEX


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_says_what_was_rejected_and_when_to_look_again(name: str) -> None:
    text = (DECISIONS / name).read_text()
    assert "**Rejected.**" in text or "**Rejected**" in text
    assert "**Look again**" in text


def test_the_index_leads_nowhere_else() -> None:
    assert sorted(set(re.findall(r"\]\(([a-z-]+\.md)\)", INDEX))) == RECORDS


@pytest.mark.parametrize("library", sorted(chosen()))
def test_a_library_has_a_record(library: str) -> None:
    named = re.split(r"[^a-z0-9-]+", INDEX.lower())
    assert library in named
