"""`egec activate --stdin`, as a portal calls it: words for the client, exit codes, codes, and the detached work."""

import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from egec_cli import main
from egec_cli.commands import activate_request
from egec_cli.settings.types import Database
from tests import children
from tests.activations import letters, opens, wait_until
from tests.conftest import Egec
from tests.processes import egec_after, replace, run_with, wrap
from tests.smtp_server import Fault, MailServer

SENT = (
    "Un courriel a été envoyé dans votre b-a-l, avec des instructions.\n"
    "La réception peut atteindre 5 min. Vérifiez éventuellement dans vos SPAMs\n"
)
NOT_RECOGNISED = (
    "Identifiant et/ou m-d-p non reconnu(s)\n"
    "Recommencez l\u2019opération, en prenant soin de saisir correctement le courriel.\n"
    "Si le problème persiste, contactez\u00a0: Service IT.\n"
)
UNAVAILABLE = (
    "Le service est momentanément indisponible\u00a0: votre demande n\u2019a pas pu aboutir.\n"
    "Recommencez dans quelques minutes. Si vous recevez un courriel entre-temps, suivez ses instructions.\n"
    "Si le problème persiste, contactez\u00a0: Service IT.\n"
)
NOT_SENT = "Aucun nouveau courriel ne peut vous être envoyé pour le moment.\n"
JEANNE = "jeanne@example.org"


@pytest.fixture
def jeanne(location: Database, egec: Egec, server: MailServer) -> str:
    """Return the identifier of a new client."""
    return egec("client", "create", JEANNE, "--reference", "D-2047", "--format", "ids").out.strip()


@pytest.fixture
def client(egec: Egec, server: MailServer) -> str:
    """Return the identifier of a new client in an SQLite database."""
    return egec("client", "create", JEANNE, "--reference", "D-2047", "--format", "ids").out.strip()


def test_a_portal_requests_a_password_with_blanks_and_capitals(
    jeanne: str, egec_process: Egec, server: MailServer
) -> None:
    ended = egec_process("activate", "--stdin", stdin=" \u00a0JEANNE@example.org\u200b \r\n192.0.2.7\r\n")
    assert (ended.code, ended.out, ended.err) == (0, SENT, "")
    again = egec_process("activate", "--stdin", stdin=JEANNE)
    assert (again.code, again.out) == (0, SENT)
    assert "beyond the limit" in again.err
    [received] = letters(server)
    assert received.identifier == jeanne
    assert opens(received)


@pytest.mark.parametrize(
    "typed",
    ["nobody@example.org", "{id}", "ref:D-2047", "--revoke", f"{JEANNE}\0"],
)
def test_anything_but_the_address_of_a_client_gets_the_refusal_and_the_advice(
    client: str, egec_process: Egec, server: MailServer, typed: str
) -> None:
    ended = egec_process("activate", "--stdin", stdin=typed.format(id=client))
    assert (ended.code, ended.out) == (67, NOT_RECOGNISED)
    assert ended.err.startswith("egec: ")
    assert server.accepted == []


def test_ten_megabytes_are_refused_without_reading_them(client: str, egec_process: Egec) -> None:
    ended = egec_process("activate", "--stdin", stdin=b"x" * 10_000_000)
    assert (ended.code, ended.out) == (67, NOT_RECOGNISED)


def test_a_disabled_client_reads_the_same_as_an_unknown_one(client: str, egec: Egec, egec_process: Egec) -> None:
    egec("client", "disable", client, "--reason", "left")
    ended = egec_process("activate", "--stdin", stdin=JEANNE)
    assert (ended.code, ended.out) == (77, NOT_RECOGNISED)


def test_a_client_learns_that_the_mail_server_is_down_and_may_try_again(
    jeanne: str, egec_process: Egec, server: MailServer
) -> None:
    away = {"EGEC_MAIL_URL": "smtp://127.0.0.1:1?tls=none"}
    for _ in range(2):
        ended = egec_process("activate", "--stdin", "--format", "json", stdin=JEANNE, env=away)
        assert (ended.code, json.loads(ended.out)["text"] + "\n") == (75, UNAVAILABLE)
        assert json.loads(ended.err)["error"]["code"] == "mail_server_unavailable"
    assert egec_process("activate", "--stdin", stdin=JEANNE).code == 0
    assert len(server.accepted) == 1


def test_an_address_that_the_mail_server_refuses_gets_words_of_its_own(
    client: str, egec_process: Egec, server: MailServer
) -> None:
    server.fail_always(Fault.RCPT_550_USER_UNKNOWN)
    ended = egec_process("activate", "--stdin", stdin=JEANNE)
    assert (ended.code, ended.out[: len(NOT_SENT)]) == (65, NOT_SENT)


