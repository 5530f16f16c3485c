"""`egec client disable --notify`: what an operator types, sees and can interrupt."""

import json
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from egec_cli import clock
from egec_cli.context import open_context
from egec_cli.settings import load
from egec_cli.settings.types import Database
from egec_cli.store.models import Client, Event
from tests.activations import PATIENCE, require_intact
from tests.commands.test_client_listing import at_terminal
from tests.conftest import Egec
from tests.smtp_server import Fault, MailServer, Point

NEVER_USED = ("--never-logged-in", "--created-before", "2y")
UNUSED = ("client", "disable", *NEVER_USED, "--reason", "never used", "--notify", "30d")


@pytest.fixture
def clients(location: Database, egec: Egec) -> list[str]:
    """Create six clients, and return their addresses."""
    addresses = [f"c{number}@example.org" for number in range(6)]
    for address in addresses:
        assert egec("client", "create", address).code == 0
    age_clients()
    return addresses


def age_clients() -> None:
    """Let all clients be older than two years."""
    with open_context(load.load_settings()):
        Client.update(created_at=clock.now() - timedelta(days=800)).execute()


def recipients(server: MailServer) -> list[str]:
    return [mail.recipient for mail in server.accepted]


def told() -> int:
    with open_context(load.load_settings()):
        return Client.select().where(Client.closing_notified_at.is_null(False)).count()


def age_notices(days: int) -> None:
    """Let all notices be older by some days."""
    with open_context(load.load_settings()):
        for client in Client.select():
            if client.closing_notified_at is not None:
                client.closing_notified_at -= timedelta(days=days)
                client.save()


def test_a_run_notifies_and_a_later_one_disables(egec: Egec, server: MailServer, clients: list[str]) -> None:
    ended = egec(*UNUSED, "--yes", "--format", "json")
    assert (ended.code, ended.err) == (0, "egec: 6 notified\n")
    rows = json.loads(ended.out)
    assert {row["outcome"] for row in rows} == {"notified"}
    assert sorted(recipients(server)) == clients
    ended = egec(*UNUSED, "--yes")
    assert (ended.code, ended.err) == (0, "egec: no client to change\n")
    age_notices(32)
    egec("client", "create", "new@example.org")
    age_clients()
    egec("client", "create", "yesterday@example.org")
    ended = egec(*UNUSED, "--yes", "--format", "jsonl")
    assert (ended.code, ended.err) == (0, "egec: 6 disabled, 1 notified\n")
    assert [json.loads(line)["outcome"] for line in ended.out.splitlines()] == ["disabled"] * 6 + ["notified"]
    shown = json.loads(egec("client", "show", clients[0], "--format", "json").out)
    assert (shown["status"], shown["closing_notified_at"]) == ("disabled", None)
    assert [entry["action"] for entry in shown["history"]][-2:] == ["client.closing", "client.disable"]
    assert shown["history"][-1]["details"]["reason"] == "never used"


def test_a_client_is_shown_with_the_notice(egec: Egec, server: MailServer, clients: list[str]) -> None:
    assert json.loads(egec("client", "show", clients[0], "--format", "json").out)["closing_notified_at"] is None
    egec(*UNUSED, "--yes")
    shown = json.loads(egec("client", "show", clients[0], "--format", "json").out)
    assert shown["closing_notified_at"] < shown["history"][-1]["at"]
    assert f"closing_notified_at  {shown['closing_notified_at']}" in egec("client", "show", clients[0]).out
    egec("client", "update", clients[0], "--email", "new@example.org")
    assert json.loads(egec("client", "show", "new@example.org", "--format", "json").out)["closing_notified_at"] is None


