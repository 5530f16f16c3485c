"""The fenced blocks of the README and the guides: what each holds, what it is, and the mark that says who executes it.

A mark is a comment on the line above the fence:

    <!-- executed by tests/callers/test_recipes.py -->
    ```apache

`TELLS_WHERE_TO_TURN` says which marks there are.
"""

import re
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).parent.parent.parent
DOCUMENTS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "egec_cli" / "guides").glob("*.md"))]
ELSEWHERE = "executed by "

TELLS_WHERE_TO_TURN = """\
Every example is executed, so that it stays true. Either
- tag the fence with a language that tests/test_manual.py executes: sh, console, cron (of the account egec), dns; or
- let a test of your own execute it: the line above the fence is `<!-- executed by tests/…/test_….py -->`, and that test
  takes the block by `executed_by("tests/…/test_….py")` from tests/manual/blocks.py; or
- tag a picture, which has nothing to execute, with the language text; or
- use a mark of SITUATIONS in tests/test_manual.py, if it needs a finished run or a mail server that refuses; or
- let .ci/run execute it: the line above the fence is `<!-- some name -->`, and .ci/run takes the block by that name.
What the examples find (clients, files, variables) is in tests/manual/office.py: add what yours needs.
"""


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        language: the tag of the fence; empty without one.
        text: what is in it, with a line's end at its end.
        line: the number of the fence's line.
        mark: the comment above the fence, without its brackets; empty without one.
        paragraph: the paragraph above the fence and its mark.
        document: the name of the file.
    """

    language: str
    text: str
    line: int
    mark: str
    paragraph: str
    document: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def elsewhere(self) -> str:
        """The test file that executes it, relative to the checkout; empty if not named."""
        return self.mark.removeprefix(ELSEWHERE) if self.mark.startswith(ELSEWHERE) else ""

    @property
    def is_script(self) -> bool:
        """Whether it is a whole file that names its interpreter."""
        return self.text.startswith("#!")

    @property
    def path(self) -> str:
        """The path with which the paragraph above begins: that of the file that the block is.

        Raises:
            ValueError: it does not begin with one.
        """
        named = re.match("`(/[^`]+)`", self.paragraph)
        if not named:
            raise ValueError(f"{self}: begin the paragraph above with the path of the file, in backticks")
        return named[1]

    @property
    def permissions(self) -> int:
        """The mode of that file, as the paragraph says it behind the path; else 0644."""
        said = re.match("`/[^`]+`, mode ([0-7]{3})", self.paragraph)
        return int(said[1], 8) if said else 0o644

    def files(self) -> dict[str, str]:
        """Return the files that it shows, each below a comment with its path; text by path.

        Raises:
            ValueError: it does not begin with such a comment.
        """
        found: dict[str, str] = {}
        path = ""
        for line in self.text.splitlines(keepends=True):
            if named := re.fullmatch(r"# (/\S+)\n", line):
                path = named[1]
                found[path] = ""
            elif not path:
                raise ValueError(f"{self}: begin with the comment `# /path/of/the/file`, as other blocks of files do")
            else:
                found[path] += line
        return found


def _parsed(document: Path) -> list[Block]:
    found = []
    lines = document.read_text(encoding="utf-8").splitlines()
    fences = [number for number, line in enumerate(lines) if line.startswith("```")]
    for begin, end in zip(fences[::2], fences[1::2], strict=True):
        above = begin - 1
        mark = re.fullmatch(r"<!-- (.+) -->", lines[above])
        if mark:
            above -= 1
        paragraph: list[str] = []
        while above >= 0 and (lines[above] or not paragraph):
            paragraph.insert(0, lines[above])
            above -= 1
        text = "".join(f"{line}\n" for line in lines[begin + 1 : end])
        said = mark[1] if mark else ""
        found.append(Block(lines[begin][3:], text, begin + 1, said, "\n".join(paragraph), document.name))
    return found


BLOCKS = [block for document in DOCUMENTS for block in _parsed(document)]


def executed_by(test_file: str) -> list[Block]:
    """Return the blocks that this test executes, in the order of the documents.

    Args:
        test_file: the path of the test in the checkout, as in the mark.
    """
    return [block for block in BLOCKS if block.elsewhere == test_file]


def prose() -> str:
    """Return the README and the guides without their fenced blocks."""
    texts = "\n".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    return re.sub(r"^```.*?^```$", "", texts, flags=re.MULTILINE | re.DOTALL)
