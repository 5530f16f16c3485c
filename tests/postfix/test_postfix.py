"""Debian's postfix between egec and the mailboxes: mails arrive unchanged, and bounces are found."""

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from faker import Faker

from egec_cli import password
from egec_cli.mail.compose.message import Mail, MailForm, address_changed_mail, closing_mail
from egec_cli.mail.compose.template import Kind
from egec_cli.mail.lint.html import Page
from egec_cli.mail.transports import choose
from egec_cli.settings.types import LANGUAGES
from tests.activations import letter
from tests.callers.service_account import as_service_account, give, within_service_account
from tests.callers.site import CHECKOUT, Site
from tests.conftest import Ended
from tests.manual.blocks import executed_by
from tests.postfix.server import Postfix, parsed, running_postfix

# One server serves them all, on one worker.
pytestmark = pytest.mark.xdist_group("postfix")

PIPE, MAILDIR = executed_by("tests/postfix/test_postfix.py")
SENDER = "ne-pas-repondre@egec.pro"
UNKNOWN_USERS = ["nobody-here", "gone", "left-in-2019", "typo", "x.y"]
# The names of headers that a mail gets on its way.
TRACES = {"Return-Path", "X-Original-To", "Delivered-To", "Received"}


class House(NamedTuple):
    """An installation of egec beside a mail server, owned by the account that gets the bounces."""

    postfix: Postfix
    site: Site

    def egec(self, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Ended:
        """Run `egec` as a process of that account."""
        command = as_service_account([sys.executable, "-m", "egec_cli", *arguments])
        surroundings = {"EGEC_ENV_FILE": str(self.site.env_file), "PYTHONPATH": str(CHECKOUT)}
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **surroundings, **(env or {})},
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def run_json(self, *arguments: str, env: Mapping[str, str] | None = None) -> Any:
        """Run `egec` and return its JSON."""
        ended = self.egec(*arguments, "--format", "json", env=env)
        assert ended.code == 0, ended
        return json.loads(ended.out)

    def client(self, email: str, *names: str, env: Mapping[str, str] | None = None) -> str:
        """Create and activate a client; return the identifier."""
        return str(self.run_json("client", "create", email, *names, "--activate", env=env)["identifier"])

    def mails_to(self, *addresses: str) -> list[bytes]:
        """Wait until each address has a mail, and return these mails."""
        found: dict[str, bytes] = {}

        def all_there() -> bool:
            found.update({parsed(content)["X-Original-To"]: content for content in self.postfix.mails()})
            return found.keys() >= set(addresses)

        self.postfix.wait(all_there, f"mails to {', '.join(addresses)}")
        return [found[address] for address in addresses]

    def has_bounced(self, identifier: str) -> bool:
        """Return whether a mail to the client's address bounced."""
        return self.run_json("client", "show", identifier)["email_bounced_at"] is not None

    def last_mail_failed(self) -> set[str]:
        """Return the addresses of the clients whose last mail failed."""
        return set(
            self.egec("client", "list", "--last-mail-failed", "--format", "ids", "--fields", "email").out.split()
        )

    def forward_bounces_to_egec(self) -> None:
        """Write `.forward+bounces` as the README has it, with the paths of this installation."""
        assert "\nne-pas-repondre: egec+bounces\n" in PIPE.text
        line = re.search(r'^# ~egec/\.forward\+bounces\n(".*")$', PIPE.text, flags=re.MULTILINE)
        assert line is not None
        here = line[1].replace("/opt/egec/bin/egec", str(self.site.folder / "egec"))
        here = here.replace("/etc/egec/egec.env", str(self.site.env_file))
        assert str(self.site.folder) in here
        self.postfix.forward_bounces(here)

    def forward_bounces_to(self, maildir: Path) -> None:
        """Write `.forward+bounces` as the README has it, so that this Maildir keeps the reports."""
        line = MAILDIR.text.splitlines()[-1]
        assert line == "/var/lib/egec/bounces/"
        self.postfix.forward_bounces(line.replace("/var/lib/egec/bounces", str(maildir)))


@pytest.fixture(scope="module")
def postfix() -> Iterator[Postfix]:
    """Start the mail server."""
    with running_postfix() as running:
        yield running


@pytest.fixture
def house(postfix: Postfix, tmp_path: Path) -> House:
    """Return a new installation beside the mail server, whose account owns it."""
    folder = postfix.folder / tmp_path.name
    folder.mkdir()
    site = Site.made_in(folder)
    with site.env_file.open("a") as env_file:
        env_file.write(f"EGEC_MAIL_URL=smtp://127.0.0.1:{postfix.port}\nEGEC_MAIL_BOUNCES={SENDER}\n")
    give(folder)
    site.program("egec", within_service_account([sys.executable, "-m", "egec_cli"], folder))
    return House(postfix, site)


def headers_of_its_own(mail: EmailMessage) -> dict[str, str]:
    return {name: str(value) for name, value in mail.items() if name not in TRACES}


def words(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content())


