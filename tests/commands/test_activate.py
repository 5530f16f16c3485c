"""`egec activate`."""

import html
import json
import re
import shlex
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import bcrypt
import pytest

from egec_cli import hashing
from egec_cli.password import Password
from egec_cli.settings.types import Tls
from tests.activations import letters, opens
from tests.conftest import Egec, Ended
from tests.programs import require_program
from tests.smtp_server import Fault, MailServer

SENT = (
    "Un courriel a été envoyé dans votre b-a-l, avec des instructions.\n"
    "La réception peut atteindre 5 min. Vérifiez éventuellement dans vos SPAMs\n"
)
REFUSED = "Identifiant et/ou m-d-p non reconnu(s)\n"


@pytest.fixture
def identifier(egec: Egec) -> str:
    """Return the identifier of a new client."""
    created = egec("client", "create", "jeanne@example.org", "--civility", "Mme", "--last-name", "Dupont")
    assert created.code == 0
    return egec("client", "list", "--format", "ids").out.strip()


def mails(tmp_path: Path) -> list[EmailMessage]:
    folder = tmp_path / "data" / "egec" / "mail" / "new"
    return [
        message_from_bytes(path.read_bytes(), policy=policy.default)
        for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    ]


def password_in(mail: EmailMessage) -> str:
    text = mail.get_body(("plain",))
    assert text is not None
    lines = text.get_content().splitlines()
    return str(lines[lines.index("Votre mot de passe est\u00a0:") + 2])


@pytest.mark.parametrize("before", [(), ("--quiet",), ("--env-file", "other.env")], ids=" ".join)
def test_an_activation_hashes_exactly_one_password(
    egec: Egec, identifier: str, monkeypatch: pytest.MonkeyPatch, before: tuple[str, ...]
) -> None:
    Path("other.env").write_text("EGEC_BCRYPT_COST=4\n")
    Path("other.env").chmod(0o600)
    started: list[str] = []

    def hash_and_count(password: Password, cost: int) -> str:
        started.append(password.reveal())
        return hashing.hash_text(password.reveal(), cost)

    monkeypatch.setattr(hashing, "hash_password", hash_and_count)
    ended = egec(*before, "activate", identifier, "--no-mail", "--show-password", "--format", "json")
    assert started == [json.loads(ended.out)["password"]]


def test_activate_prints_the_memos_text_and_where_the_mail_was_saved(
    egec: Egec, identifier: str, tmp_path: Path
) -> None:
    ended = egec("activate", identifier)
    assert (ended.code, ended.out) == (0, SENT)
    assert str(tmp_path / "data" / "egec" / "mail" / "new") in ended.err


def test_the_mailed_password_is_accepted_only_in_its_exact_case(
    egec: Egec, egec_process: Egec, identifier: str, tmp_path: Path
) -> None:
    egec("activate", identifier)
    password = password_in(mails(tmp_path)[0])
    assert egec_process("verify", identifier, "--password-stdin", stdin=password).code == 0
    assert egec_process("verify", identifier, "--password-stdin", stdin=password.swapcase()).code == 1


def test_only_the_password_of_the_latest_mail_is_valid(
    egec: Egec, egec_process: Egec, identifier: str, tmp_path: Path
) -> None:
    for _ in range(3):
        assert egec("activate", "jeanne@example.org").code == 0
    passwords = [password_in(mail) for mail in mails(tmp_path)]
    codes = [egec_process("verify", identifier, "--password-stdin", stdin=p).code for p in passwords]
    assert codes == [1, 1, 0]


def test_json_shows_the_state_of_the_mail(egec: Egec, identifier: str, tmp_path: Path) -> None:
    ended = egec("activate", f" {identifier} ", "--format", "json")
    result = json.loads(ended.out)
    assert list(result) == ["identifier", "email", "sequence", "state", "message_id", "server_reply"]
    assert (result["identifier"], result["sequence"], result["state"]) == (identifier, 1, "accepted")
    assert mails(tmp_path)[0]["Message-ID"] == result["message_id"]
    assert Path(result["server_reply"]).exists()


