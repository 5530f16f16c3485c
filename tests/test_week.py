"""The script of a whole week, with few clients: no promise is broken; `python -m tests.week` takes thousands."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.week import promises
from tests.week.__main__ import FEWEST, live
from tests.week.books import Books


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_week_breaks_no_promise(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = empty_database(request.getfixturevalue("durable_postgresql")) if engine == "postgresql" else ""
    live(books := Books(), FEWEST, url, seed=1, folder=tmp_path / "week")
    assert books.violations == []


def empty_database(make: Callable[[], str]) -> str:
    with psycopg.connect(url := make(), autocommit=True) as admin:
        admin.execute("DROP SCHEMA public CASCADE")
        admin.execute("CREATE SCHEMA public")
    return url


@pytest.mark.parametrize("form", ["as it is", "in UTF-16", "in hexadecimal", "at both ends"])
def test_the_search_for_passwords_finds_what_leaks(form: str) -> None:
    secret = b"fG69a*6jH"
    leak = {
        "as it is": b'{"at": "2026-11-25", "password": "' + secret + b'"}',
        "in UTF-16": f"the password is {secret.decode()}.".encode("utf-16-le"),
        "in hexadecimal": b"0a" + secret.hex().encode() + b"ff",
        "at both ends": secret,
    }[form]
    assert secret in promises.found_secrets(leak, promises.forms_of([secret, b"3fVyzLW-2"]))
    assert not list(promises.found_secrets(leak, promises.forms_of([b"fG69a*6jX", b"3fVyzLW-2"])))


def test_a_broken_requirement_is_recorded() -> None:
    books = Books()
    books.begin("Monday")
    books.require(True, "all is well")
    books.require([], "the list is empty")
    assert books.violations == ["Monday: the list is empty"]