def test_an_activated_client_reads_what_was_written_and_logs_in_with_it(house: House) -> None:
    name = "d\u2019" + "éÀçÿŒ" * 10
    identifier = house.client("jeanne+reads@example.org", "--civility", "Mme", "--last-name", name)
    (content,) = house.mails_to("jeanne+reads@example.org")
    mail, sent = parsed(content), house.run_json("client", "show", identifier)["mails"][0]
    date = mail["Date"].datetime
    assert headers_of_its_own(mail) == {
        "From": f"eGEC <{SENDER}>",
        "To": "jeanne+reads@example.org",
        "Subject": "Votre identifiant et votre mot de passe eGEC",
        "Date": str(mail["Date"]),
        "Message-ID": sent["message_id"],
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "DR, RN, NRN, OOF, AutoReply",
        "MIME-Version": "1.0",
        "Content-Type": str(mail["Content-Type"]),
    }
    # A busy machine may take a while between the two.
    assert abs((date - datetime.fromisoformat(sent["issued_at"])).total_seconds()) <= 5
    mark = sent["message_id"].strip("<>").partition("@")[0]
    assert mail["Return-Path"] == f"<ne-pas-repondre+{mark}@egec.pro>"

    assert words(mail, "plain").startswith(f"Mme {name}, bonjour,\n")
    shown = " ".join(word.text for word in Page(words(mail, "html")).words)
    assert shown.replace("\u00a0", " ").split() == [
        word for word in words(mail, "plain").replace("\u00a0", " ").split() if word != "-"
    ]

    received = letter(content)
    assert received.identifier == identifier
    assert house.egec("verify", "--stdin", stdin=f"{identifier}\n{received.password}\n").code == 0


def test_each_kind_of_mail_arrives_to_the_byte_as_it_left(house: House) -> None:
    found, random = house.site.settings(), Random(7)
    french = Faker("fr_FR")
    french.seed_instance(7)
    mails: list[Mail] = []
    kinds = list(itertools.product(Kind, LANGUAGES))
    for number in range(60):
        kind, language = kinds[number % len(kinds)]
        recipient = f"jeanne+byte{number}@example.org"
        name = random.choice(["", french.name(), french.company(), "é" * 50, f".\u2026 {french.name()}"])
        if kind is Kind.ADDRESS_CHANGED:
            mails.append(
                address_changed_mail(
                    found, recipient=recipient, language=language, name=name, changed_at=datetime.now(UTC)
                )
            )
            continue
        if kind is Kind.CLOSING:
            mails.append(
                closing_mail(
                    found,
                    recipient=recipient,
                    language=language,
                    name=name,
                    identifier=f"{random.randrange(10**9, 10**10)}",
                    closes_at=datetime.now(UTC),
                    sent_at=datetime.now(UTC),
                )
            )
            continue
        form = MailForm(found, language, kind)
        mails.append(
            form.fill(
                recipient=recipient,
                name=name,
                identifier=f"{random.randrange(10**9, 10**10)}",
                password=password.generate_password(found.alphabet, random.choice),
                issued_at=datetime.now(UTC),
                message_id=form.new_message_id(number),
            )
        )
    by = choose.open_transport(found)
    for mail in mails:
        by.deliver(mail)
    by.close()
    arrived = house.mails_to(*(mail.recipient for mail in mails))
    for mail, content in zip(mails, arrived, strict=True):
        # Before the mail are the lines that the server writes.
        assert content.endswith(b"\n" + mail.content.replace(b"\r\n", b"\n"))
        assert {*parsed(content)} - {*parsed(mail.content)} == TRACES


def test_the_connection_is_encrypted_if_the_settings_require_it(house: House) -> None:
    url = f"smtp://localhost:{house.postfix.port}?tls=required&ca={house.postfix.authority}"
    house.client("jeanne+tls@example.org", env={"EGEC_MAIL_URL": url})
    (content,) = house.mails_to("jeanne+tls@example.org")
    assert " with ESMTPS id " in parsed(content)["Received"]


def test_an_address_beyond_ascii_gets_its_mail(house: House) -> None:
    identifier = house.client("élodie@example.org")
    (content,) = house.mails_to("élodie@example.org")
    assert letter(content).identifier == identifier


def test_mail_handed_to_the_sendmail_of_postfix_arrives(house: House, tmp_path: Path) -> None:
    # As root: postfix lets no other user name a folder of settings. So this installation is not that account's.
    site = Site.made_in(tmp_path)
    env = {
        **os.environ,
        "EGEC_ENV_FILE": str(site.env_file),
        "EGEC_MAIL_URL": "sendmail:/usr/sbin/sendmail",
        "EGEC_MAIL_BOUNCES": SENDER,
        "MAIL_CONFIG": str(house.postfix.config),
        "PYTHONPATH": str(CHECKOUT),
    }
    command = ["client", "create", "jeanne+sendmail@example.org", "--activate", "--format", "json"]
    done = subprocess.run([sys.executable, "-m", "egec_cli", *command], capture_output=True, env=env, timeout=60)
    assert done.returncode == 0, done
    (content,) = house.mails_to("jeanne+sendmail@example.org")
    received = letter(content)
    assert received.identifier == json.loads(done.stdout)["identifier"]
    assert parsed(content)["Return-Path"].startswith("<ne-pas-repondre+")


