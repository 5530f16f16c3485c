"""Generate realistic clients and organisations with Faker and a seed, and the expected content of their mails.

nice python -m tests.mail.generated        # 10,000 of both, in all kinds and languages, both ways: 100,000 mails
"""

import re
import sys
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.headerregistry import Address, HeaderRegistry
from email.message import EmailMessage
from functools import cache, lru_cache
from html import escape
from random import Random
from string import Template
from typing import NamedTuple

from faker import Faker

from egec_cli import email_address, password
from egec_cli.clients import fields
from egec_cli.credentials.issue import greeting_name
from egec_cli.mail.compose import message, template
from egec_cli.mail.compose.headers import parse_address_header, parse_header
from egec_cli.mail.compose.message import Mail, MailForm
from egec_cli.mail.compose.template import BUILT_IN, KINDS_OF_A_RUN, Kind, KindTemplates
from egec_cli.password import Alphabet, Password
from egec_cli.settings import load
from egec_cli.settings.types import LANGUAGES, Settings

COMBINATIONS = [(kind, language) for kind in Kind for language in LANGUAGES]
PARTICLES = [
    "d\u2019",
    "de ",
    "l\u2019",
    "N\u2019",
    "O'",
    "von ",
    "d'",
    "Saint-",
    "«\u00a0",
    "(",
    "& ",
    "=",
    "$",
    "%s ",
    "<b>",
    "\\",
]
ACCENTED = "éèêëàâçîïôùûüÿœæÉÈÊÀÇÎÔŒñöäåøßłžș"
SCRIPTS = ["Γιώργος", "\U0001f600", "محمد", "山田太郎", "Ирина", "김철수", "e\u0301", "\u0e17\u0e14"]
DOMAINS = [
    "été.example.fr",
    "straße.example",
    "例え.example",
    "παράδειγμα.example",
    "Example.ORG",
    "b\u00fccher.example",
]
# The standard library parses a header on each access, Content-Type forty times per mail. This cache halves the time.
READER = policy.default.clone(header_factory=lru_cache(maxsize=1_000)(HeaderRegistry()))


class Generated(NamedTuple):
    """The input of a mail: a client and a moment; `record` names the client if several share the address."""

    recipient: str
    name: str
    identifier: str
    password: Password
    at: datetime
    record: str = ""