@pytest.mark.parametrize(
    ("variables", "code", "support"),
    [
        ({"EGEC_DATABASE_URL": "sqlite:///missing.db"}, 78, "Service IT"),
        ({"EGEC_DATABASE_URL": "sqlite:///missing.db", "EGEC_REQUEST_DISCLOSES": "no"}, 78, "Service IT"),
        ({"EGEC_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none?sslmode=disable"}, 75, "Service IT"),
        ({"EGEC_LANGUAGE": "de", "EGEC_SUPPORT": "Le bureau 7"}, 78, "Le bureau 7"),
        ({"EGEC_ENV_FILE": "missing.env"}, 78, "Service IT"),
        ({"EGEC_TEMPLATES": "missing"}, 78, "Service IT"),
    ],
    ids=["no database", "no database, undisclosed", "no server", "wrong setting", "no settings", "no templates"],
)
def test_whatever_fails_the_client_gets_words(
    client: str, egec_process: Egec, variables: dict[str, str], code: int, support: str
) -> None:
    ended = egec_process("activate", "--stdin", stdin=JEANNE, env=variables)
    assert (ended.code, ended.out) == (code, UNAVAILABLE.replace("Service IT", support))


def test_broken_templates_are_replaced_by_the_built_in_ones(client: str, egec_process: Egec) -> None:
    Path("own").mkdir()
    for name in ("unavailable", "sent", "refused", "try-again"):
        Path(f"own/{name}.fr.txt").write_text("$nonsense")
    own = {"EGEC_TEMPLATES": "own"}
    for typed, code, text in ((JEANNE, 78, UNAVAILABLE), ("nobody@example.org", 67, NOT_RECOGNISED)):
        ended = egec_process("activate", "--stdin", stdin=typed, env=own)
        assert (ended.code, ended.out) == (code, text)


def test_an_internal_error_has_words_too(client: str) -> None:
    ended = run_with(
        [replace(activate_request, "parse_request", partial(children.fail_with, "secret"))],
        "activate", "--stdin", stdin=JEANNE,
    )  # fmt: skip
    assert (ended.code, ended.out) == (70, UNAVAILABLE)
    assert "secret" not in ended.err


@pytest.mark.parametrize("more", ["portal.example.org\n", "192.0.2.7\n192.0.2.8\n"])
def test_an_origin_that_is_no_address_is_reported_to_the_operator(client: str, egec_process: Egec, more: str) -> None:
    ended = egec_process("activate", "--stdin", "--format", "json", stdin=f"{JEANNE}\n{more}")
    assert (ended.code, json.loads(ended.out)["answer"]) == (65, "unavailable")
    assert json.loads(ended.err)["error"]["code"] == "invalid_origin"


def test_json_has_the_kind_of_the_answer_its_reason_and_its_words(client: str, egec_process: Egec) -> None:
    ended = [egec_process("activate", "--stdin", "--format", "json", stdin=JEANNE) for _ in range(2)]
    assert [json.loads(one.out) for one in ended] == [
        {"answer": "sent", "reason": reason, "text": SENT.rstrip()} for reason in ("accepted", "client_limited")
    ]


@pytest.mark.parametrize(
    "more", [["x@example.org"], ["--revoke"], ["--relay"], ["--match"], ["--no-mail", "--show-password"]], ids=" ".join
)
def test_no_other_option_goes_with_standard_input(egec: Egec, more: list[str]) -> None:
    ended = egec("activate", "--stdin", *more)
    assert (ended.code, ended.out) == (2, "")


def test_without_a_client_and_without_standard_input_the_command_line_is_wrong(egec: Egec) -> None:
    ended = egec("activate")
    assert ended.code == 2
    assert "--stdin" in ended.err


# Undisclosed: the answer leaves before the work.


@pytest.fixture
def undisclosed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGEC_REQUEST_DISCLOSES", "no")


def outcomes(egec: Egec) -> list[str]:
    """Return the outcomes of the requests so far, with their reasons."""
    events = egec("audit", "list", "--action", "client.request", "--format", "jsonl").out.splitlines()
    return [f"{event['outcome']} {event['details'].get('reason', '')}".strip() for event in map(json.loads, events)]


