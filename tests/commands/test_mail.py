"""`egec mail check`, `preview` and `test`; the note to a previous address."""

import json
import re
import shutil
import socket
from email import message_from_bytes, message_from_string, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from egec_cli.doctor.findings import exit_code
from egec_cli.doctor.mail import check_server
from egec_cli.mail.compose.template import BUILT_IN
from egec_cli.settings import load
from tests.conftest import Egec, Ended
from tests.screens.emulator import PROGRAM, see
from tests.smtp_server import Fault, MailServer, Point


def findings(ended: Ended) -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in json.loads(ended.out)}


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an organisation's own folder of templates, a copy of the built-in ones."""
    folder = tmp_path / "own"
    shutil.copytree(BUILT_IN, folder)
    monkeypatch.setenv("EGEC_TEMPLATES", str(folder))
    return folder


def test_the_built_in_templates_are_sound(egec: Egec) -> None:
    ended = egec("mail", "check", "--no-connection", "--format", "json")
    assert ended.code == 0
    assert {row["verdict"] for row in findings(ended).values()} == {"ok"}


MONOSPACE = "Consolas,Menlo,'DejaVu Sans Mono','Courier New',monospace"
FLAWS = {
    "an unknown placeholder": ("credentials.fr.txt", "$identifier", "$identifiant"),
    "no password": ("credentials.fr.html", "$password", ""),
    "a remote picture": ("credentials.fr.html", "<p>$greeting</p>", '<p>$greeting</p><img src="https://x.org/a.gif">'),
    "a script": ("credentials.en.html", "</body>", "<script>alert(1)</script></body>"),
    "a style sheet elsewhere": ("reissue.fr.html", "</head>", '<link rel="stylesheet" href="//x.org/a.css"></head>'),
    "a font in which O is like 0": ("credentials.fr.html", MONOSPACE, "Arial"),
    "a password that a double click cuts": ("reissue.en.html", ";user-select:all\">$password", "\">$password"),
    "parts that say different things": ("credentials.fr.txt", "Merci.", "Merci de votre confiance, et à demain."),
    "no subject": ("credentials.en.txt", "Subject: ", "Objet : "),
    "a link that goes elsewhere": ("credentials.fr.html", "($app_url)", '(<a href="https://evil.example">$app_url</a>)'),
}  # fmt: skip


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_of_a_template_is_reported_with_its_file_and_a_correction(
    egec: Egec, templates: Path, flaw: str
) -> None:
    name, sound, flawed = FLAWS[flaw]
    text = (templates / name).read_text(encoding="utf-8")
    assert sound in text
    (templates / name).write_text(text.replace(sound, flawed), encoding="utf-8")
    ended = egec("mail", "check", "--no-connection", "--format", "json")
    found = [row for row in json.loads(ended.out) if row["verdict"] != "ok"]
    assert ended.code in {3, 78}
    assert any(f"{templates / name.partition('.')[0]}" in row["details"] and row["fix"] for row in found)


@pytest.mark.parametrize(("name", "code"), [("credentials.fr.txt", 78), ("reissue.en.html", 78), ("", 0)])
def test_templates_of_passwords_must_name_the_client_if_clients_may_share_an_email(
    egec: Egec, templates: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    if name:
        # In both parts, so that they still say the same.
        for path in templates.glob(f"{name.rpartition('.')[0]}.*"):
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace("<p>$shared</p>\n", "").replace("$shared\n\n", ""), encoding="utf-8")
    assert egec("mail", "check", "--no-connection").code == 0
    monkeypatch.setenv("EGEC_SHARED_EMAIL", "yes")
    ended = egec("mail", "check", "--no-connection", "--format", "json")
    assert ended.code == code
    found = [row["details"] for row in json.loads(ended.out) if row["verdict"] == "error"]
    assert bool(found) is bool(name)
    assert all("the text does not use $shared" in details for details in found)


