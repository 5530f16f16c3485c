"""`egec client`: create, show, list."""

import csv
import io
import json
import os
import subprocess
import sys

import pytest

from tests.conftest import Egec
from tests.smtp_server import Fault, MailServer, Point

KEYS = [
    "identifier", "email", "reference", "civility", "first_name", "last_name", "language", "status",
    "last_sequence", "last_login_at", "created_at", "valid_from", "valid_until",
]  # fmt: skip
JEANNE = ("client", "create", "jeanne@example.org", "--civility", "Mme", "--last-name", "Dupont")


def records(egec: Egec, *options: str) -> list[dict[str, object]]:
    ended = egec("client", "list", "--format", "json", *options)
    assert ended.code == 0, ended.err
    rows: list[dict[str, object]] = json.loads(ended.out)
    return rows


def test_create_makes_the_database_and_shows_the_client(egec: Egec) -> None:
    created = egec(*JEANNE, "--format", "json")
    assert created.code == 0
    record = json.loads(created.out)
    assert list(record) == KEYS
    assert record["status"] == "new"
    assert "created the database" in created.err
    shown = json.loads(egec("client", "show", "jeanne@example.org", "--format", "json").out)
    assert shown.pop("history")[0]["action"] == "client.create"
    assert shown == record | {
        "failed_logins": 0,
        "blocked_until": None,
        "failure_origins": 0,
        "email_bounced_at": None,
        "closing_notified_at": None,
        "mails": [],
    }


@pytest.mark.parametrize("same", ["jeanne@example.org", "JEANNE@Example.ORG", " jeanne@example.org "])
def test_a_second_client_with_the_same_email_in_any_form_is_refused_with_the_first(egec: Egec, same: str) -> None:
    identifier = json.loads(egec(*JEANNE, "--format", "json").out)["identifier"]
    again = egec("client", "create", same)
    assert again.code == 73
    assert identifier in again.err
    assert len(records(egec)) == 1


def test_an_email_is_the_same_in_unicode_and_idna_and_with_accents_in_any_form(egec: Egec) -> None:
    assert egec("client", "create", "n\u00e9e@caf\u00e9.example.org").code == 0
    assert egec("client", "create", "ne\u0301e@xn--caf-dma.example.org").code == 73


def test_if_missing_shows_the_existing_client_and_changes_nothing(egec: Egec) -> None:
    first = json.loads(egec(*JEANNE, "--format", "json").out)
    again = egec("client", "create", "jeanne@example.org", "--last-name", "Durand", "--if-missing", "--format", "json")
    assert again.code == 0
    assert json.loads(again.out) == first


def test_if_missing_names_each_field_that_differs_from_the_existing_client(egec: Egec) -> None:
    assert egec("init").code == 0
    create = ("client", "create", "jeanne@example.org", "--identifier", "1234567890", "--format", "ids")
    stored = ("--last-name", "Dupont", "--civility", "Madame", "--language", "fr")
    assert egec(*create, *stored).err == ""
    # The same value in another spelling, or no value, is not a difference.
    same = ("client", "create", "JEANNE@example.org", "--last-name", "Dupont", "--civility", "Mme", "--if-missing")
    assert (egec(*same).code, egec(*same).err) == (0, "")
    other = ("--last-name", "Durand", "--reference", "D-1", "--identifier", "2345678901", "--if-missing")
    ended = egec("client", "create", "jeanne@example.org", *other, "--format", "ids")
    assert (ended.code, ended.out) == (0, "1234567890\n")
    told = "egec: client 1234567890 already exists with a different"
    assert ended.err.splitlines() == [
        f"{told} identifier: '2345678901' given, '1234567890' stored",
        f"{told} reference: 'D-1' given, '' stored",
        f"{told} last_name: 'Durand' given, 'Dupont' stored",
    ]


def test_create_if_missing_and_activate_mails_one_password_however_often_a_script_runs_it(egec: Egec) -> None:
    for _ in range(3):
        assert egec(*JEANNE, "--activate", "--if-missing").code == 0
    assert records(egec)[0]["last_sequence"] == 1


