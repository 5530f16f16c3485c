"""What is generated of the documentation is that of the program as it is."""

import re
import shutil
import subprocess
from typing import NamedTuple, get_args

import pytest

from egec_cli.commands.contract import CONTRACT
from egec_cli.logins.explain import Cause
from tests.reference import command_tree, guides_table, man_page, records, reference
from tests.test_docs import CHECKOUT, MANUAL, table

PAGE = CHECKOUT / "egec_cli" / "man" / "egec.1"
STALE = "type `python -m tests.reference`"


def test_the_reference_is_that_of_the_program() -> None:
    guide = (CHECKOUT / "egec_cli" / "guides" / "reference.md").read_text(encoding="utf-8")
    assert reference.in_guide(guide) == guide, STALE


def test_the_readme_lists_every_guide_with_the_line_that_says_what_it_is_for() -> None:
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert readme == guides_table.in_readme(readme), "run python -m tests.reference.guides_table"
    assert len(guides_table.rows()) >= 13


def test_the_man_page_is_that_of_the_program() -> None:
    assert man_page.text() == PAGE.read_text(encoding="utf-8"), STALE


def test_the_man_page_has_every_command_option_and_key() -> None:
    shown = man_page.text().replace("\\-", "-")
    for command in command_tree.commands():
        section = shown.partition(f'.SS "egec {command.path}"\n')[2].partition("\n.SS ")[0]
        for option in command.options:
            assert f"\\fB{', '.join(option.names)}" in section, (command.path, option)
        for result in CONTRACT[command.path].results:
            assert ", ".join(result.keys) in section, command.path


@pytest.mark.parametrize(
    "program",
    [
        ["man", "--warnings", "-l"],
        ["groff", "-man", "-Tutf8", "-ww"],
        ["mandoc", "-T", "lint", "-W", "error"],
    ],
    ids=lambda program: program[0],
)
def test_the_man_page_renders_without_a_warning(program: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which(program[0]) is None:
        pytest.skip(f"the man page in {program[0]}, which is not installed")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    done = subprocess.run([*program, str(PAGE)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    if program[0] != "mandoc":
        # What is bold may be written twice, one letter over the other.
        assert "egec client create" in re.sub(".\b", "", done.stdout)


def test_the_wheel_contains_the_man_page() -> None:
    assert '"egec_cli/man/egec.1" = "share/man/man1/egec.1"' in (CHECKOUT / "pyproject.toml").read_text(
        encoding="utf-8"
    )


def test_the_reasons_of_a_refusal_in_the_guide_are_those_of_the_program() -> None:
    block = MANUAL.partition("| reason | what it means |\n")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in block.splitlines()[1:]]
    told = [word.strip(" `") for cell in cells for word in cell.split(",")]
    assert sorted(told) == sorted(get_args(Cause))


class Documented(NamedTuple):
    """A record.

    Attributes:
        one: described
            in two lines; None if not.
    """

    one: str | None


class Undocumented(NamedTuple):
    """A record.

    Attributes:
        one: described.
    """

    one: str
    other: int


def test_a_key_has_the_type_and_the_meaning_that_its_class_gives_it() -> None:
    assert records.keys(Documented) == [("one", "text or null", "described in two lines; null if not.")]


def test_a_key_without_a_meaning_is_an_error() -> None:
    with pytest.raises(LookupError, match="Undocumented does not say what these mean: other"):
        records.keys(Undocumented)


def test_every_command_is_in_the_table_of_the_readme_and_in_its_reference() -> None:
    told = [row[0].strip("`") for row in table("reference")]
    for command in command_tree.commands():
        assert command.synopsis in told