def test_a_dry_run_says_how_many_would_be_notified_and_disabled(
    egec: Egec, server: MailServer, clients: list[str], tmp_path: Path
) -> None:
    (tmp_path / "some.txt").write_text("\n".join(clients[:2]))
    assert egec(*UNUSED, "--from", "some.txt").code == 0
    age_notices(32)
    ended = egec(*UNUSED, "--dry-run")
    assert ended.code == 0
    summary = "egec: 2 clients would be disabled, 4 clients would be notified; nothing was changed"
    assert ended.err.splitlines()[1:] == [summary]
    # A notice does not change a client, so it is not counted as a change.
    assert "would be changed" not in ended.err
    counted = egec(*UNUSED, "--dry-run", "--format", "count")
    assert (counted.out, counted.err.splitlines()[-1]) == ("6\n", summary)
    assert egec(*UNUSED, "--dry-run", "--limit", "3").err.splitlines()[-1] == (
        "egec: 2 clients would be disabled, 1 client would be notified; nothing was changed"
    )
    assert len(server.accepted) == 2
    ended = egec(*UNUSED, "--expect", "5")
    assert (ended.code, len(server.accepted), told()) == (65, 2, 2)
    ended = egec(*UNUSED, "--expect", "6")
    assert (ended.code, ended.err) == (0, "egec: 2 disabled, 4 notified\n")


def test_a_terminal_asks_with_the_numbers_of_disablings_and_of_notices(
    egec: Egec, server: MailServer, clients: list[str], tmp_path: Path
) -> None:
    (tmp_path / "some.txt").write_text("\n".join(clients[:2]))
    assert egec(*UNUSED, "--from", "some.txt").code == 0
    age_notices(32)
    code, seen = at_terminal(*UNUSED, typed=b"n\n")
    assert (code, "Disable 2 clients and notify 4 clients? [y/N]:" in seen) == (1, True)
    code, seen = at_terminal(*UNUSED, "--limit", "3", typed=b"y\n")
    assert (code, "Disable 2 clients and notify 1 client? [y/N]:" in seen) == (0, True)
    assert "2 disabled, 1 notified" in seen


def test_selectors_that_match_nobody_are_told_apart_from_clients_who_wait(
    egec: Egec, server: MailServer, clients: list[str]
) -> None:
    nobody = (*UNUSED, "--email-domain", "nobody.example.org")
    assert egec(*nobody, "--yes").err == (
        "egec: no client matches: created more than 2 years ago; e-mail at nobody.example.org; never logged in\n"
    )
    assert egec(*nobody, "--dry-run").err.splitlines()[1:] == ["egec: no client matches; nothing was changed"]
    assert egec(*UNUSED, "--yes").code == 0
    assert egec(*UNUSED, "--yes").err == "egec: no client to change\n"
    assert egec(*UNUSED, "--dry-run").err.splitlines()[1:] == [
        "egec: 0 clients would be disabled, 0 clients would be notified; nothing was changed"
    ]


def test_a_list_names_the_clients_and_an_unknown_line_is_reported(
    egec: Egec, server: MailServer, clients: list[str], tmp_path: Path
) -> None:
    (tmp_path / "some.txt").write_text("nobody@example.org\nc3@example.org\n")
    ended = egec(*UNUSED, "--from", "some.txt", "--format", "json")
    assert ended.code == 3
    assert "egec: some.txt:1: unknown client 'nobody@example.org'" in ended.err
    assert [(row["outcome"], row["line"]) for row in json.loads(ended.out)] == [("notified", 2)]
    assert recipients(server) == ["c3@example.org"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("c1@example.org", "--notify", "30d"), 2, "--notify is for many clients"),
        (("--all", "--notify", "2027-01-01", "--yes"), 2, "invalid period of notice: '2027-01-01'"),
        (("--notify", "30d", "--yes"), 2, "no client is selected"),
        ((*NEVER_USED, "--notify", "30d"), 2, "confirmation needs a terminal"),
        (("--never-logged-in", "--notify", "30d", "--yes"), 2, "Add --last-login-before 2y, or --never-logged-in --cr"),
        (
            ("--never-logged-in", "--from", "some.txt", "--notify", "30d"),
            2,
            "or --never-logged-in with --created-before",
        ),
        (("--all", "--notify", "30d", "--yes"), 2, "Add --last-login-before 2y, or --never-logged-in"),
        (("--created-before", "2y", "--notify", "30d", "--yes"), 2, "--notify needs --last-login-before, or"),
        (("--status", "active", "--notify", "30d", "--dry-run"), 2, "--notify needs --last-login-before, or"),
        (("--from", "some.txt", "--notify", "30d"), 2, "--notify needs --last-login-before, or"),
    ],
)
def test_a_wrong_command_line_sends_nothing(
    egec: Egec, server: MailServer, clients: list[str], arguments: tuple[str, ...], code: int, says: str
) -> None:
    ended = egec("client", "disable", "--reason", "x", *arguments)
    assert ended.code == code
    assert says in ended.err
    assert (server.connections, told()) == (0, 0)