def test_create_and_activate_write_both_results_as_one_object(egec: Egec) -> None:
    created = json.loads(egec(*JEANNE, "--activate", "--format", "json").out)
    assert created["status"] == "active"
    assert created["activation"]["state"] == "accepted"


def test_reference_and_identifier_are_unique_too(egec: Egec) -> None:
    first = ("client", "create", "a@example.org", "--reference", "D-1", "--identifier", "1234567890")
    assert egec(*first).code == 0
    assert egec("client", "create", "b@example.org", "--reference", "D-1").code == 73
    assert egec("client", "create", "b@example.org", "--identifier", "1234567890").code == 73
    assert egec("client", "show", "ref:D-1", "--format", "ids").out == "1234567890\n"


@pytest.mark.parametrize(
    "bad",
    [
        ("no-address",),
        ("a@example.org,b@example.org",),
        ("a@example.org", "--civility", "Lord"),
        ("a@example.org", "--last-name", "=?utf-8?q?x=0D=0ABcc:evil@example.org?="),
        ("a@example.org", "--last-name", "\x1b[31mred"),
        ("a@example.org", "--first-name", "two\nlines"),
        ("a@example.org", "--reference", "right\u202eleft"),
        ("a@example.org", "--language", "de"),
        ("a@example.org", "--identifier", "0123456789"),
        ("a@example.org", "--identifier", "١٢٣٤٥٦٧٨٩٠"),
    ],
)
def test_invalid_input_ends_with_65_says_why_and_leaves_nothing_behind(egec: Egec, bad: tuple[str, ...]) -> None:
    ended = egec("client", "create", *bad)
    assert (ended.code, ended.out) == (65, "")
    assert ended.err.startswith("egec: ")
    assert "\x1b" not in ended.err
    assert egec("client", "list").code == 78


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("Noëlle", "d'Œuvre-N'Guessan"),
        ("José María", "Ægir 山田"),
        ("[/]", "[red]$password[/red]"),
        ("<script>", "& Cie"),
        ("=HYPERLINK(1)", "@SUM"),
    ],
)
def test_unusual_names_stay_unchanged_in_every_format(egec: Egec, first: str, last: str) -> None:
    assert egec("client", "create", "a@example.org", "--first-name", first, "--last-name", last).code == 0
    assert (records(egec)[0]["first_name"], records(egec)[0]["last_name"]) == (first, last)
    table = egec("client", "list").out
    assert first in table
    assert last in table


def test_names_of_any_width_keep_the_columns_of_a_table_aligned(egec: Egec) -> None:
    for number, name in enumerate(["Ægir 山田", "Noe\u0308l", "X"]):
        egec("client", "create", f"c{number}@example.org", "--last-name", name)
    lines = egec("client", "list", "--fields", "last_name,status").out.splitlines()
    assert lines[1] == "Ægir 山田  new"
    assert lines[2] == "Noël       new".replace("ë", "\u00eb")
    assert lines[3] == "X          new"


def test_csv_contains_no_formula(egec: Egec) -> None:
    egec("client", "create", "a@example.org", "--last-name", "=HYPERLINK(1)")
    rows = list(csv.DictReader(io.StringIO(egec("client", "list", "--format", "csv").out)))
    assert rows[0]["last_name"] == "'=HYPERLINK(1)"


def test_every_format_of_an_empty_list_is_well_formed(egec: Egec) -> None:
    egec("init")
    assert records(egec) == []
    assert egec("client", "list", "--format", "jsonl").out == ""
    assert egec("client", "list", "--format", "ids").out == ""
    assert egec("client", "list", "--format", "csv").out == ",".join(KEYS) + "\n"


def test_fields_are_chosen_by_name_in_any_order(egec: Egec) -> None:
    egec(*JEANNE)
    assert records(egec, "--fields", "status,email") == [{"status": "new", "email": "jeanne@example.org"}]
    assert egec("client", "list", "--fields", "email,status,email").err.startswith(
        "egec: the field email is chosen twice"
    )
    wrong = egec("client", "list", "--fields", "emial")
    assert wrong.code == 2
    assert "email" in wrong.err


