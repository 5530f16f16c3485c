"""Signed mails as a real mail server gets them, from each command that sends some; the key stays secret."""

import json
import re
from pathlib import Path

import pytest

from egec_cli.settings.types import LANGUAGES
from tests import dkim_keys
from tests.conftest import Egec
from tests.smtp_server import MailServer


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the settings name a key in a file, as a secret should be; return it."""
    path = tmp_path / "dkim.pem"
    path.write_text(dkim_keys.pem())
    path.chmod(0o600)
    monkeypatch.setenv("EGEC_DKIM_KEY_FILE", str(path))
    monkeypatch.setenv("EGEC_DKIM_SELECTOR", dkim_keys.SELECTOR)
    return dkim_keys.pem()


def published(egec: Egec) -> dict[str, str]:
    """Return what an administrator puts into the DNS who reads `egec mail check`."""
    found = json.loads(egec("mail", "check", "--no-connection", "--format", "json").out)
    [detail] = [row["details"] for row in found if row["check"] == "dkim_record"]
    return dkim_keys.zone(detail)


def require_verified(egec: Egec, server: MailServer, mails: int) -> None:
    """Require that a receiver verifies this number of mails with the published record."""
    records = published(egec)
    assert list(records) == ["mail2026._domainkey.egec.pro."]
    assert len(server.accepted) == mails
    for kept in server.accepted:
        assert kept.content.count(b"DKIM-Signature:") == 1
        assert dkim_keys.is_verified(kept.content, records)
        assert not dkim_keys.is_verified(kept.content, dict.fromkeys(records, "v=DKIM1; p="))


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_activation_and_the_note_to_a_previous_address_are_signed(
    egec: Egec, server: MailServer, language: str
) -> None:
    name = ("--civility", "Mme", "--last-name", "Élouard", "--language", language)
    assert egec("client", "create", "jeanne@example.org", *name, "--activate").code == 0
    assert egec("activate", "jeanne@example.org").code == 0
    assert egec("client", "update", "jeanne@example.org", "--email", "j@example.org").code == 0
    require_verified(egec, server, mails=3)


def test_every_mail_of_a_run_is_signed_in_each_language(egec: Egec, server: MailServer) -> None:
    for number in range(24):
        address = f"client{number}@example.org" if number % 8 else f"né{number}@example.org"
        # One who has no name is mailed by another path, as is one with letters beyond ASCII in the address.
        egec("client", "create", address, "--last-name", "É" * (number % 3), "--language", LANGUAGES[number % 2])
    assert egec("reissue", "start", "spring", "--all", "--yes").code == 0
    require_verified(egec, server, mails=24)
    assert {b"bonjour" in kept.content.lower() for kept in server.accepted} == {True, False}


def test_a_test_mail_is_signed(egec: Egec, server: MailServer) -> None:
    assert egec("mail", "test", "you@example.org").code == 0
    require_verified(egec, server, mails=1)


def test_the_mail_in_a_maildir_is_signed(egec: Egec, tmp_path: Path) -> None:
    assert egec("client", "create", "jeanne@example.org", "--activate").code == 0
    [mail] = (tmp_path / "data" / "egec" / "mail" / "new").iterdir()
    assert dkim_keys.is_verified(mail.read_bytes(), published(egec))


FAULTS = {
    "no PEM": ("secret-of-the-key", "must be a private key in PEM form"),
    "no RSA": ("-----BEGIN PRIVATE KEY-----\nsecretAA\n-----END PRIVATE KEY-----", "is not an RSA key"),
    "encrypted": (
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nsecretAA\n-----END ENCRYPTED PRIVATE KEY-----",
        "is encrypted",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    "command", [("activate", "jeanne@example.org"), ("reissue", "start", "spring", "--all", "--yes")], ids=" ".join
)
def test_a_key_that_cannot_sign_stops_a_command_before_its_first_mail(
    egec: Egec, server: MailServer, key: str, command: tuple[str, ...], fault: str
) -> None:
    assert egec("client", "create", "jeanne@example.org").code == 0
    private, words = FAULTS[fault]
    Path("dkim.pem").write_text(private)
    ended = egec(*command)
    assert ended.code == 78
    assert words in ended.err
    assert "secret" not in ended.out + ended.err
    assert server.accepted == []
    Path("dkim.pem").write_text(key)
    assert egec(*command).code == 0
    require_verified(egec, server, mails=1)


def test_a_change_of_address_holds_if_the_note_cannot_be_signed(egec: Egec, server: MailServer) -> None:
    egec("client", "create", "jeanne@example.org", "--activate")
    Path("dkim.pem").write_text(FAULTS["no RSA"][0])
    ended = egec("client", "update", "jeanne@example.org", "--email", "j@example.org")
    assert ended.code == 3
    assert (
        "the client was changed, but the notice to jeanne@example.org may not have arrived: the key in EGEC_DKIM_KEY"
        in ended.err
    )
    assert egec("client", "show", "j@example.org").code == 0
    assert len(server.accepted) == 1
    [event] = json.loads(egec("audit", "list", "--action", "client.notice", "--format", "json").out)
    assert event["outcome"] == "refused"


def test_doctor_and_mail_check_report_the_same_about_the_key(egec: Egec, server: MailServer) -> None:
    told = []
    for command in (("mail", "check"), ("doctor",)):
        found = json.loads(egec(*command, "--format", "json").out)
        told.append([row for row in found if row["check"].startswith("dkim")])
    assert told[0] == told[1]
    assert [(row["check"], row["verdict"]) for row in told[0]] == [("dkim_signature", "ok"), ("dkim_record", "ok")]
    assert server.accepted == []


def test_a_weak_key_is_a_warning_and_an_invalid_one_a_fault(egec: Egec) -> None:
    for private, verdict in ((dkim_keys.pem(1024), "warning"), (FAULTS["no RSA"][0], "error")):
        Path("dkim.pem").write_text(private)
        for command in (("mail", "check", "--no-connection"), ("doctor",)):
            found = json.loads(egec(*command, "--format", "json").out)
            [row] = [row for row in found if row["check"] == "dkim_signature"]
            assert row["verdict"] == verdict
            assert row["fix"]


def test_the_key_appears_nowhere(egec_process: Egec, server: MailServer, tmp_path: Path, key: str) -> None:
    egec_process("client", "create", "jeanne@example.org")
    told = ""
    for command in (
        ("--verbose", "activate", "jeanne@example.org"),
        ("reissue", "start", "spring", "--all", "--yes"),
        ("mail", "check"),
        ("mail", "test", "you@example.org"),
        ("mail", "preview"),
        ("doctor",),
        ("audit", "list", "--format", "jsonl"),
    ):
        ended = egec_process(*command, env={"EGEC_LOG": "json"})
        assert ended.code in {0, 3}, ended
        told += ended.out + ended.err
    stored = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "dkim.pem"]
    everywhere = told.encode() + b"".join(path.read_bytes() for path in stored)
    everywhere += b"".join(kept.content for kept in server.accepted)
    secret_lines = key.splitlines()[10:-1]
    assert len(secret_lines) > 10
    for line in secret_lines:
        assert re.sub("=*$", "", line).encode() not in everywhere