class Generator:
    """Generates the same clients and organisations for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._faker = Faker("fr_FR")
        self._faker.seed_instance(seed)

    def client(self) -> Generated:
        """Return a client with realistic fields and a possible password."""
        civility = self._random.choice(["", "", *fields.CIVILITIES])
        first, last = self._words(self._faker.first_name()), self._words(self._faker.last_name())
        name = greeting_name(civility, fields.clean_line("first name", first), fields.clean_line("last name", last))
        return Generated(
            recipient=email_address.parse_email(self._address()).wire,
            name=self._random.choice([name, name, name, ""]),
            identifier=f"{self._random.randrange(10**9, 10**10)}",
            password=password.generate_password(Alphabet.create(lookalikes=True), self._random.choice),
            at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._random.randrange(10**8)),
            record=self._random.choice(["", "", self._reference()]),
        )

    def organisation(self) -> Settings:
        """Return the settings of an organisation."""
        found = {
            "EGEC_APP_NAME": self._words(self._faker.company())[:80],
            "EGEC_SUPPORT": f"{self._faker.job()} ({self._faker.phone_number()}), {self._faker.street_address()}",
            "EGEC_APP_URL": f"www.{self._faker.domain_name()}",
            "EGEC_MAIL_FROM": f"{self._display_name()} <{self._address()}>",
        }
        if self._random.random() < 0.5:
            found["EGEC_MAIL_REPLY_TO"] = f"{self._display_name()} <{self._address()}>"
        return load.load_settings(
            {name: " ".join(value.split(" ")).replace("=?", "=") for name, value in found.items()}
        )

    def _display_name(self) -> str:
        town = f"Régie d\u2019{self._faker.city()} et {self._faker.company()} (été)"
        name = self._random.choice([self._faker.company(), town, self._words(self._faker.catch_phrase())])
        return re.sub('[<>@,;:"]', "", name).strip()

    def _reference(self) -> str:
        return fields.clean_line("reference", self._words(self._faker.bothify("?-###")))

    def _words(self, text: str) -> str:
        kind = self._random.random()
        if kind < 0.2:
            text = self._random.choice(PARTICLES) + text
        elif kind < 0.3:
            text = f"{text} {self._random.choice(SCRIPTS)}"
        elif kind < 0.4:
            text = "".join(self._random.choice(ACCENTED) for _ in range(self._random.randrange(1, 51)))
        return " ".join(text.split()).replace("=?", "=")

    def _address(self) -> str:
        address = str(self._faker.email())
        local, _, domain = address.partition("@")
        kind = self._random.random()
        if kind < 0.1:
            place = self._random.randrange(len(local))
            local = local[:place] + self._random.choice(ACCENTED) + local[place:]
        elif kind < 0.2:
            domain = self._random.choice(DOMAINS)
        elif kind < 0.3:
            local += self._random.choice(["+x", "-y", "_z", "'s", "{a}", "%b", "!", "=c", "." + "l" * 40])
        return f"{local[:64].rstrip('.')}@{domain}"


def by_itself(found: Settings, kind: Kind, language: str, client: Generated) -> Mail:
    """Return a mail as commands build it for one client."""
    if kind is Kind.ADDRESS_CHANGED:
        return message.address_changed_mail(
            found, recipient=client.recipient, language=language, name=client.name, changed_at=client.at
        )
    if kind is Kind.CLOSING:
        return message.closing_mail(
            found,
            recipient=client.recipient,
            language=language,
            name=client.name,
            identifier=client.identifier,
            closes_at=client.at + timedelta(days=30),
            sent_at=client.at,
        )
    if kind is Kind.CREDENTIALS:
        return message.credentials_mail(
            found,
            recipient=client.recipient,
            language=language,
            name=client.name,
            identifier=client.identifier,
            password=client.password,
            issued_at=client.at,
            record=client.record,
        )
    said = KindTemplates.find(found, kind, language).fill(
        template.all_values(
            found,
            kind,
            language,
            name=client.name,
            identifier=client.identifier,
            password=client.password,
            sentence="",
            at=client.at,
            record=client.record,
        )
    )
    return message.finish_mail(found, said, client.recipient, client.at)


def by_form(form: MailForm, client: Generated) -> Mail:
    """Return a mail as runs build it."""
    return form.fill(
        recipient=client.recipient,
        name=client.name,
        identifier=client.identifier,
        password=client.password,
        issued_at=client.at,
        message_id=form.new_message_id(7),
        record=client.record,
    )


def require_as_it_was_meant(mail: Mail, found: Settings, kind: Kind, language: str, client: Generated) -> None:
    """Require that a mail program reads exactly the input of a mail, and that its lines are harmless."""
    parsed = message_from_bytes(mail.content, policy=READER)
    assert not parsed.defects
    subject, text, page = _said(found, kind, language, client)
    _require_headers(mail, parsed, found, subject, client)
    assert _body(parsed, "plain") == text
    assert _body(parsed, "html") == page
    lines = mail.content.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert not {*range(32), 127} - {*b"\t"} & {*b"".join(lines)}
    head, _, body = mail.content.partition(b"\r\n\r\n")
    assert body.isascii()
    assert head.isascii() is not mail.needs_smtputf8
    assert mail.recipient == client.recipient


def _require_headers(mail: Mail, parsed: EmailMessage, found: Settings, subject: str, client: Generated) -> None:
    expected = {"From": _address(found.mail_from), "To": client.recipient, "Subject": subject}
    if found.mail_reply_to:
        expected["Reply-To"] = _address(found.mail_reply_to)
    assert [name for name in parsed if name in {*expected, "Reply-To", "Cc", "Bcc"}] == list(expected)
    assert parsed["Subject"] == subject
    assert parsed["To"] == client.recipient
    assert _addresses(parsed, "To") == [client.recipient]
    assert parsed["Message-ID"] == mail.message_id
    assert parsed["Date"].datetime == client.at
    unfolded = parse_header(mail.content)
    for name in expected.keys() & {"From", "Reply-To"}:
        wanted = expected[name]
        assert isinstance(wanted, Address)
        assert parse_address_header(unfolded[name]) == wanted
        assert _addresses(parsed, name) == [wanted.addr_spec]
        [read] = parsed[name].addresses
        # This reader keeps the blank between two encoded words, against RFC 2047, 6.2.
        assert read.display_name.replace(" ", "") == wanted.display_name.replace(" ", "")
        if unfolded[name].count("=?utf-8?") <= 1:
            assert read.display_name == wanted.display_name
    for line in mail.content.partition(b"\r\n\r\n")[0].decode().split("\r\n"):
        # An address cannot be folded.
        assert len(line) <= 78 or "@" in line


def _addresses(parsed: EmailMessage, name: str) -> list[str]:
    # This reader keeps non-ASCII text (RFC 6532) as octets.
    return [one.addr_spec.encode(errors="surrogateescape").decode() for one in parsed[name].addresses]


def _address(setting: str) -> Address:
    display_name, _, rest = setting.rpartition("<")
    local_part, _, domain = email_address.parse_email(rest.removesuffix(">")).wire.rpartition("@")
    return Address(display_name.strip(), local_part, domain)


def _body(parsed: EmailMessage, kind: str) -> str:
    part = parsed.get_body((kind,))
    assert part is not None
    assert not part.defects
    return str(part.get_content()).replace("\r\n", "\n").rstrip("\n")


def _said(found: Settings, kind: Kind, language: str, client: Generated) -> tuple[str, str, str]:
    """Return subject, text and page, filled in by the standard library alone."""
    greeting = _template(f"greeting.{language}.txt").substitute(name=client.name).strip()
    values = {
        "greeting": greeting if client.name else _template(f"greeting-unnamed.{language}.txt").template.strip(),
        "identifier": client.identifier,
        "password": client.password.reveal(),
        "sentence": _template(f"reissue-sentence.{language}.txt").template.strip(),
        "issued_at": template.format_time(found, client.at, language),
        "changed_at": template.format_time(found, client.at, language),
        "expiry": template.format_expiry(found, client.at, language),
        "closing_date": re.split(" (?:à|at) ", template.format_time(found, client.at + timedelta(days=30), language))[
            0
        ],
        "app_name": found.app_name,
        "app_url": found.app_url,
        "support": found.support,
        "shared": _template(f"shared.{language}.txt").substitute(record=client.record).strip(),
    }
    is_shared = bool(client.record)
    subject, _, text = _template(f"{kind}.{language}.txt", is_shared).substitute(values).partition("\n\n")
    escaped = {name: escape(value) for name, value in values.items()}
    page = _template(f"{kind}.{language}.html", is_shared).substitute(escaped)
    # A name of blanks may end the subject, where a header has none.
    return subject.removeprefix("Subject: ").strip(), text.rstrip("\n"), page.rstrip("\n")


@cache
def _template(name: str, is_shared: bool = False) -> Template:
    text = (BUILT_IN / name).read_text(encoding="utf-8")
    # The mail of a single client has no sentence; most clients have an address of their own.
    absent = [*(["sentence"] if name.startswith("credentials.") else []), *([] if is_shared else ["shared"])]
    for placeholder in absent:
        for paragraph in (f"${placeholder}\n\n", f"<p>${placeholder}</p>\n"):
            text = text.replace(paragraph, "")
    return Template(text)


def main() -> None:
    """Build and read the mails of 10,000 clients and organisations, in each kind and language, both ways."""
    generator = Generator(seed=int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    mails = 0
    for number in range(10_000):
        client, found = generator.client(), generator.organisation()
        for kind, language in COMBINATIONS:
            require_as_it_was_meant(by_itself(found, kind, language, client), found, kind, language, client)
            mails += 1
            if kind in KINDS_OF_A_RUN:
                form = MailForm(found, language, kind)
                require_as_it_was_meant(by_form(form, client), found, kind, language, client)
                mails += 1
        if number % 100 == 99:
            print(f"{number + 1} clients, {mails} mails", flush=True)


if __name__ == "__main__":
    main()
