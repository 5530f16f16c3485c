"""A missing EGEC_MAIL_URL: the default Maildir until the database has had a mail server, then an error."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from egec_cli.context import Context
from egec_cli.credentials import mail_route
from egec_cli.errors import ConfigError
from egec_cli.settings import load
from egec_cli.settings.types import MaildirFolder
from egec_cli.store.models import Installation
from tests.conftest import Egec
from tests.smtp_server import MailServer

COMMANDS = [
    ("activate", "jeanne@example.org"),
    ("activate", "jeanne@example.org", "--revoke"),
    ("client", "create", "new@example.org", "--activate"),
    ("client", "update", "jeanne@example.org", "--email", "other@example.org"),
    ("reissue", "start", "spring", "--all", "--yes"),
    ("reissue", "start", "spring", "--all", "--dry-run"),
    ("reissue", "resume", "winter"),
    ("reissue", "retry", "winter"),
    ("mail", "test", "you@example.org"),
]


@pytest.fixture
def without_url(egec: Egec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Mail through a server once, then unset EGEC_MAIL_URL; return the path that a Maildir would have."""
    with MailServer() as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        assert egec("client", "create", "jeanne@example.org", "--activate").code == 0
        assert egec("reissue", "start", "winter", "--all", "--yes").code == 0
        monkeypatch.delenv("EGEC_MAIL_URL")
        yield tmp_path / "data" / "egec" / "mail"


def content(folder: Path) -> list[list[object]]:
    """Return all rows of the database."""
    with closing(sqlite3.connect(folder / "egec.db")) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [connection.execute(f"SELECT * FROM {name}").fetchall() for name in names]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_missing_url_is_an_error_and_nothing_is_changed(
    egec: Egec, without_url: Path, command: tuple[str, ...]
) -> None:
    before = content(without_url.parent)
    ended = egec(*command)
    assert (ended.code, ended.out) == (78, "")
    assert "EGEC_MAIL_URL is not set" in ended.err
    assert "maildir:PATH" in ended.err
    assert content(without_url.parent) == before
    assert not os.path.exists(without_url)


@pytest.mark.parametrize("command", [COMMANDS[0], COMMANDS[2], COMMANDS[3], COMMANDS[8]], ids=" ".join)
def test_an_explicit_maildir_is_used(
    egec: Egec, without_url: Path, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_MAIL_URL", f"maildir:{tmp_path}/mine")
    assert egec(*command).code == 0
    assert len(list((tmp_path / "mine" / "new").iterdir())) == 1


@pytest.mark.parametrize("command", [("mail", "check"), ("doctor",)])
def test_checks_report_a_missing_url(egec: Egec, without_url: Path, command: tuple[str, ...]) -> None:
    ended = egec(*command, "--format", "json")
    found = {one["check"]: one for one in json.loads(ended.out)}
    assert ended.code == 78
    assert found["mail_server"]["verdict"] == "error"
    assert "EGEC_MAIL_URL is not set" in found["mail_server"]["details"]


def test_commands_without_mail_still_work(egec: Egec, without_url: Path) -> None:
    assert egec("client", "create", "new@example.org").code == 0
    assert egec("client", "update", "jeanne@example.org", "--last-name", "Dupont").code == 0
    assert egec("client", "update", "jeanne@example.org", "--email", "other@example.org", "--no-mail").code == 0
    assert egec("reissue", "status").code == 0
    assert egec("activate", "other@example.org", "--no-mail", "--show-password").code == 0


def test_a_test_mail_records_the_server_too(egec: Egec, monkeypatch: pytest.MonkeyPatch, server: MailServer) -> None:
    egec("init")
    assert egec("mail", "test", "you@example.org").code == 0
    monkeypatch.delenv("EGEC_MAIL_URL")
    assert egec("mail", "test", "you@example.org").code == 78


def test_without_a_server_the_default_folder_is_used_every_time(egec: Egec, tmp_path: Path) -> None:
    assert egec("client", "create", "jeanne@example.org", "--activate").code == 0
    for command in (COMMANDS[0], COMMANDS[8], ("reissue", "start", "spring", "--all", "--yes")):
        assert egec(*command).code == 0
    assert len(list((tmp_path / "data" / "egec" / "mail" / "new").iterdir())) == 4


def test_a_mail_server_is_recorded_once(opened: Context, server: MailServer) -> None:
    folder = opened._replace(settings=opened.settings._replace(mail_server=MaildirFolder(Path("mail"), True)))
    mail_route.require(folder)
    for _ in range(2):
        mail_route.require(opened._replace(settings=load.load_settings()))
    assert [(one.name, bool(one.value)) for one in Installation.select()] == [("mail_server", True)]
    with pytest.raises(ConfigError) as error:
        mail_route.require(folder)
    assert error.value.code == "mail_url_missing"
    mail_route.require(opened._replace(settings=opened.settings._replace(mail_server=MaildirFolder(Path("mail")))))
