"""What each command may import: start-up time is spent on imports, and none comes back unseen."""

import json
import subprocess
import sys

import pytest

from tests.conftest import Egec

MAIL = {"email", "smtplib", "ssl", "mailbox", "html"}
TABLES = {"rich", "csv"}
NEVER = {
    "pydantic", "psycopg", "psycopg2", "click", "playhouse", "pygments", "markdown_it", "unittest", "asyncio",
    "dkim", "dns",
}  # fmt: skip
SLOW = NEVER | MAIL | TABLES | {"email_validator", "idna", "bcrypt", "secrets"}

BUDGETS: dict[tuple[str, ...], set[str]] = {
    ("--version",): SLOW | {"typer", "peewee", "rich", "dataclasses", "logging"},
    ("client", "list"): SLOW,
    ("client", "list", "--format", "jsonl"): SLOW,
    ("client", "show", "1234567890"): SLOW,
    ("--quiet", "client", "show", "1234567890"): SLOW,
    ("audit", "list"): SLOW,
    ("client", "show", "jeanne@example.org"): SLOW - {"email_validator", "idna"},
    ("verify", "1234567890", "--password-stdin"): (SLOW | {"typer"}) - {"bcrypt"},
    ("password",): SLOW | {"peewee", "sqlite3"},
    ("activate", "1234567890"): NEVER | TABLES,
    ("completion", "bash"): SLOW | {"peewee", "sqlite3"},
    ("completion", "fish", "--", "client", "list", "--format", ""): SLOW,
    ("completion", "fish", "--", "client", ""): SLOW | {"peewee", "sqlite3"},
    ("completion", "fish", "--", "reissue", "resume", ""): SLOW,
    ("reissue", "status"): SLOW,
}


def modules_after(*arguments: str, stdin: str = "") -> set[str]:
    """Return the top-level names of all that a command has imported."""
    script = (
        "import json, sys\nfrom egec_cli.main import run\n"
        f"assert run({list(arguments)!r}) == 0\n"
        "sys.stderr.write('\\n' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, input=stdin, timeout=60)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.fixture
def password(egec: Egec) -> str:
    """Return the password of a client whose identifier is 1234567890."""
    egec("client", "create", "jeanne@example.org", "--identifier", "1234567890")
    shown = egec("activate", "1234567890", "--no-mail", "--show-password", "--format", "json")
    return str(json.loads(shown.out)["password"])


@pytest.mark.parametrize("arguments", BUDGETS, ids=" ".join)
def test_a_command_imports_nothing_beyond_its_budget(password: str, arguments: tuple[str, ...]) -> None:
    assert modules_after(*arguments, stdin=password) & BUDGETS[arguments] == set()


def test_help_of_the_root_imports_no_subcommand() -> None:
    script = (
        "import sys\nfrom egec_cli.main import run\nrun(['--help'])\n"
        "sys.stderr.write('\\n' + ' '.join(name for name in sys.modules if name.startswith('egec_cli.')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    loaded = set(done.stderr.split())
    assert "egec_cli.commands.root" in loaded
    assert not any(name.startswith(("egec_cli.accounts", "egec_cli.store")) for name in loaded)


def test_no_command_but_completion_loads_what_completes() -> None:
    script = (
        "import sys\nfrom egec_cli.main import run\nrun(['reissue', 'status', '--help'])\n"
        "sys.stderr.write('\\n' + ' '.join(name for name in sys.modules if name.startswith('egec_cli.')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    loaded = {name.removeprefix("egec_cli.commands.") for name in done.stderr.split()}
    assert "reissue" in loaded
    assert not loaded & {"completion", "candidates", "contract", "bash_words"}


def test_the_measure_sees_what_a_command_does_import() -> None:
    assert {"typer", "random", "egec_cli"} <= modules_after("password")
