"""Every Python block of the README and of docs runs as it stands, in a folder of its own."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.command import gapcheck

ROOT = Path(__file__).parents[2]
# Before a block may stand, in a comment of its own line: why it is not run, or a command whose files it reads.
SKIP, FIRST = "not run", "run after"
BLOCK = re.compile(
    r"(?:^<!-- (?P<marker>[^:\n]*): *(?P<text>[^\n]*?) -->\n)?^```python\n(?P<code>.*?)^```$", re.M | re.S
)


def blocks(file: Path) -> list[tuple[int, str, str, str]]:
    """(line of the first statement, code, marker, its text) of every Python block of a Markdown file."""
    text = file.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start("code")) + 1, match["code"], match["marker"] or "", match["text"] or "")
        for match in BLOCK.finditer(text)
    ]


FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOUND = {f"{file.name}:{line}": rest for file in FILES for line, *rest in blocks(file)}


@pytest.mark.parametrize("place", FOUND)
def test_a_snippet_runs_as_it_stands(place, tmp_path, monkeypatch):
    code, marker, text = FOUND[place]
    assert marker in ("", SKIP, FIRST), f"{place}: unknown marker {marker!r}"
    if marker == SKIP:
        assert text, f"{place}: a block that is not run says why"
        pytest.skip(text)
    monkeypatch.chdir(tmp_path)
    if marker == FIRST:
        status, printed = gapcheck(*shlex.split(text.removeprefix("gapcheck ")))
        assert status == 0, printed
    exec(compile(code, place, "exec"), {"__name__": "__main__"})


def test_no_block_is_missed():
    fences = sum(file.read_text(encoding="utf-8").count("```python") for file in FILES)
    assert len(FOUND) == fences >= 9


def test_the_reader_of_blocks_sees_line_marker_and_code(tmp_path):
    file = tmp_path / "a.md"
    file.write_text("# A\n```python\na = 1\n```\ntext\n\n<!-- not run: a hub model -->\n```python\nb = 2\nc = 3\n```\n")
    assert blocks(file) == [(3, "a = 1\n", "", ""), (9, "b = 2\nc = 3\n", "not run", "a hub model")]
