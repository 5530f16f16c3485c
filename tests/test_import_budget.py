"""What each command may import: imports dominate the start-up time."""

import json
import subprocess
from collections.abc import Iterable
from functools import partial
from importlib.util import find_spec

import pytest

from egec_cli import clients, credentials, logins, store
from egec_cli.commands import completion, contract, reissue, root
from tests import children
from tests.conftest import Egec
from tests.processes import command_of

MAIL = {"email", "smtplib", "ssl", "mailbox", "html"}
TABLES = {"rich", "csv"}
NEVER = {
    "pydantic", "psycopg", "psycopg2", "click", "playhouse", "pygments", "markdown_it", "unittest", "asyncio",
    "dkim", "dns",
}  # fmt: skip
# Modules of NEVER that only other releases of a dependency install, if any.
PERHAPS_NOT_INSTALLED = {"pydantic", "psycopg2", "click", "pygments", "markdown_it"}
SLOW = NEVER | MAIL | TABLES | {"email_validator", "idna", "bcrypt", "secrets", "zoneinfo"}

BUDGETS: dict[tuple[str, ...], set[str]] = {
    ("--version",): SLOW | {"typer", "peewee", "rich", "dataclasses", "logging"},
    ("client", "list"): SLOW,
    ("client", "list", "--format", "jsonl"): SLOW,
    ("client", "show", "1234567890"): SLOW,
    ("--quiet", "client", "show", "1234567890"): SLOW,
    ("audit", "list"): SLOW,
    ("client", "show", "jeanne@example.org"): SLOW - {"email_validator", "idna"},
    ("verify", "1234567890", "--password-stdin"): SLOW - {"bcrypt"} | {"typer", "inspect", "hashlib", "socket"},
    ("verify", "--stdin"): (SLOW - {"bcrypt"}) | {"typer", "inspect", "hashlib", "socket"},
    ("activate", "--stdin"): NEVER | TABLES,
    ("password",): SLOW | {"peewee", "sqlite3"},
    ("activate", "1234567890"): NEVER | TABLES,
    ("completion", "bash"): SLOW | {"peewee", "sqlite3"},
    ("completion", "fish", "--", "client", "list", "--format", ""): SLOW,
    ("completion", "fish", "--", "client", ""): SLOW | {"peewee", "sqlite3"},
    ("completion", "fish", "--", "reissue", "resume", ""): SLOW,
    ("help",): SLOW | {"peewee", "sqlite3"},
    ("help", "runs"): SLOW | {"peewee", "sqlite3"},
    ("reissue", "status"): SLOW,
    ("stats", "--format", "openmetrics"): SLOW - {"bcrypt", "secrets"},
}


# What a command reads, where it is not the client's password alone.
INPUTS: dict[tuple[str, ...], str] = {
    ("verify", "--stdin"): "1234567890\n{}\n",
    ("activate", "--stdin"): "jeanne@example.org",
}


def libraries(modules: Iterable[str]) -> set[str]:
    """Return the top-level names of these modules."""
    return {name.partition(".")[0] for name in modules}


def modules_after(*arguments: str, stdin: str = "") -> set[str]:
    """Return the full names of all modules that a command imports."""
    command = command_of(partial(children.run_and_print_modules, arguments))
    done = subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=60, check=True)
    return set(done.stderr.splitlines()[-1].split())


def require_modules(names: Iterable[str]) -> None:
    """Require that the modules exist: one that was renamed or deleted is never imported, so no test would notice."""
    assert [name for name in names if find_spec(name) is None] == []


@pytest.fixture
def password(egec: Egec) -> str:
    """Return the password of a client whose identifier is 1234567890."""
    egec("client", "create", "jeanne@example.org", "--identifier", "1234567890")
    shown = egec("activate", "1234567890", "--no-mail", "--show-password", "--format", "json")
    return str(json.loads(shown.out)["password"])


@pytest.mark.parametrize("arguments", BUDGETS, ids=" ".join)
def test_a_command_imports_nothing_beyond_its_budget(password: str, arguments: tuple[str, ...]) -> None:
    typed = INPUTS.get(arguments, "{}").format(password)
    assert libraries(modules_after(*arguments, stdin=typed)) & BUDGETS[arguments] == set()


def test_the_budgets_name_modules_that_exist() -> None:
    require_modules(set().union(*BUDGETS.values()) - PERHAPS_NOT_INSTALLED)


def test_help_of_the_root_imports_no_subcommand() -> None:
    loaded = modules_after("--help")
    assert root.__name__ in loaded
    assert not any(
        name.startswith(tuple(package.__name__ for package in (clients, credentials, logins, store))) for name in loaded
    )


def test_no_command_but_completion_loads_what_completes() -> None:
    loaded = modules_after("reissue", "status", "--help")
    assert reissue.__name__ in loaded
    assert not loaded & {module.__name__ for module in (completion, contract)}


def test_the_first_command_on_sqlite_does_not_load_what_postgresql_needs() -> None:
    assert libraries(modules_after("init")) & {"psycopg", "asyncio"} == set()


def test_the_measurement_sees_the_imports_of_a_command() -> None:
    assert {"typer", "random", "egec_cli"} <= libraries(modules_after("password"))
