"""Commands that log in by OAuth or with the password of a program: checks, activations, runs in which tokens end."""

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from egec_cli.settings.types import Database, Tls
from tests.activations import PATIENCE, letters, opens, wait_until
from tests.conftest import Egec, Ended
from tests.smtp_server import MailServer, Point
from tests.tokens import Tokens, counting_program, number_of_runs, shell_program

PROGRAM = [sys.executable, "-m", "egec_cli"]
CLIENTS = 100


def findings(ended: Ended) -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in json.loads(ended.out)}


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def mail_server(tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    """Start a mail server that EGEC_MAIL_URL names, with a program that prints its tokens."""
    with MailServer(tokens=tokens) as running:
        monkeypatch.setenv("EGEC_MAIL_URL", running.url)
        monkeypatch.setenv("EGEC_MAIL_TOKEN_COMMAND", str(counting_program(tmp_path)))
        yield running


def import_clients(egec: Egec, folder: Path) -> None:
    table = folder / "clients.csv"
    table.write_text("email\n" + "".join(f"c{number}@example.org\n" for number in range(CLIENTS)))
    assert egec("client", "import", str(table)).code == 0


def revoke_at(server: MailServer, tokens: Tokens, *mails: int) -> None:
    """Revoke the tokens used so far each time the server has kept this number of mails."""
    numbers = itertools.count(1)

    def revoke() -> None:
        if next(numbers) in mails:
            tokens.revoke_all()

    server.at(Point.KEPT, revoke)


def require_each_mailed_once(server: MailServer) -> None:
    assert sorted(mail.recipient for mail in server.accepted) == sorted(f"c{n}@example.org" for n in range(CLIENTS))
    assert all(opens(one) for one in letters(server)[:: CLIENTS // 4])


def test_a_run_goes_on_when_the_token_ends_in_the_middle(
    location: Database, egec: Egec, tokens: Tokens, mail_server: MailServer, tmp_path: Path
) -> None:
    import_clients(egec, tmp_path)

    revoke_at(mail_server, tokens, 30, 60)
    ended = egec("reissue", "start", "spring", "--all", "--yes", "--format", "json")
    assert ended.code == 0, ended
    run = json.loads(ended.out)
    assert (run["state"], run["accepted"], run["failed"]) == ("done", CLIENTS, 0)
    require_each_mailed_once(mail_server)
    assert 3 <= number_of_runs(tmp_path) <= 5


@pytest.mark.parametrize("explains", [True, False])
def test_a_run_goes_on_when_new_connections_need_another_token(
    explains: bool, egec: Egec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each token serves for four logins, and the server ends each connection after a few mails.
    tokens = Tokens(uses=4, explains=explains)
    with MailServer(tokens=tokens) as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        monkeypatch.setenv("EGEC_MAIL_TOKEN_COMMAND", str(counting_program(tmp_path)))
        import_clients(egec, tmp_path)
        server.close_after(7)
        ended = egec("reissue", "start", "spring", "--all", "--yes", "--format", "json")
        assert ended.code == 0, ended
        assert json.loads(ended.out)["failed"] == 0
        require_each_mailed_once(server)
        accepted = [login.token for login in tokens.logins if login.is_accepted]
        assert len(accepted) >= CLIENTS // 7
        assert len(set(accepted)) == number_of_runs(tmp_path) >= 3


def test_a_run_whose_new_token_is_refused_too_is_paused_and_nobody_has_failed(
    egec: Egec, tokens: Tokens, mail_server: MailServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_clients(egec, tmp_path)
    ready = tmp_path / "ready"
    program = shell_program(
        tmp_path / "program",
        f"if test -e {ready}; then echo token-2; elif test -e {tmp_path}/first; then echo bad-4711; "
        f"else touch {tmp_path}/first; echo token-1; fi",
    )
    monkeypatch.setenv("EGEC_MAIL_TOKEN_COMMAND", str(program))
    revoke_at(mail_server, tokens, 30)
    paused = egec("reissue", "start", "spring", "--all", "--yes", "--format", "json")
    assert paused.code == 78, paused
    error = json.loads(paused.err.splitlines()[-1])
    assert "refuses the login of 'egec@example.org': 535 5.7.8 The token is not valid" in error["error"]["message"]
    status = json.loads(egec("reissue", "status", "spring", "--format", "json").out)
    assert status["failed"] == 0
    assert status["accepted"] == len(mail_server.accepted) < CLIENTS
    ready.touch()
    assert egec("reissue", "start", "spring", "--all", "--yes").code == 0
    require_each_mailed_once(mail_server)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["activate", "reissue"])
def test_an_interruption_ends_the_program_that_prints_the_token(
    command: str, number: signal.Signals, egec: Egec, mail_server: MailServer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import_clients(egec, tmp_path)
    program = shell_program(tmp_path / "program", f"echo $$ >> {tmp_path}/pids; sleep 60")
    monkeypatch.setenv("EGEC_MAIL_TOKEN_COMMAND", str(program))
    arguments = {"activate": ["c1@example.org"], "reissue": ["start", "spring", "--all", "--yes"]}[command]
    pids = tmp_path / "pids"
    with subprocess.Popen([*PROGRAM, command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"))
        # On a busy machine, the command may not wait for its program yet.
        time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(number)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert time.monotonic() - began < 20
    for line in pids.read_text().splitlines():
        with suppress(FileNotFoundError):
            assert ") Z " in Path(f"/proc/{line}/stat").read_text()
    monkeypatch.setenv("EGEC_MAIL_TOKEN_COMMAND", str(shell_program(tmp_path / "works", "echo token-1")))
    assert egec(command, *arguments).code == 0
    assert len(mail_server.accepted) == (1 if command == "activate" else CLIENTS)


def test_a_command_that_does_not_mail_runs_no_program(egec: Egec, mail_server: MailServer, tmp_path: Path) -> None:
    assert egec("client", "create", "jeanne@example.org").code == 0
    assert egec("client", "list").code == 0
    assert egec("mail", "check", "--no-connection").code == 0
    assert egec("mail", "preview").code == 0
    assert number_of_runs(tmp_path) == 0
    assert egec("mail", "test", "jeanne@example.org").code == 0
    assert number_of_runs(tmp_path) == 1


@pytest.mark.parametrize(("offered", "named"), [(("XOAUTH2", "OAUTHBEARER"), "OAUTHBEARER"), (("XOAUTH2",), "XOAUTH2")])
@pytest.mark.parametrize("command", [("mail", "check"), ("doctor",)])
def test_a_check_logs_in_and_names_the_mechanism(
    command: tuple[str, ...], offered: tuple[str, ...], named: str, egec: Egec, tokens: Tokens,
    mail_server: MailServer, tmp_path: Path,
) -> None:  # fmt: skip
    tokens.mechanisms = offered
    found = findings(egec(*command, "--format", "json"))["mail_server"]
    assert found["verdict"] == "ok"
    assert found["details"] == f"127.0.0.1:{mail_server.port} answers; logged in as egec@example.org by {named}"
    assert [login.mechanism for login in tokens.logins] == [named]
    assert mail_server.accepted == []


def test_a_check_names_the_mechanism_of_a_password_too(egec: Egec, monkeypatch: pytest.MonkeyPatch) -> None:
    with MailServer(tls=Tls.STARTTLS, login=("egec", "secret")) as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        details = findings(egec("mail", "check", "--format", "json"))["mail_server"]["details"]
        assert details.endswith("logged in as egec by PLAIN")


@pytest.mark.parametrize(
    ("commands", "code", "words"),
    [
        ("echo bad-4711", 78, "refuses the login of 'egec@example.org': 535 5.7.8 The token is not valid"),
        ("exit 1", 75, "the program in EGEC_MAIL_TOKEN_COMMAND failed with exit code 1"),
        ("true", 78, "the program in EGEC_MAIL_TOKEN_COMMAND gives an empty first line"),
    ],
)
def test_a_check_reports_a_token_that_does_not_log_in(
    commands: str, code: int, words: str, egec: Egec, mail_server: MailServer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("EGEC_MAIL_TOKEN_COMMAND", str(shell_program(tmp_path / "program", commands)))
    ended = egec("mail", "check", "--format", "json")
    found = findings(ended)["mail_server"]
    assert (ended.code, found["verdict"]) == (code, "error")
    assert words in found["details"]


def test_the_doctor_shows_no_command_and_skips_the_server_if_the_settings_contradict_each_other(
    egec: Egec, mail_server: MailServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = findings(egec("doctor", "--format", "json"))
    assert found["EGEC_MAIL_TOKEN_COMMAND"]["details"] == "(secret) (from the environment)"
    assert found["EGEC_MAIL_TOKEN_FILE"]["details"] == "none (from the default)"
    monkeypatch.setenv("EGEC_MAIL_TOKEN_FILE", "/run/token")
    found = findings(egec("doctor", "--format", "json"))
    assert "are both set" in found["EGEC_MAIL_TOKEN_COMMAND"]["details"]
    assert "mail_server" not in found