def test_the_paragraph_on_the_client_is_checked_even_if_no_client_shares_an_email(egec: Egec, templates: Path) -> None:
    page = templates / "credentials.fr.html"
    page.write_text(page.read_text(encoding="utf-8").replace("<p>$shared</p>\n", ""), encoding="utf-8")
    assert "credentials.fr.html" in egec("mail", "check", "--no-connection").out
    (templates / "shared.fr.txt").write_text("Plusieurs dossiers.\n", encoding="utf-8")
    assert "the text does not use $record" in egec("mail", "check", "--no-connection").out


def test_all_faults_are_reported_not_only_the_first(egec: Egec, templates: Path) -> None:
    for name in ("credentials.fr.txt", "address-changed.en.txt"):
        (templates / name).write_text("Subject: x\n\n$nothing\n", encoding="utf-8")
    found = [row["check"] for row in json.loads(egec("mail", "check", "--no-connection", "--format", "json").out)
             if row["verdict"] == "error"]  # fmt: skip
    assert {"template_credentials.fr", "template_address-changed.en"} <= set(found)


def test_a_run_is_stopped_by_a_faulty_template_before_its_first_mail(
    egec: Egec, templates: Path, server: MailServer
) -> None:
    egec("client", "create", "jeanne@example.org", "--language", "fr")
    page = templates / "reissue.en.html"
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", "<script>1</script></body>"), encoding="utf-8")
    ended = egec("reissue", "start", "spring", "--all", "--yes")
    assert ended.code == 78
    assert "reissue.en.html" in ended.err
    assert server.accepted == []


def test_the_mail_server_is_looked_at_and_nothing_is_sent(egec: Egec, server: MailServer) -> None:
    ended = egec("mail", "check", "--format", "json")
    assert findings(ended)["mail_server"]["verdict"] == "ok"
    assert server.accepted == []


@pytest.mark.parametrize(
    ("url", "code"), [("smtp://127.0.0.1:1", 75), ("smtp://no host:25?tls=none", 78), ("sendmail:/no/such", 78)]
)
def test_a_missing_mail_transport_is_a_fault(egec: Egec, monkeypatch: pytest.MonkeyPatch, url: str, code: int) -> None:
    monkeypatch.setenv("EGEC_MAIL_URL", url)
    ended = egec("mail", "check", "--format", "json")
    assert ended.code == code
    assert any(row["verdict"] == "error" and row["fix"] for row in findings(ended).values())


REFUSALS = [
    (Point.BANNER, "421 Too many connections", 75, 75, "accepts no more connections", "EGEC_MAIL_CONNECTIONS"),
    (Point.BANNER, "421 4.7.0 Slow down", 75, 75, "accepts no more mail", "more slowly"),
    (Point.BANNER, "554 Your IP is in Spamhaus", 78, 77, "blocks our mail", "mail provider"),
]


@pytest.mark.parametrize(("point", "answer", "checked", "sent", "words", "fix"), REFUSALS)
def test_a_limit_or_a_block_of_the_server_is_explained(
    egec: Egec, server: MailServer, point: Point, answer: str, checked: int, sent: int, words: str, fix: str
) -> None:
    client = json.loads(egec("client", "create", "jeanne@example.org", "--format", "json").out)["identifier"]
    server.answer_always(point, answer)
    ended = egec("mail", "check", "--format", "json")
    found = findings(ended)["mail_server"]
    assert (ended.code, found["verdict"]) == (checked, "error")
    assert words in found["details"]
    assert fix in found["fix"]
    for command in (("mail", "test", "you@example.org"), ("activate", client)):
        ended = egec(*command)
        assert ended.code == sent
        assert words in ended.err
        assert fix in " ".join(ended.err.split())


