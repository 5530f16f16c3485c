"""Thousands of generated clients and organisations: each mail is read as intended, whichever way it is built."""

from datetime import UTC, datetime
from functools import cache

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli import email_address
from egec_cli.clients import fields
from egec_cli.errors import ConfigError, InvalidInput
from egec_cli.mail.compose.message import MailForm
from egec_cli.mail.compose.template import KINDS_OF_A_RUN, Kind
from egec_cli.password import Password
from egec_cli.settings import load
from egec_cli.settings.types import LANGUAGES, Settings
from tests.conftest import is_deep
from tests.mail.generated import COMBINATIONS, Generated, Generator, by_form, by_itself, require_as_it_was_meant

CHUNKS, GROUP = 20, 50
CLIENTS = 10_000 if is_deep() else 1_000
FORMS: list[tuple[Kind, str]] = [(kind, language) for kind, language in COMBINATIONS if kind in KINDS_OF_A_RUN]


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_clients_read_what_was_meant_for_them(chunk: int) -> None:
    generator = Generator(chunk)
    for _ in range(CLIENTS // CHUNKS // GROUP):
        of_a_run = generator.organisation()
        forms = {(kind, language): MailForm(of_a_run, language, kind) for kind, language in FORMS}
        for number in range(GROUP):
            client = generator.client()
            kind, language = FORMS[number % len(FORMS)]
            mail = by_form(forms[kind, language], client)
            require_as_it_was_meant(mail, of_a_run, kind, language, client)
            if number % 5 == 0:
                kind, language = COMBINATIONS[number // 5 % len(COMBINATIONS)]
                found = generator.organisation()
                mail = by_itself(found, kind, language, client)
                require_as_it_was_meant(mail, found, kind, language, client)


ODD = st.sampled_from("=?_$%<>&\\'().-+é\u0153\u2019\u00a0\u200d ")
ANY = st.characters(exclude_categories=["C", "Zl", "Zp"])


@st.composite
def clients(draw: st.DrawFn) -> Generated:
    """Draw any valid client."""
    local = draw(st.text(st.sampled_from("abcDEF059.+_'-éèßñ\u0153ж山"), min_size=1, max_size=64))
    domain = draw(st.sampled_from(["example.org", "été.example.fr", "x--y.co.uk", "straße.example", "d" * 60 + ".fr"]))
    try:
        name = fields.clean_line("last name", draw(st.text(ANY | ODD, max_size=100)))
        recipient = email_address.parse_email(f"{local}@{domain}").wire
    except InvalidInput:
        hypothesis.reject()
    at = draw(st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC)))
    record = draw(st.sampled_from(["", name]))
    return Generated(recipient, name, "9876543210", Password("fG69a*6jH"), at.replace(microsecond=0), record)


@st.composite
def organisations(draw: st.DrawFn) -> Settings:
    """Draw any valid organisation."""
    words = st.text(ANY | ODD, min_size=1, max_size=60)
    try:
        found = load.load_settings(
            {
                "EGEC_APP_NAME": draw(words),
                "EGEC_SUPPORT": draw(words),
                "EGEC_APP_URL": draw(words),
                "EGEC_MAIL_FROM": f"{draw(words).strip()} <ne-pas-repondre@egec.pro>",
                "EGEC_MAIL_REPLY_TO": f"{draw(words).strip()} <été@example.org>",
            }
        )
    except ConfigError:
        hypothesis.reject()
    return found


@cache
def form_of_the_usual(language: str, kind: Kind) -> MailForm:
    return MailForm(load.load_settings({}), language, kind)


@hypothesis.settings(max_examples=150)
@given(client=clients(), found=organisations(), kind=st.sampled_from(Kind), language=st.sampled_from(LANGUAGES))
def test_whatever_a_file_and_the_settings_take_is_read_as_it_was_meant(
    client: Generated, found: Settings, kind: Kind, language: str
) -> None:
    require_as_it_was_meant(by_itself(found, kind, language, client), found, kind, language, client)
    if kind in KINDS_OF_A_RUN:
        mail = by_form(form_of_the_usual(language, kind), client)
        require_as_it_was_meant(mail, load.load_settings({}), kind, language, client)


@pytest.mark.parametrize(
    "part", [b"To: ", b"Subject: ", b"From: e", b"Date: Tue, 24", b"Bonjour", b"CLIENT", b"</code>"]
)
def test_the_reader_sees_what_is_wrong(part: bytes) -> None:
    client = Generator(0).client()._replace(name="", at=datetime(2026, 11, 24, tzinfo=UTC))
    found, kind, language = load.load_settings({}), Kind.CREDENTIALS, "fr"
    mail = by_itself(found, kind, language, client)
    require_as_it_was_meant(mail, found, kind, language, client)
    changed = mail.content.replace(part, part[:-1] + b"x" + part[-1:], 1)
    assert changed != mail.content
    with pytest.raises(AssertionError):
        require_as_it_was_meant(mail._replace(content=changed), found, kind, language, client)


def test_a_name_of_fifty_accented_characters_is_in_both_parts_of_every_mail() -> None:
    name = "Société d\u2019Énergie et d\u2019Équipements Générés à Évreux"
    for text in ("é" * 50, "ÀÉÎÕÜ" * 10, name, "e\u0301" * 50, "œ\u2019" * 25):
        client = Generator(0).client()._replace(name=fields.clean_line("last name", text))
        for kind, language in COMBINATIONS:
            found = Generator(1).organisation()
            require_as_it_was_meant(by_itself(found, kind, language, client), found, kind, language, client)
            if kind in KINDS_OF_A_RUN:
                mail = by_form(MailForm(found, language, kind), client)
                require_as_it_was_meant(mail, found, kind, language, client)
