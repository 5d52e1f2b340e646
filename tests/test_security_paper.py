"""docs/security.md: every requirement once, its counts right, and what it names is there."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

# ASVS 4.0.3, level 2 with all of level 1: how many requirements each section has, and which of
# them were deleted or are of level 3 alone.
SECTIONS = """
    1.1 7   1.2 4   1.4 5 -2 -3   1.5 4   1.6 4   1.7 2   1.8 2   1.9 2   1.10 1   1.11 2
    1.12 2 -1   1.14 6
    2.1 12   2.2 3   2.3 3   2.4 5   2.5 7   2.6 3   2.7 6   2.8 6   2.9 3   2.10 4
    3.1 1   3.2 4   3.3 4   3.4 5   3.5 3   3.7 1
    4.1 5 -4   4.2 2   4.3 3
    5.1 5   5.2 8   5.3 10   5.4 3   5.5 4
    6.1 3   6.2 6   6.3 2   6.4 2
    7.1 4   7.2 2   7.3 4 -2   7.4 3
    8.1 4   8.2 3   8.3 8
    9.1 3   9.2 4
    10.2 2   10.3 3
    11.1 8
    12.1 3   12.2 1   12.3 6   12.4 2   12.5 2   12.6 1
    13.1 5 -2   13.2 6 -4   13.3 2   13.4 2
    14.1 4   14.2 6   14.3 3 -1   14.4 7   14.5 4
"""
STATES = {"met": "met", "**partly**": "partly", "**not met**": "not", "n/a": "not apply"}


def wanted() -> list[str]:
    found = []
    for section, most, without in re.findall(r"(\d+\.\d+) (\d+)((?: -\d+)*)", SECTIONS):
        gone = {int(one) for one in without.replace("-", "").split()}
        found += [f"{section}.{n}" for n in range(1, int(most) + 1) if n not in gone]
    return found


@pytest.fixture
def paper(root: Path) -> str:
    return (root / "docs" / "security.md").read_text(encoding="utf-8")


@pytest.fixture
def lines(paper: str) -> list[tuple[str, str, str]]:
    return re.findall(r"^\| (\d+\.\d+\.\d+) \| ([^|]+) \| ([^|]+) \|$", paper, re.MULTILINE)


def test_every_requirement_is_there_once_and_in_order(lines):
    assert [number for number, _, _ in lines] == wanted()


def test_each_has_a_state_and_says_how_or_why(lines):
    assert {state for _, state, _ in lines} == set(STATES)
    assert [number for number, _, how in lines if len(how.strip()) < 4] == []


def test_its_counts_are_those_of_the_list(paper, lines):
    counts = Counter(state for _, state, _ in lines)
    said = (
        f"Of {len(lines)} requirements {counts['met']} are met, {counts['**partly**']} partly, "
        f"{counts['**not met**']} are not, and {counts['n/a']} do not apply."
    )

    assert said in paper


def test_every_file_that_it_names_is_there(paper, root):
    named = set(re.findall(r"`((?:tests|app|packaging|\.ci)/[\w./-]+)`", paper))
    linked = set(re.findall(r"\]\(([^)#:]+)\)", paper))

    assert len(named) > 30
    assert [name for name in named if not (root / name).exists()] == []
    assert [link for link in linked if not (root / "docs" / link).exists()] == []