@pytest.mark.usefixtures("undisclosed")
def test_everybody_gets_the_same_answer_and_the_work_is_done_afterwards(
    jeanne: str, egec: Egec, egec_process: Egec, server: MailServer
) -> None:
    egec("client", "create", "marc@example.org", "--language", "en")
    egec("client", "disable", "marc@example.org", "--reason", "left")
    typed = [JEANNE, JEANNE, "nobody@example.org", "marc@example.org"]
    for number, email in enumerate(typed, 1):
        ended = egec_process("activate", "--stdin", stdin=f"{email}\n192.0.2.{number}")
        assert (ended.code, ended.out, ended.err) == (0, SENT, "")
        wait_until(lambda number=number: len(outcomes(egec)) == number)  # type: ignore[misc]
    assert outcomes(egec) == [
        "accepted", "limited client_limited", "refused unknown_client", "refused client_disabled",
    ]  # fmt: skip
    [received] = letters(server)
    assert opens(received)


@pytest.mark.usefixtures("undisclosed")
def test_the_answer_does_not_wait_for_the_mail_server_and_no_pipe_stays_open(
    client: str, egec: Egec, server: MailServer
) -> None:
    server.fail_always(Fault.SILENT_AT_MAIL)
    process = subprocess.run(
        [sys.executable, "-m", "egec_cli", "activate", "--stdin"],
        input=JEANNE.encode(), capture_output=True, timeout=20, env={**os.environ, "EGEC_MAIL_TIMEOUT": "1"},
    )  # fmt: skip
    assert process.stdout.decode() == SENT
    wait_until(lambda: outcomes(egec) == ["failed"])


@pytest.mark.usefixtures("undisclosed")
def test_what_is_not_an_address_is_refused_as_it_tells_nothing_about_clients(client: str, egec_process: Egec) -> None:
    assert egec_process("activate", "--stdin", stdin="jeanne@example").out == NOT_RECOGNISED


@pytest.mark.usefixtures("undisclosed")
def test_the_work_runs_in_a_session_of_its_own_without_the_callers_files_and_leaves_nothing(
    client: str, tmp_path: Path
) -> None:
    report = tmp_path / "report"
    look = wrap(activate_request, "_process_unseen", partial(children.report_surroundings, report))
    with (tmp_path / "kept open").open("w") as kept:
        os.set_inheritable(kept.fileno(), True)
        done = subprocess.run(
            [*egec_after(look), "activate", "--stdin"], input=JEANNE.encode(), capture_output=True, close_fds=False,
        )  # fmt: skip
    assert done.stdout.decode() == SENT
    wait_until(lambda: report.exists() and report.read_text().endswith("\n"))
    found = json.loads(report.read_text())
    assert found["session"] == found["process"]
    assert found["files"] == ["/dev/null"] * 3
    assert (found["umask"], found["folder"]) == (0o77, "/")
    assert found["core"] in (0, 1)
    assert report.stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("undisclosed")
def test_a_system_without_room_for_a_process_gets_the_words_for_a_failure(client: str) -> None:
    ended = run_with([replace(os, "fork", partial(children.fail_with_system_error, 11, "no room", ""))],
                     "activate", "--stdin", stdin=JEANNE)  # fmt: skip
    assert (ended.code, ended.out) == (75, UNAVAILABLE)


def test_a_request_is_counted_before_a_hash_is_started() -> None:
    assert main._start_hash(["activate", "--stdin"]) is None


def test_the_words_have_french_typography() -> None:
    for path in (Path(activate_request.__file__).parents[2] / "templates").glob("*.fr.txt"):
        text = path.read_text(encoding="utf-8")
        assert re.search(r"[ \w][;:?!](\s|$)", text.partition("\n\n")[2] if "Subject" in text else text) is None, path


@pytest.mark.parametrize(
    "command",
    [
        ("activate", "--stdin"),
        ("activate", JEANNE),
        ("activate", JEANNE, "--no-mail", "--show-password"),
        ("client", "create", "marc@example.org", "--activate"),
        ("client", "update", JEANNE, "--last-name", "Durand"),
        ("client", "disable", JEANNE, "--reason", "left"),
        ("client", "erase", JEANNE, "--yes"),
        ("verify", "--stdin"),
        ("audit", "prune", "--older-than", "2999-01-01", "--yes"),
    ],
    ids=" ".join,
)
def test_a_format_for_lists_is_refused_before_anything_changes(
    client: str, egec: Egec, egec_process: Egec, server: MailServer, command: tuple[str, ...]
) -> None:
    def state() -> str:
        return egec("client", "list", "--format", "json").out + egec("audit", "list", "--format", "json").out

    before = state()
    ended = egec_process(*command, "--format", "count", stdin=JEANNE)
    assert (ended.code, ended.out) == (2, "")
    assert "--format count is for lists" in ended.err
    assert server.accepted == []
    assert state() == before