@pytest.mark.parametrize("unknown", ["unknown@example.org", "1111111111", "ref:7", "jeanne@@example.org", "jeanne", ""])
def test_an_unknown_client_gets_the_memos_refusal_and_the_operator_the_reason(
    egec: Egec, identifier: str, unknown: str
) -> None:
    ended = egec("activate", unknown)
    assert (ended.code, ended.out) == (67, REFUSED)
    assert ended.err


def test_with_a_machine_format_stdout_stays_empty_on_failure(egec: Egec, identifier: str) -> None:
    ended = egec("activate", "unknown@example.org", "--format", "json")
    assert (ended.code, ended.out) == (67, "")
    error = json.loads(ended.err)["error"]
    assert set(error) == {"code", "message", "hint"}
    assert error["code"] == "unknown_client"


def test_a_password_may_be_shown_instead_of_mailed(egec: Egec, egec_process: Egec, identifier: str) -> None:
    ended = egec("activate", identifier, "--no-mail", "--show-password", "--format", "json")
    result = json.loads(ended.out)
    assert (result["state"], result["message_id"]) == ("accepted", None)
    assert egec_process("verify", identifier, "--password-stdin", stdin=result["password"]).code == 0


@pytest.mark.parametrize("options", [("--no-mail",), ("--show-password",)])
def test_showing_a_password_requires_both_options(egec: Egec, identifier: str, options: tuple[str, ...]) -> None:
    assert egec("activate", identifier, *options).code == 2


def test_revoke_invalidates_every_earlier_password(
    egec: Egec, egec_process: Egec, identifier: str, tmp_path: Path
) -> None:
    egec("activate", identifier)
    first = password_in(mails(tmp_path)[0])
    egec("activate", identifier, "--revoke")
    assert egec_process("verify", identifier, "--password-stdin", stdin=first).code == 1
    assert egec_process("verify", identifier, "--password-stdin", stdin=password_in(mails(tmp_path)[1])).code == 0


