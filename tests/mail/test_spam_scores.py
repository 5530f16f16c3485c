"""The scores of spam filters: no rule counts against a mail, for any client."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple

import pytest
from faker import Faker

from egec_cli import email_address, password
from egec_cli.credentials import issue
from egec_cli.mail.compose.message import Mail, MailForm, address_changed_mail, closing_mail
from egec_cli.mail.compose.template import KINDS_OF_A_RUN, Kind
from egec_cli.settings import load
from egec_cli.settings.types import LANGUAGES
from tests.mail.spam_filters import Rspamd, as_received, by_spamassassin, running_rspamd

# Each filter is started once.
pytestmark = pytest.mark.xdist_group("spam filters")

CLIENTS = 80
KINDS = list(itertools.product(Kind, LANGUAGES))
# As in the README: reports come back to the sender's own address.
SETTINGS = {"EGEC_MAIL_URL": "maildir:mail", "EGEC_MAIL_BOUNCES": "ne-pas-repondre@egec.pro"}
# SpamAssassin takes these names for disguised English words. It accepts mails below 5.0.
TAKEN_FOR_WORDS = {"Vallet": "FUZZY_WALLET"}
HEADERS_THAT_FILTERS_MISS = (b"Date: ", b"Message-ID: ")


class Sample(NamedTuple):
    """A mail for one client, and its content on arrival."""

    kind: Kind
    language: str
    name: str
    mail: Mail
    received: bytes


@pytest.fixture
def samples() -> list[Sample]:
    """Return mails of each kind in each language, for the same clients in every run."""
    found, now, random = load.load_settings(SETTINGS), datetime.now(UTC).replace(microsecond=0), Random(7)
    french = Faker("fr_FR")
    french.seed_instance(7)
    forms = {(kind, language): MailForm(found, language, kind) for kind, language in KINDS if kind in KINDS_OF_A_RUN}
    made = []
    for number, (kind, language) in zip(range(CLIENTS), itertools.cycle(KINDS), strict=False):
        recipient = email_address.parse_email(random.choice([french.free_email, french.company_email])()).wire
        last_name = random.choice([french.last_name, french.last_name, french.company])()
        name = issue.greeting_name(random.choice(["M.", "Mme", ""]), "", random.choice([last_name] * 19 + [""]))
        if kind is Kind.ADDRESS_CHANGED:
            mail = address_changed_mail(found, recipient=recipient, language=language, name=name, changed_at=now)
        elif kind is Kind.CLOSING:
            mail = closing_mail(
                found,
                recipient=recipient,
                language=language,
                name=name,
                identifier=str(random.randrange(10**9, 10**10)),
                closes_at=now + timedelta(days=30),
                sent_at=now,
                client=number + 1,
            )
        else:
            form = forms[kind, language]
            mail = form.fill(
                recipient=recipient,
                name=name,
                identifier=str(random.randrange(10**9, 10**10)),
                password=password.generate_password(found.alphabet, random.choice),
                issued_at=now,
                message_id=form.new_message_id(number + 1),
            )
        made.append(Sample(kind, language, name, mail, as_received(mail, now)))
    return made


@pytest.fixture(scope="module")
def rspamd() -> Iterator[Rspamd]:
    """Start rspamd."""
    with running_rspamd() as running:
        yield running


def without(header: bytes, received: bytes) -> bytes:
    return b"\r\n".join(line for line in received.split(b"\r\n") if not line.startswith(header))


def test_spamassassin_finds_nothing_against_any_mail(samples: list[Sample]) -> None:
    worse = [without(header, samples[0].received) for header in HEADERS_THAT_FILTERS_MISS]
    *verdicts, without_date, without_id = by_spamassassin([*(sample.received for sample in samples), *worse])
    assert without_date.score > 0, "the filter finds nothing at all"
    assert without_id.score > 0, "the filter finds nothing at all"
    against = [(sample, verdict) for sample, verdict in zip(samples, verdicts, strict=True) if verdict.score > 0]
    for sample, verdict in against:
        rules = [rule for name, rule in TAKEN_FOR_WORDS.items() if name in sample.name]
        assert any(rule in verdict.rules for rule in rules), (sample.kind, sample.language, sample.name, verdict)
        assert verdict.score <= 1
    assert len(against) <= CLIENTS / 50


def test_rspamd_finds_nothing_against_any_mail(samples: list[Sample], rspamd: Rspamd) -> None:
    for header in HEADERS_THAT_FILTERS_MISS:
        verdict = rspamd.verdict(samples[0].mail, without(header, samples[0].received))
        assert verdict.score > 0, "the filter finds nothing at all"
    verdicts = [(sample.kind, sample.language, rspamd.verdict(sample.mail, sample.received)) for sample in samples]
    assert [found for found in verdicts if found[2].score > 0] == []


def test_the_samples_are_of_every_kind_and_language(samples: list[Sample]) -> None:
    assert {(sample.kind, sample.language) for sample in samples} == set(KINDS)