def test_a_refused_address_is_reported_and_counts_and_the_command_succeeds(
    egec: Egec, server: MailServer, clients: list[str]
) -> None:
    server.fail_always(Fault.RCPT_550_USER_UNKNOWN, recipient=clients[2])
    ended = egec(*UNUSED, "--yes", "--format", "json")
    assert ended.code == 0
    assert ended.err.splitlines() == [
        "egec: 6 notified",
        "egec: the notices of 1 client may not have arrived; they count nevertheless",
        "      See `egec audit list --action client.closing`.",
    ]
    assert json.loads(ended.out)[2]["failure"] == "mail_refused"


def test_a_server_that_refuses_everybody_ends_the_command_with_75(
    egec: Egec, server: MailServer, clients: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egec_cli.clients.closing.FIRST_PAUSE", 0.001)
    server.fail_always(Fault.RCPT_550_POLICY)
    ended = egec(*UNUSED, "--yes", "--format", "json")
    assert ended.code == 75
    assert "egec: 5 failed, 1 postponed" in ended.err
    error = json.loads(ended.err.splitlines()[-1])["error"]
    assert error["code"] == "mail_server_refuses"
    assert "clients not notified yet: 6" in error["message"]
    assert "run the same command again" in error["hint"]
    assert [row["outcome"] for row in json.loads(ended.out)] == ["failed"] * 5
    assert told() == 0


def test_a_used_up_quota_ends_the_command_with_75_and_the_number_of_those_left(
    egec: Egec, server: MailServer, clients: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_MAIL_RATE", "4/d")
    monkeypatch.setenv("EGEC_MAIL_RESERVE", "0")
    ended = egec(*UNUSED, "--yes")
    assert ended.code == 75
    assert "egec: 4 notified, 2 postponed" in ended.err
    assert "the quota 4/d allows no mail before" in ended.err
    assert "clients not notified yet: 2" in ended.err
    assert "Run the same command again at that time: it continues." in ended.err
    monkeypatch.setenv("EGEC_MAIL_RATE", "6/d")
    ended = egec(*UNUSED, "--yes")
    assert (ended.code, ended.err) == (0, "egec: 2 notified\n")
    assert sorted(recipients(server)) == clients


def test_a_missing_mail_server_is_refused_before_anything_is_changed(
    egec: Egec, server: MailServer, clients: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    egec("activate", clients[0])
    monkeypatch.delenv("EGEC_MAIL_URL")
    assert egec(*UNUSED, "--yes").code == 78
    assert told() == 0


# --- interruptions ---


def strike(server: MailServer, number: signal.Signals, point: Point, mail: int) -> tuple[int, str]:
    """Run the command as a process, and send it a signal when its third mail, say, reaches the point."""
    victim: Future[subprocess.Popen[bytes]] = Future()
    reached = 0

    def hit() -> None:
        nonlocal reached
        reached += 1
        if reached == mail:
            process = victim.result(PATIENCE)
            process.send_signal(number)
            if number is signal.SIGKILL:
                process.wait(PATIENCE)

    server.at(point, hit)
    command = [sys.executable, "-m", "egec_cli", *UNUSED, "--yes"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        victim.set_result(process)
        _, err = process.communicate(timeout=PATIENCE)
    server.wait_until_quiet()
    return process.returncode, err.decode()


@pytest.mark.parametrize("point", [Point.RCPT, Point.MESSAGE, Point.KEPT])
def test_after_a_kill_the_same_command_goes_on_and_at_most_one_mail_goes_twice(
    location: Database, egec: Egec, server: MailServer, clients: list[str], point: Point
) -> None:
    assert strike(server, signal.SIGKILL, point, mail=3)[0] == -signal.SIGKILL
    require_intact(location)
    assert told() == 2
    kept = 2 if point is Point.RCPT else 3
    assert len(server.accepted) == kept
    ended = egec(*UNUSED, "--yes")
    assert (ended.code, ended.err) == (0, "egec: 4 notified\n")
    assert sorted(recipients(server)) == sorted([*clients, *([clients[2]] if kept == 3 else [])])
    assert egec(*UNUSED, "--yes").err == "egec: no client to change\n"


def test_sigterm_lets_the_mail_under_way_end_and_sends_no_more(
    egec: Egec, server: MailServer, clients: list[str]
) -> None:
    code, err = strike(server, signal.SIGTERM, Point.KEPT, mail=3)
    assert code == 143
    assert "3 notified, 3 postponed" in err
    assert (told(), len(server.accepted)) == (3, 3)
    assert egec(*UNUSED, "--yes").err == "egec: 3 notified\n"
    assert sorted(recipients(server)) == clients


def test_a_stop_leaves_the_clients_after_the_present_batch_alone(
    egec: Egec, server: MailServer, clients: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egec_cli.clients.bulk._CHANGED_AT_A_TIME", 2)
    with open_context(load.load_settings()):
        told_long_ago = Client.select().where(Client.email == clients[-1]).get()
        told_long_ago.closing_notified_at = clock.now() - timedelta(days=40)
        told_long_ago.save()
    server.at(Point.KEPT, lambda: signal.raise_signal(signal.SIGINT))
    ended = egec(*UNUSED, "--yes", "--format", "jsonl")
    assert [json.loads(line)["outcome"] for line in ended.out.splitlines()] == ["notified"]
    # All who are left are counted, not only those of the batch, and none of them is a result.
    assert ended.err.splitlines()[0] == "egec: 1 notified, 5 postponed"
    with open_context(load.load_settings()):
        assert Client.get_by_id(told_long_ago.id).disabled_at is None


@pytest.mark.parametrize(
    ("options", "left"), [(("--limit", "3", "--yes"), 2), (("--limit", "1", "--yes"), 0), (("--expect", "6"), 4)]
)
def test_the_clients_whom_a_signal_left_are_one_number(
    egec: Egec, server: MailServer, clients: list[str], monkeypatch: pytest.MonkeyPatch, options: tuple[str], left: int
) -> None:
    monkeypatch.setattr("egec_cli.clients.bulk._CHANGED_AT_A_TIME", 2)
    answered = 0

    def interrupt() -> None:
        nonlocal answered
        answered += 1
        if answered == (2 if "--expect" in options else 1):
            signal.raise_signal(signal.SIGINT)

    server.at(Point.KEPT, interrupt)
    ended = egec(*UNUSED, *options)
    assert "postponed" not in ended.out
    done = len(server.accepted)
    number = f"{done} notified, {left} postponed" if left else f"{done} notified"
    assert ended.err.splitlines()[0] == f"egec: {number}"


def test_after_a_signal_those_who_were_notified_long_after_the_start_do_not_count_as_left(
    egec: Egec, server: MailServer, clients: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the command had run for longer than clocks may differ.
    monkeypatch.setattr("egec_cli.clock.TOLERANCE", timedelta(0))
    server.at(Point.KEPT, lambda: signal.raise_signal(signal.SIGINT))
    assert egec(*UNUSED, "--yes").err.splitlines()[0] == "egec: 1 notified, 5 postponed"


def test_clients_whom_a_quota_left_are_one_number(
    egec: Egec, server: MailServer, clients: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_MAIL_RATE", "2/d")
    monkeypatch.setenv("EGEC_MAIL_RESERVE", "0")
    ended = egec(*UNUSED, "--yes", "--format", "csv")
    assert ended.code == 75
    assert ended.out.count("notified") == len(ended.out.splitlines()) - 1 == 2
    assert ended.err.splitlines()[0] == "egec: 2 notified, 4 postponed"


def test_two_commands_at_once_notify_each_client_once(
    egec_process: Egec, server: MailServer, clients: list[str]
) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: egec_process(*UNUSED, "--yes"), range(2)))
    # A client that the other command is mailing at this moment is left to it.
    assert {ended.code for ended in both} <= {0, 3}
    assert sorted(recipients(server)) == clients
    with open_context(load.load_settings()):
        assert Event.select().where(Event.action == "client.closing").count() == 6