def test_a_mail_that_cannot_be_saved_changes_nothing(
    egec: Egec, egec_process: Egec, identifier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    egec("activate", identifier)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EGEC_MAIL_URL", f"maildir:{tmp_path}/file")
    assert egec("activate", identifier).code == 74
    password = password_in(mails(tmp_path)[0])
    assert egec_process("verify", identifier, "--password-stdin", stdin=password).code == 0


def test_an_english_client_is_answered_and_mailed_in_english(egec: Egec, tmp_path: Path) -> None:
    egec("client", "create", "john@example.org", "--last-name", "Smith", "--civility", "Mr", "--language", "en")
    ended = egec("activate", "john@example.org")
    assert ended.out.startswith("An e-mail with instructions has been sent")
    text = mails(tmp_path)[0].get_body(("plain",))
    assert text is not None
    assert text.get_content().startswith("Dear Mr Smith,")


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])
def test_by_a_server_with_tls_and_login_both_parts_of_the_mail_carry_what_verify_accepts(
    egec: Egec, egec_process: Egec, identifier: str, monkeypatch: pytest.MonkeyPatch, tls: Tls
) -> None:
    with MailServer(tls=tls, login=("egec", "s3cret/@:")) as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        result = json.loads(egec("activate", identifier, "--format", "json").out)
        assert (result["state"], result["server_reply"][:4]) == ("accepted", "250 ")
    mail = message_from_bytes(server.accepted[0].content, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    password = password_in(mail)
    rich_part = mail.get_body(("html",))
    assert rich_part is not None
    for secret in (identifier, password):
        assert f">{html.escape(secret)}</code>" in rich_part.get_content()
    assert egec_process("verify", "--stdin", stdin=f"{identifier}\n{password}\n").code == 0


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.RCPT_550, 65),
        (Fault.RCPT_451, 75),
        (Fault.MAIL_530, 78),
        (Fault.BANNER_421, 75),
        (Fault.CUT_AFTER_KEEPING, 75),
    ],
)
def test_the_exit_code_of_a_failed_mail_says_what_to_fix_and_the_previous_password_keeps_working(
    egec: Egec, egec_process: Egec, identifier: str, monkeypatch: pytest.MonkeyPatch, fault: Fault, code: int
) -> None:
    with MailServer() as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        assert egec("activate", identifier).code == 0
        server.fail_next(fault)
        ended = egec("activate", identifier)
        assert (ended.code, ended.out) == (code, "")
        assert ended.err
    mail = message_from_bytes(server.accepted[0].content, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    assert egec_process("verify", "--stdin", stdin=f"{identifier}\n{password_in(mail)}\n").code == 0


def shown_password(egec: Egec, identifier: str) -> str:
    return egec("activate", identifier, "--no-mail", "--show-password").out.split()[1]


@pytest.mark.parametrize(
    ("redirection", "code"), [("> /dev/full", 74), ("| true", 141), (">&-", 74), ("> /dev/full 2>&1", 74)]
)
@pytest.mark.parametrize("form", ["table", "json"])
def test_if_the_new_password_cannot_be_shown_the_previous_one_stays_valid(
    egec: Egec, egec_process: Egec, identifier: str, redirection: str, code: int, form: str
) -> None:
    previous = shown_password(egec, identifier)
    activate = f"{sys.executable} -m egec_cli activate {identifier} --no-mail --show-password --format {form}"
    # The reader of the pipe is gone before anything is written.
    done = subprocess.run([require_program("bash"), "-c", f"set -o pipefail; (sleep 0.2; {activate}) {redirection}"])
    assert done.returncode == code
    assert egec_process("verify", "--stdin", stdin=f"{identifier}\n{previous}\n").code == 0
    # Where nothing can be written, no password is even created: many in doubt would stop further mails.
    passwords = json.loads(egec("client", "show", identifier, "--format", "json").out)["last_sequence"]
    assert passwords == (2 if redirection == "| true" else 1)


def test_an_error_in_the_text_for_the_client_is_found_before_the_mail_leaves(
    egec: Egec, identifier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sent.fr.txt").write_text("Bonjour $nom\n", encoding="utf-8")
    monkeypatch.setenv("EGEC_TEMPLATES", str(tmp_path / "own"))
    ended = egec("activate", identifier)
    assert (ended.code, ended.out) == (78, "")
    assert "sent.fr.txt:1" in ended.err
    assert not (tmp_path / "data" / "egec" / "mail").exists()


def test_an_error_of_the_local_maildir_is_not_relayed_to_the_client(
    egec: Egec, identifier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EGEC_MAIL_URL", f"maildir:{tmp_path}/file/mail")
    ended = egec("activate", identifier)
    assert (ended.code, ended.out) == (74, "")


def test_a_refusal_says_what_still_holds(egec: Egec, identifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with MailServer() as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        assert egec("activate", identifier).code == 0
        server.fail_next(Fault.RCPT_451, Fault.CUT_AFTER_KEEPING, Fault.RCPT_451)
        assert "the previous password still works. Try again later." in egec("activate", identifier).err
        assert "The previous password still works; the new one works too" in egec("activate", identifier).err
        assert "locked out until a mail arrives" in egec("activate", identifier, "--revoke").err


WITHOUT_A_PREVIOUS_PASSWORD: dict[str, Callable[[Egec, str], object]] = {
    "none was issued": lambda egec, identifier: None,
    "the first mail was refused": lambda egec, identifier: egec("activate", identifier),
    "it has expired": lambda egec, identifier: (
        egec("activate", identifier, "--no-mail", "--show-password"),
        change("UPDATE credential SET expires_at = '2020-01-01T00:00:00Z'"),
    ),
    "it was revoked": lambda egec, identifier: (
        egec("activate", identifier, "--no-mail", "--show-password"),
        egec("activate", identifier, "--revoke"),
    ),
    "the account is blocked": lambda egec, identifier: (
        egec("activate", identifier, "--no-mail", "--show-password"),
        change("UPDATE client SET blocked_until = '2999-01-01T00:00:00Z'"),
    ),
}


def change(statement: str) -> bool:
    with closing(sqlite3.connect("data/egec/egec.db")) as connection, connection:
        return connection.execute(statement).rowcount > 0


@pytest.mark.parametrize("history", WITHOUT_A_PREVIOUS_PASSWORD.values(), ids=WITHOUT_A_PREVIOUS_PASSWORD.keys())
def test_a_previous_password_is_mentioned_only_if_it_is_accepted(
    egec: Egec, identifier: str, server: MailServer, history: Callable[[Egec, str], object]
) -> None:
    server.fail_always(Fault.RCPT_451)
    history(egec, identifier)
    ended = egec("activate", identifier)
    assert (ended.code, ended.out) == (75, "")
    assert "Nothing was changed." in ended.err
    assert "previous" not in ended.err
    server.work_again()
    server.fail_next(Fault.CUT_AFTER_KEEPING)
    ended = egec("activate", identifier)
    assert "The new password works if its mail arrived." in ended.err
    assert "previous" not in ended.err


def test_an_imported_password_counts_as_a_previous_one(egec: Egec, server: MailServer, tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"Former#1", bcrypt.gensalt(4)).decode()
    (tmp_path / "old.csv").write_text(f"email;password_hash\njeanne@example.org;{hashed}\n")
    assert egec("client", "import", "old.csv").code == 0
    server.fail_next(Fault.RCPT_451)
    assert "the previous password still works" in egec("activate", "jeanne@example.org").err


def follow(egec: Egec, ended: Ended, *, filled_in: str = "") -> list[Ended]:
    """Type the commands that a hint names."""
    typed = [found.replace("ADDRESS", filled_in) for found in re.findall(r"`egec ([^`]*)`", ended.err)]
    assert typed
    return [egec(*shlex.split(line)) for line in typed]


@pytest.mark.parametrize("fault", [Fault.RCPT_550, Fault.RCPT_550_USER_UNKNOWN])
def test_after_an_address_that_is_refused_the_hint_corrects_it(
    egec: Egec, identifier: str, server: MailServer, fault: Fault
) -> None:
    server.fail_next(fault)
    ended = egec("activate", identifier)
    assert ended.code == 65
    assert "Correct the address" in ended.err
    assert [one.code for one in follow(egec, ended, filled_in="right@example.org")] == [0]
    assert egec("activate", identifier).code == 0
    assert server.accepted[-1].recipient == "right@example.org"


def test_after_a_refusal_of_the_sender_or_the_text_the_hint_does_not_correct_the_address(
    egec: Egec, identifier: str, server: MailServer
) -> None:
    for fault, code in ((Fault.RCPT_550_POLICY, 77), (Fault.MESSAGE_554, 65), (Fault.DATA_554, 65)):
        server.fail_next(fault)
        ended = egec("activate", identifier)
        assert ended.code == code
        assert "Correct" not in ended.err
        assert "administrator of the mail server" in ended.err


def test_a_client_whose_address_is_refused_at_once_gets_a_mail_by_following_the_hint(
    egec: Egec, server: MailServer
) -> None:
    server.fail_next(Fault.RCPT_550)
    ended = egec("client", "create", "wrong@example.org", "--activate")
    assert ended.code == 65
    assert "status         new" in ended.out
    assert [one.code for one in follow(egec, ended, filled_in="right@example.org")] == [0, 0]
    assert server.accepted[-1].recipient == "right@example.org"


@pytest.mark.parametrize(("fault", "code"), [(Fault.RCPT_550, 65), (Fault.RCPT_451, 75)])
def test_if_the_first_mail_fails_the_message_states_what_happened_to_the_client(
    egec: Egec, server: MailServer, fault: Fault, code: int
) -> None:
    for state in ("was created.", "already existed and was not changed."):
        server.fail_next(fault)
        ended = egec(
            "client", "create", "wrong@example.org", "--identifier", "1234567890", "--if-missing", "--activate"
        )
        assert ended.code == code
        hint, see = (line.strip() for line in ended.err.splitlines()[-2:])
        assert see.startswith("See: egec help mail_")
        assert hint.startswith(f"Client 1234567890 {state}")
        assert "Nothing was changed" not in ended.err
        assert "`egec activate 1234567890`" in hint
        assert ("Correct the address: `egec client update 1234567890 --email ADDRESS`. Then" in hint) is (code == 65)


NOT_SENT = (
    "Aucun nouveau courriel ne peut vous être envoyé pour le moment.\n"
    "Si vous en avez réceptionné plusieurs, prenez en compte uniquement le dernier. "
    "Vérifiez éventuellement dans vos SPAMs.\n"
    "Si le problème persiste, contactez : Service IT.\n"
)


def test_after_eight_lost_answers_the_hint_helps_and_the_client_gets_a_text(
    egec: Egec, identifier: str, server: MailServer
) -> None:
    server.fail_always(Fault.CUT_AFTER_KEEPING)
    for number in range(1, 9):
        ended = egec("activate", identifier)
        assert (ended.code, ended.out) == (75, "")
        assert ("Run the same command again" in ended.err) is (number < 8)
        assert ("--revoke" in ended.err) is (number == 8)
    ended = egec("activate", identifier)
    assert (ended.code, ended.out.replace("\u00a0", " ")) == (77, NOT_SENT)
    assert "has 8 deliveries in doubt" in ended.err
    assert "again" not in ended.err
    assert len(server.accepted) == 8
    assert egec("activate", identifier, "--format", "json").out == ""

    server.work_again()
    (followed,) = follow(egec, ended)
    assert (followed.code, followed.out) == (0, SENT)
    *earlier, last = letters(server)
    assert not opens(earlier[-1])
    assert opens(last)


def test_after_eight_lost_answers_a_login_with_the_latest_mail_makes_room_too(
    egec: Egec, identifier: str, server: MailServer
) -> None:
    server.fail_always(Fault.CUT_AFTER_KEEPING)
    for _ in range(8):
        egec("activate", identifier)
    assert opens(letters(server)[-1])
    server.work_again()
    assert egec("activate", identifier).code == 0


def test_an_english_client_reads_in_english_that_nothing_was_sent(egec: Egec, server: MailServer) -> None:
    egec("client", "create", "john@example.org", "--language", "en")
    server.fail_always(Fault.CUT_AFTER_KEEPING)
    for _ in range(8):
        egec("activate", "john@example.org")
    assert egec("activate", "john@example.org").out.startswith("No new e-mail can be sent to you at the moment.\n")


@pytest.mark.parametrize("form", [(), ("--format", "json")])
def test_a_created_client_is_shown_in_its_state_after_the_activation(
    egec: Egec, server: MailServer, form: tuple[str, ...]
) -> None:
    made = egec("client", "create", "marc@example.org", "--activate", *form)
    assert made.code == 0
    assert re.search(r"status\W+active", made.out)
    assert re.search(r"last_sequence\W+1\b", made.out)
    assert made.out.endswith(SENT) is (form == ())


def test_a_server_that_drips_its_answer_delays_an_activation_no_longer_than_the_time_limit(
    egec: Egec, identifier: str, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_MAIL_TIMEOUT", "1")
    for fault, words in ((Fault.DRIPPED_EHLO, "cannot be reached"), (Fault.DRIPPED_ANSWER, "The mail may have left")):
        server.fail_next(fault)
        began = time.monotonic()
        ended = egec("activate", identifier)
        assert time.monotonic() - began < 8
        assert ended.code == 75
        assert words in ended.err
        assert "no complete answer within 1 s" in ended.err


def test_a_client_created_although_the_mail_failed_is_reported(egec: Egec, monkeypatch: pytest.MonkeyPatch) -> None:
    with MailServer() as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        server.fail_next(Fault.RCPT_451)
        ended = egec("client", "create", "marc@example.org", "--activate", "--format", "json")
        made = json.loads(ended.out)
        assert (ended.code, made["email"], made["activation"]) == (75, "marc@example.org", None)
        assert f"egec activate {made['identifier']}" in json.loads(ended.err.splitlines()[-1])["error"]["hint"]
        assert egec("activate", made["identifier"]).code == 0