def test_list_selects_by_status_and_stops_at_its_limit(egec: Egec) -> None:
    for number in range(3):
        egec("client", "create", f"c{number}@example.org")
    egec("activate", "c1@example.org")
    assert [row["email"] for row in records(egec, "--status", "active")] == ["c1@example.org"]
    assert [row["email"] for row in records(egec, "--status", "new")] == ["c0@example.org", "c2@example.org"]
    assert records(egec, "--status", "blocked") == records(egec, "--status", "disabled") == []
    assert len(records(egec, "--limit", "2")) == 2


def test_an_unknown_client_ends_with_67(egec: Egec) -> None:
    egec("init")
    for wanted in ("unknown@example.org", "1234567890", "ref:none", "Jeanne"):
        assert egec("client", "show", wanted).code == 67


def test_other_commands_create_no_database_and_name_the_missing_one(egec: Egec, tmp_path: object) -> None:
    for command in (("client", "list"), ("client", "show", "a@example.org"), ("activate", "a@example.org")):
        ended = egec(*command)
        assert ended.code == 78
        assert f"{tmp_path}/data/egec/egec.db" in ended.err
        assert "egec init" in ended.err
    assert not os.path.exists(f"{tmp_path}/data/egec/egec.db")


def test_show_lists_the_last_mails_with_their_states(egec: Egec) -> None:
    egec(*JEANNE)
    with MailServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("EGEC_MAIL_URL", server.url)
        server.fail_next(Fault.NONE, Fault.RCPT_550, Fault.CUT_AFTER_KEEPING)
        assert [egec("activate", "jeanne@example.org").code for _ in range(4)] == [0, 65, 75, 0]
    shown = json.loads(egec("client", "show", "jeanne@example.org", "--format", "json").out)
    assert list(shown) == [
        *KEYS,
        "failed_logins",
        "blocked_until",
        "failure_origins",
        "email_bounced_at",
        "closing_notified_at",
        "mails",
        "history",
    ]
    mails = shown["mails"]
    assert list(mails[0]) == [
        "sequence", "state", "issued_at", "settled_at", "first_used_at", "expires_at", "message_id", "server_reply",
        "failure", "issued_by", "bounced_at", "bounce",
    ]  # fmt: skip
    assert [(mail["sequence"], mail["state"]) for mail in mails] == [
        (4, "accepted"), (3, "superseded"), (2, "refused"), (1, "superseded"),
    ]  # fmt: skip
    assert mails[2]["failure"] == "mail_refused"
    assert mails[2]["server_reply"].startswith("550 ")
    table = egec("client", "show", "jeanne@example.org").out
    for mail in mails:
        assert mail["message_id"] in table


def test_show_lists_a_mail_whose_sender_crashed_as_in_doubt(egec: Egec, egec_process: Egec) -> None:
    egec(*JEANNE)
    with MailServer() as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "egec_cli", "activate", "jeanne@example.org"],
            env={**os.environ, "EGEC_MAIL_URL": server.url},
        )
        states = []

        def kill() -> None:
            states.append(json.loads(egec_process("client", "show", "jeanne@example.org", "--format", "json").out))
            process.kill()

        server.at(Point.KEPT, kill)
        process.wait(timeout=60)
    states.append(json.loads(egec("client", "show", "jeanne@example.org", "--format", "json").out))
    assert [state["mails"][0]["state"] for state in states] == ["sending", "in_doubt"]


@pytest.mark.parametrize("wanted", ["unknown@example.org", "1234567890", "ref:D-1"])
def test_the_error_for_an_unknown_client_says_how_to_find_one(egec: Egec, wanted: str) -> None:
    egec("init")
    ended = egec("client", "show", wanted, "--format", "json")
    assert ended.code == 67
    assert "egec client list --search PART" in json.loads(ended.err)["error"]["hint"]


def test_a_reference_is_found_with_and_without_its_prefix(egec: Egec) -> None:
    egec("client", "create", "jeanne@example.org", "--reference", "D-005")
    assert egec("client", "show", "D-005").out == egec("client", "show", "ref:D-005").out
    ended = egec("client", "show", "D-006")
    assert ended.code == 67
    assert ended.err.splitlines()[0] == "egec: no client has the e-mail, identifier or reference 'D-006'"
