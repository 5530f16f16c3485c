"""What a person sees at a terminal: the kept screens, and what holds for all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.screens.cases import FOLDER, Case, cases, prepare, screens_folder
from tests.screens.emulator import PROGRAM, see

# One worker runs all of them, as the database takes long to prepare.
pytestmark = pytest.mark.xdist_group("screens")


@pytest.fixture(scope="module")
def database() -> Iterator[dict[str, str]]:
    """Return the variables with which commands find the database of the screens."""
    with screens_folder() as folder:
        yield prepare(folder)


@pytest.mark.parametrize("case", [*cases()], ids=str)
def test_a_screen_is_as_it_was_reviewed(case: Case, database: dict[str, str]) -> None:
    seen = case.see(database)
    assert seen.text == case.file.read_text(encoding="utf-8"), (
        "look at the difference; `python -m tests.screens` keeps it"
    )
    assert not seen.wrapped, "a line is longer than the screen"


def test_every_kept_screen_has_its_command() -> None:
    assert {file.name for file in FOLDER.glob("*")} == {case.file.name for case in cases()}


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_without_colour_gets_none(database: dict[str, str], variables: dict[str, str]) -> None:
    command = [*PROGRAM, "client", "list", "--limit", "2"]
    assert see(command, variables=database).coloured
    assert not see(command, variables=database | variables).coloured


def test_a_long_list_goes_through_the_pager_without_lines_that_are_too_long(database: dict[str, str]) -> None:
    seen = see([*PROGRAM, "client", "list", "--limit", "0"], columns=60, variables=database)
    assert len(seen.lines) == 1 + 40 + 1
    assert not seen.wrapped
    assert seen.lines[-1] == "40 in all"


def test_wide_and_combining_characters_keep_columns_aligned(database: dict[str, str], tmp_path: Path) -> None:
    variables = database | {"EGEC_DATABASE_URL": f"sqlite:///{tmp_path}/wide.db"}
    see([*PROGRAM, "init"], variables=variables)
    for number, name in enumerate(["山田" * 20, "e\u0301" * 30, "Œuvre"]):
        see([*PROGRAM, "client", "create", f"a{number}@example.org", "--last-name", name], variables=variables)
    seen = see([*PROGRAM, "client", "list"], variables=variables)
    assert not seen.wrapped
    assert all(line.endswith("new") for line in seen.lines[1:4])
