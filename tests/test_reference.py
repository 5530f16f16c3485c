"""What is generated of the documentation is that of the program as it is."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from egec_cli.commands.contract import CONTRACT
from egec_cli.logins.explain import Cause
from tests.reference import command_tree, records
from tests.reference.__main__ import generated
from tests.test_docs import CHECKOUT, MANUAL

PAGES = [CHECKOUT / "egec_cli" / "man" / "egec.1", CHECKOUT / "egec_cli" / "man" / "fr" / "egec.1"]
REFERENCE = (CHECKOUT / "egec_cli" / "guides" / "reference.md").read_text(encoding="utf-8")
STALE = "type `python -m tests.reference`"


@pytest.mark.parametrize("path", generated(), ids=str)
def test_what_is_generated_is_that_of_the_program(path: Path) -> None:
    assert (CHECKOUT / path).read_text(encoding="utf-8") == generated()[path], STALE


@pytest.mark.parametrize("command", list(command_tree.commands()), ids=lambda command: command.path)
def test_the_reference_has_each_option_of_a_command_with_its_help(command: command_tree.Described) -> None:
    section = " ".join(section_of(f"egec {command.path}").split())
    for one in [*command.arguments, *command.options]:
        typed = " ".join(filter(None, [", ".join(one.names), one.value]))
        assert f"- `{typed}`: {one.help.removesuffix('.')}" in section
    for code, meaning in CONTRACT[command.path].exits.items():
        assert f"- {int(code)}: {meaning}" in section
    assert f"Example: `{command.example}`" in section


def test_the_reference_has_every_key_below_the_record_that_a_command_links_to() -> None:
    for path, contract in CONTRACT.items():
        for kind in (part for result in contract.results for part in result.parts):
            name = records.name(kind)
            assert f"[{name}](#{name.replace(' ', '-')})" in " ".join(section_of(f"egec {path}").split())
            base, own = records.keys_of_its_own(kind)
            for key in own:
                assert f"- `{key.name}` (" in section_of(name)
            assert base is None or f"The keys of [{records.name(base)}](" in section_of(name)


def section_of(heading: str) -> str:
    """Return a section of the reference."""
    [section] = re.findall(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", REFERENCE, re.MULTILINE | re.DOTALL)
    return str(section)


@pytest.mark.parametrize("page", PAGES, ids=["en", "fr"])
@pytest.mark.parametrize(
    "program",
    [
        ["man", "--warnings", "-l"],
        ["groff", "-man", "-Tutf8", "-ww"],
        ["mandoc", "-T", "lint", "-W", "error"],
    ],
    ids=lambda program: program[0],
)
def test_a_man_page_renders_without_a_warning_in_at_most_200_lines(
    program: list[str], page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which(program[0]) is None:
        pytest.skip(f"the man page in {program[0]}, which is not installed")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("MANWIDTH", "80")
    done = subprocess.run([*program, str(page)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    if program[0] != "mandoc":
        # What is bold may be written twice, one letter over the other.
        shown = re.sub("\x1b\\[[0-9;]*m|.\b", "", done.stdout)
        for command in command_tree.commands():
            assert f"\n       {command.path} " in shown
        assert "`egec help`" in shown
        assert len(shown.splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=["en", "fr"])
def test_the_source_of_a_man_page_is_short(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 200


def test_the_french_man_page_is_french() -> None:
    english, french = (page.read_text(encoding="utf-8").splitlines() for page in PAGES)
    assert len(english) == len(french)
    # Requests, names and this line are the same.
    same = [one for one, other in zip(english, french, strict=True) if one == other and not one.startswith(".")]
    assert [line for line in same if not line.startswith("\\fBegec\\fR")] == []


def test_the_wheel_contains_the_man_pages() -> None:
    text = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"egec_cli/man/egec.1" = "share/man/man1/egec.1"' in text
    assert '"egec_cli/man/fr/egec.1" = "share/man/fr/man1/egec.1"' in text


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