def test_an_immediate_refusal_is_reported_immediately(house: House) -> None:
    strict = {"EGEC_MAIL_URL": f"smtp://127.0.0.1:{house.postfix.strict_port}"}
    house.client("jeanne+strict@example.org", env=strict)
    ended = house.egec("client", "create", "gone@example.org", "--activate", "--format", "json", env=strict)
    assert ended.code == 65
    error = json.loads(ended.err)["error"]
    assert error["code"] == "mail_refused"
    assert "550 5.1.1 <gone@example.org>: Recipient address rejected: User unknown" in error["message"]
    assert house.last_mail_failed() == {"gone@example.org"}


def test_a_report_in_a_maildir_is_found_and_marks_the_mail_and_the_address(house: House) -> None:
    maildir = house.site.folder / "bounces"
    house.forward_bounces_to(maildir)
    identifier = house.client("gone@example.org")
    house.client("jeanne+maildir@example.org")
    house.postfix.wait(lambda: (maildir / "new").is_dir() and any((maildir / "new").iterdir()), "the report")
    assert not house.has_bounced(identifier)

    (record,) = house.run_json("mail", "bounces", str(maildir), "--move")
    assert {**record, "file": "", "line": 0} == {
        "identifier": identifier,
        "file": "",
        "line": 0,
        "outcome": "marked",
        "sequence": 1,
        "address": "gone@example.org",
        "status": "5.1.1",
        "reason": 'unknown user: "gone"',
    }
    shown = house.run_json("client", "show", identifier)
    assert shown["email_bounced_at"] is not None
    assert shown["mails"][0]["state"] == "accepted"
    assert shown["mails"][0]["bounce"] == '5.1.1 unknown user: "gone"'
    assert house.last_mail_failed() == {"gone@example.org"}
    # The message was moved, and reading it again changes nothing.
    assert house.run_json("mail", "bounces", str(maildir), "--move") == []
    assert [one["outcome"] for one in house.run_json("mail", "bounces", str(maildir))] == ["known"]


def test_a_report_piped_in_as_the_readme_says_marks_the_mail(house: House) -> None:
    house.forward_bounces_to_egec()
    identifier = house.client("gone@example.org")
    house.postfix.wait(lambda: house.has_bounced(identifier), "the mark")
    assert house.last_mail_failed() == {"gone@example.org"}


def test_a_report_is_kept_by_postfix_until_egec_can_work_again(house: House) -> None:
    house.forward_bounces_to_egec()
    # A fault that ends with 78, not with 75: the command is called with a setting that is wrong.
    script = house.site.folder / "egec"
    whole = script.read_text()
    script.write_text(whole.replace("exec ", "export EGEC_BCRYPT_COST=many\nexec ", 1))
    identifier = house.client("gone@example.org")
    house.postfix.wait(lambda: "status=deferred (temporary failure. Command output: egec:" in house.postfix.log(), "78")
    assert "EGEC_BCRYPT_COST" in house.postfix.log()
    assert not house.has_bounced(identifier)
    script.write_text(whole)
    house.postfix.control("postqueue", "-f")
    house.postfix.wait(lambda: house.has_bounced(identifier), "the mark")


def test_a_run_for_fifty_clients_finds_the_five_who_are_unknown(house: House) -> None:
    house.forward_bounces_to_egec()
    known = [f"jeanne+run{number}@example.org" for number in range(45)]
    unknown = [f"{user}@example.org" for user in UNKNOWN_USERS]
    table = "".join(f"{email},Mme,Noël\n" for email in sorted([*known, *unknown]))
    ended = house.egec("client", "import", "-", stdin=f"email,civility,last_name\n{table}")
    assert ended.code == 0, ended

    run = house.run_json("reissue", "start", "spring", "--all", "--yes")
    assert (run["total"], run["accepted"], run["failed"], run["remaining"]) == (50, 50, 0, 0)
    received = [letter(content) for content in house.mails_to(*known)]
    logins = "".join(f"{one.identifier},{one.password}\n" for one in received)
    assert house.egec("verify", "--batch", "-", stdin=logins).code == 0
    house.postfix.wait(lambda: house.last_mail_failed() == set(unknown), "five marks")

    # Once their addresses are corrected, a run for those whose last mail failed reaches them.
    for number, email in enumerate(unknown):
        house.run_json("client", "update", email, "--email", f"jeanne+corrected{number}@example.org")
    again = house.run_json("reissue", "start", "again", "--last-mail-failed", "--yes")
    assert (again["total"], again["accepted"]) == (5, 5)
    house.mails_to(*(f"jeanne+corrected{number}@example.org" for number in range(5)))
    assert house.last_mail_failed() == set()
