"""The README and the guides are short, begin alike, and every link in them leads somewhere."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.test_docs import CHECKOUT, DOCUMENTS

README = CHECKOUT / "README.md"
GUIDES = DOCUMENTS[1:]
LINKING = [*DOCUMENTS, CHECKOUT / "CHANGELOG.md"]
# Generated, and read by searching.
LONG = {"reference.md"}


class Link(NamedTuple):
    """A link of a document: its line, and the file and the anchor that it names; either may be empty."""

    line: int
    path: str
    anchor: str


def lines_outside_code(document: Path) -> list[str]:
    """Return the lines of a document; those within fences are empty."""
    text = document.read_text(encoding="utf-8")
    emptied = re.sub(r"^```.*?^```$", lambda found: "\n" * found[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    return emptied.splitlines()


def links(document: Path) -> list[Link]:
    """Return the links of a document to files and headings."""
    text = re.sub(r"`[^`\n]*`", lambda found: "x" * len(found[0]), "\n".join(lines_outside_code(document)))
    return [
        Link(text[: found.start()].count("\n") + 1, *found[1].partition("#")[::2])
        for found in re.finditer(r"\[[^]]*\]\(([^)\s]+)\)", text)
        if "://" not in found[1]
    ]


def anchors(document: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    found: dict[str, int] = {}
    anchored = set()
    for line in lines_outside_code(document):
        if heading := re.fullmatch(r"#+ (.+)", line):
            name = re.sub(r"[^\w\- ]", "", heading[1].strip().lower()).replace(" ", "-")
            number = found[name] = found.get(name, -1) + 1
            anchored.add(f"{name}-{number}" if number else name)
    return anchored


def broken(document: Path) -> list[str]:
    """Return the links of a document that lead nowhere."""
    wrong = []
    for link in links(document):
        target = (document.parent / link.path).resolve() if link.path else document
        if not target.exists() or (link.anchor and link.anchor not in anchors(target)):
            wrong.append(f"{document.name}:{link.line}: {link.path}#{link.anchor}".removesuffix("#"))
    return wrong


@pytest.mark.parametrize("document", LINKING, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    assert broken(document) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page: `that`\n## Twice\n## Twice\n\n[1](#a-page-that), [2](#twice-1), [3](page.md#twice),\n"
        "[4](#no), [5](other.md), [6](page.md#twice-2), [7](https://no.example), `[8](no.md)`\n"
        "```sh\n# no\n[9](no.md)\n```\n"
    )
    assert broken(page) == ["page.md:6: #no", "page.md:6: other.md", "page.md:6: page.md#twice-2"]


def test_the_readme_is_short() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    assert len(text.encode()) <= 10_240


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_line_is_too_long_to_read_except_in_tables(document: Path) -> None:
    lines = document.read_text(encoding="utf-8").splitlines()
    assert [number for number, line in enumerate(lines, 1) if len(line) > 140 and not line.startswith("|")] == []


@pytest.mark.parametrize("guide", [one for one in GUIDES if one.name not in LONG], ids=lambda path: path.name)
def test_a_guide_has_at_most_300_lines(guide: Path) -> None:
    assert len(guide.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_a_guide_begins_with_its_title_and_one_line_that_says_what_it_is_for(guide: Path) -> None:
    title, empty, summary, after, *_ = guide.read_text(encoding="utf-8").splitlines()
    assert re.fullmatch("# [A-Z].+", title)
    assert (empty, after) == ("", "")
    assert re.fullmatch(r"[A-Z].+[.]", summary)
    assert len(summary) <= 100
    headings = [line for line in lines_outside_code(guide)[1:] if line.startswith("#")]
    assert not [line for line in headings if not re.match("#{2,3} ", line)]