def test_an_unavailable_server_beside_a_faulty_template_ends_with_78(
    egec: Egec, templates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_MAIL_URL", "smtp://127.0.0.1:1")
    (templates / "reissue.en.html").write_text("<p>no password</p>")
    assert egec("mail", "check").code == 78


@pytest.mark.parametrize(("number", "code"), [(socket.EAI_AGAIN, 75), (socket.EAI_NONAME, 78)])
def test_an_unavailable_name_server_is_temporary_and_an_unknown_name_is_not(
    monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    found = check_server(load.load_settings({"EGEC_MAIL_URL": "smtp://mail.example.org"}))
    assert (found[0].check, exit_code(found)) == ("mail_server_name", code)


def test_a_preview_shows_a_clients_mail_with_an_invalid_password(egec: Egec, tmp_path: Path) -> None:
    created = egec(
        "client", "create", "j@example.org", "--civility", "Mme", "--last-name", "Élouard", "--format", "ids"
    )
    identifier = created.out.strip()
    shown = egec("mail", "preview", "j@example.org")
    assert (shown.code, shown.err) == (0, "")
    assert identifier in shown.out
    assert "Mme Élouard, bonjour," in shown.out
    assert egec("mail", "preview", "j@example.org", "--html", "m.html", "--eml", "m.eml").code == 0
    assert "Élouard" in (tmp_path / "m.html").read_text(encoding="utf-8")
    mail = message_from_string((tmp_path / "m.eml").read_text(encoding="utf-8"), policy=policy.default)
    assert mail["To"] == "j@example.org"
    assert json.loads(egec("client", "show", identifier, "--format", "json").out)["last_sequence"] == 0
    assert egec("mail", "preview", "--html", "m.html").code == 73
    assert egec("mail", "preview", "unknown@example.org").code == 67


@pytest.mark.parametrize("language", ["fr", "en"])
@pytest.mark.parametrize("kind", ["credentials", "reissue"])
def test_a_preview_names_the_client_only_if_others_share_the_email(
    egec: Egec, monkeypatch: pytest.MonkeyPatch, kind: str, language: str
) -> None:
    monkeypatch.setenv("EGEC_SHARED_EMAIL", "yes")
    words = {"fr": "Ce courriel concerne le dossier «\u00a0D-1\u00a0»", "en": "about the record “D-1”"}[language]
    egec("client", "create", "j@example.org", "--reference", "D-1")
    preview = ("mail", "preview", "ref:D-1", "--kind", kind, "--language", language)
    alone = egec(*preview).out
    egec("client", "create", "j@example.org", "--reference", "D-2")
    shared = egec(*preview).out
    assert words not in alone
    assert words in shared
    assert len(shared.splitlines()) == len(alone.splitlines()) + 2


@pytest.mark.parametrize("language", ["fr", "en"])
@pytest.mark.parametrize("kind", ["credentials", "reissue", "address-changed", "closing"])
def test_every_kind_can_be_tried_and_is_marked_as_a_test(
    egec: Egec, server: MailServer, kind: str, language: str
) -> None:
    ended = egec("mail", "test", "you@example.org", "--kind", kind, "--language", language, "--format", "json")
    assert ended.code == 0
    [accepted] = server.accepted
    mail = message_from_bytes(accepted.content, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    assert "test" in str(mail["Subject"]).lower()
    assert mail["To"] == "you@example.org"
    assert egec("client", "list", "--format", "ids").out == ""


def test_a_runs_sentence_is_in_its_mails_and_harmless(egec: Egec, server: MailServer) -> None:
    egec("client", "create", "jeanne@example.org", "--language", "fr")
    sentence = "Le portail <change> de nom & de page."
    for run in ("first", "second"):
        assert egec("reissue", "start", run, "--all", "--yes", "--sentence", sentence).code == 0
    first, second = (message_from_bytes(sent.content, policy=policy.default) for sent in server.accepted)
    assert (first["Subject"], second["Subject"]) == (
        "Votre identifiant et votre mot de passe eGEC",
        "Votre nouveau mot de passe eGEC",
    )
    for mail in (first, second):
        assert isinstance(mail, EmailMessage)
        text, page = mail.get_body(("plain",)), mail.get_body(("html",))
        assert text is not None
        assert page is not None
        assert sentence in text.get_content()
        assert "Le portail &lt;change&gt; de nom &amp; de page." in page.get_content()
    assert egec("reissue", "start", "other", "--all", "--yes", "--sentence", "two\nlines").code in {2, 65}


def test_the_previous_address_of_an_activated_client_gets_a_note_without_a_password(
    egec: Egec, server: MailServer
) -> None:
    egec("client", "create", "old@example.org", "--activate")
    assert egec("client", "update", "old@example.org", "--email", "new@example.org").code == 0
    sent = server.accepted[-1]
    assert sent.recipient == "old@example.org"
    first = message_from_bytes(server.accepted[0].content, policy=policy.default)
    assert isinstance(first, EmailMessage)
    body = first.get_body(("plain",))
    assert body is not None
    password = re.search(r"mot de passe est\s*:\s*(\S{9})\s", body.get_content())
    assert password is not None
    assert password[1].encode() not in sent.content
    assert egec("client", "update", "new@example.org", "--email", "newer@example.org", "--no-mail").code == 0
    assert len(server.accepted) == 2


def test_a_failed_note_is_reported_even_with_quiet(egec: Egec, monkeypatch: pytest.MonkeyPatch) -> None:
    identifier = egec("client", "create", "old@example.org", "--format", "ids").out.strip()
    egec("activate", identifier, "--no-mail", "--show-password")
    monkeypatch.setenv("EGEC_MAIL_URL", "smtp://127.0.0.1:1")
    ended = egec("--quiet", "client", "update", identifier, "--email", "new@example.org")
    assert (ended.code, ended.out) == (3, "")
    assert "old@example.org" in ended.err
    assert json.loads(egec("client", "show", identifier, "--format", "json").out)["email"] == "new@example.org"


@pytest.mark.parametrize(
    ("fault", "outcome", "failure", "words"),
    [
        (Fault.RCPT_550, "refused", "mail_refused", "550"),
        (Fault.CUT_AFTER_KEEPING, "in_doubt", "in_doubt", "may have been sent"),
    ],
)
def test_a_note_that_may_not_have_arrived_is_reported_and_on_record(
    egec: Egec, server: MailServer, fault: Fault, outcome: str, failure: str, words: str
) -> None:
    egec("client", "create", "old@example.org", "--activate")
    server.fail_next(fault)
    ended = egec("client", "update", "old@example.org", "--email", "new@example.org")
    assert ended.code == 3
    assert words in ended.err
    [event] = json.loads(egec("audit", "list", "--action", "client.notice", "--format", "json").out)
    assert (event["outcome"], event["details"]["failure"]) == (outcome, failure)


def test_a_test_mail_is_on_record_without_its_address(egec: Egec, server: MailServer) -> None:
    assert egec("init").code == 0
    ended = egec("mail", "test", "you@example.org", "--kind", "reissue", "--format", "json")
    assert json.loads(ended.out)["recorded"] is True
    server.fail_next(Fault.RCPT_550)
    assert egec("mail", "test", "you@example.org").code == 65
    server.fail_next(Fault.CUT_AFTER_KEEPING)
    assert egec("mail", "test", "you@example.org").code == 75
    events = json.loads(egec("audit", "list", "--action", "mail", "--format", "json").out)
    assert [(event["action"], event["outcome"]) for event in events] == [
        ("mail.test", "accepted"), ("mail.test", "refused"), ("mail.test", "in_doubt"),
    ]  # fmt: skip
    assert events[0]["details"] == {
        "kind": "reissue", "language": "fr", "message_id": json.loads(ended.out)["message_id"],
    }  # fmt: skip
    assert [event["details"].get("failure") for event in events] == [None, "mail_refused", "in_doubt"]
    assert "you@example.org" not in json.dumps(events)


def test_a_test_mail_is_logged(egec: Egec, server: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    egec("init")
    monkeypatch.setenv("EGEC_LOG", "json")
    told = json.loads(egec("mail", "test", "you@example.org").err)
    assert (told["action"], told["outcome"], told["client"]) == ("mail.test", "accepted", None)


def test_without_a_database_a_test_mail_is_sent_and_reported_as_not_on_record(
    egec: Egec, server: MailServer, tmp_path: Path
) -> None:
    ended = egec("mail", "test", "you@example.org", "--format", "json")
    assert ended.code == 0
    assert json.loads(ended.out)["recorded"] is False
    assert "was not recorded" in ended.err
    assert len(server.accepted) == 1
    assert not list(tmp_path.rglob("*.db"))


def test_a_preview_is_data_and_printed_even_with_quiet(egec: Egec) -> None:
    assert "bonjour," in egec("--quiet", "mail", "preview").out


ACTIVATED = "jérôme@été.example.org"


@pytest.mark.parametrize(
    ("command", "code", "again"),
    [
        (("activate", ACTIVATED), 65, ("activate", ACTIVATED)),
        (("reissue", "start", "spring", "--all", "--yes"), 3, ("reissue", "retry", "spring")),
    ],
    ids=["activate", "reissue"],
)
def test_a_client_with_a_non_ascii_address_is_mailed_only_if_the_server_accepts_it(
    egec: Egec, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], code: int, again: tuple[str, ...]
) -> None:
    identifier = egec("client", "create", ACTIVATED, "--format", "ids").out.strip()
    wire = f"jérôme@{'été'.encode('idna').decode()}.example.org"
    with MailServer(smtputf8=False) as strict:
        monkeypatch.setenv("EGEC_MAIL_URL", strict.url)
        ended = egec(*command)
        assert ended.code == code
        assert f"accepts only ASCII letters before the @ of an address: {wire}" in ended.err
        assert strict.accepted == []
    shown = json.loads(egec("client", "show", identifier, "--format", "json").out)
    assert (shown["mails"][0]["state"], shown["status"]) == ("refused", "new")
    assert f"Next: egec client update {identifier} --email EMAIL" in see([*PROGRAM, "client", "show", identifier]).text
    with MailServer() as willing:
        monkeypatch.setenv("EGEC_MAIL_URL", willing.url)
        assert egec(*again).code == 0
        [kept] = willing.accepted
    assert kept.recipient == message_from_bytes(kept.content, policy=policy.default)["To"] == wire


def test_a_non_ascii_sender_pauses_a_run_and_mail_check_reports_it_before(
    egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    egec("client", "create", "jeanne@example.org")
    monkeypatch.setenv("EGEC_MAIL_FROM", "eGEC <été@egec.pro>")
    with MailServer(smtputf8=False) as strict:
        monkeypatch.setenv("EGEC_MAIL_URL", strict.url)
        found = findings(egec("mail", "check", "--format", "json"))["mail_server_letters"]
        assert found["verdict"] == "error"
        assert "EGEC_MAIL_FROM" in found["fix"]
        ended = egec("reissue", "start", "spring", "--all", "--yes")
        assert ended.code == 78
        assert "EGEC_MAIL_FROM" in ended.err
        assert strict.accepted == []
    with MailServer() as willing:
        monkeypatch.setenv("EGEC_MAIL_URL", willing.url)
        found = findings(egec("mail", "check", "--format", "json"))["mail_server_letters"]
        assert found["verdict"] == "ok"
        assert "offers 8BITMIME, SMTPUTF8" in found.values()
        assert egec("reissue", "resume", "spring").code == 0
        assert willing.accepted[0].sender == "été@egec.pro"


def test_a_quiet_check_still_prints_warnings_and_faults(egec: Egec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGEC_MAIL_URL", "sendmail:/no/such/program")
    ended = egec("--quiet", "mail", "check")
    assert (ended.code, ended.out) == (78, "")
    assert ended.err.startswith("egec: mail_program: error: /no/such/program")
