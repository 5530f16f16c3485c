"""Preview a run: who would get which mail, how long it would take, and what the mails say."""

import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from egec_cli.clients import fields, records
from egec_cli.clients.records import ClientRecord, ClientStatus
from egec_cli.clients.select import Selected
from egec_cli.context import Context
from egec_cli.credentials import shared_emails, validity
from egec_cli.credentials.quotas import RunLimits, expected_duration, find_next_departure
from egec_cli.hashing import hash_password
from egec_cli.mail.compose.sample import render_as_text
from egec_cli.mail.compose.template import KINDS_OF_A_RUN, Kind
from egec_cli.mail.transports.interface import DeliveryRefused, Transport
from egec_cli.password import generate_password
from egec_cli.reissue import settle
from egec_cli.settings.types import Rate
from egec_cli.store.models import Client, ItemState, ReissueItem, ReissueRun
from egec_cli.store.sql import stream_rows


class PlannedRecord(NamedTuple):
    """A client who would get a mail, and which one."""

    identifier: str
    email: str | None
    reference: str | None
    civility: str
    first_name: str
    last_name: str
    language: str
    status: ClientStatus
    last_sequence: int
    last_login_at: str | None
    created_at: str
    valid_from: str | None
    valid_until: str | None
    mail: Literal[Kind.CREDENTIALS, Kind.REISSUE]


# The meanings of the shared fields stand in one place.
PlannedRecord.__doc__ = (
    f"{ClientRecord.__doc__}    mail: the kind of mail: `credentials` if no password was ever accepted or imported,"
    " otherwise `reissue`.\n"
)


class RemainingClients(Selected):
    """The clients of an existing run who have not been mailed, as a query; after a retry, also those who failed."""

    def __init__(self, run: ReissueRun, *, with_failed: bool = False) -> None:
        self._run = run
        self._named = None
        self._finished = [ItemState.ACCEPTED, ItemState.SENT, *([] if with_failed else [ItemState.FAILED])]

    def query(self, *columns: Any) -> Any:
        """Return the query for these columns, in the order of the run."""
        is_left = ReissueItem.state.not_in(self._finished)
        items = Client.select(*columns).join(ReissueItem)
        return items.where((ReissueItem.run == self._run) & is_left).order_by(ReissueItem.id)


class RunPreview(NamedTuple):
    """The measurements of a run and a sample of its mails.

    Attributes:
        mails: the number of mails of each kind.
        hash_seconds: how long one hash takes on one core.
        mail_seconds: about how long one mail takes on one connection; None if the server is unavailable.
        seconds: about how long the run takes.
        rate: the quotas of mails.
        bounced: the number of clients whose address has bounced a mail.
        sample: the plain text of a mail of the kind that most clients would get, with a made-up password.
        fault: why no mail would leave now.
    """

    mails: Mapping[Kind, int]
    hash_seconds: float
    mail_seconds: float | None
    seconds: float
    rate: Rate
    bounced: int
    sample: str
    fault: str | None


def list_planned_clients(context: Context, selected: Selected) -> Iterator[PlannedRecord]:
    """Yield the clients who would get a mail, one at a time."""
    now = validity.local_moment(context)
    columns = records.record_columns(now)
    for *row, active_sequence in stream_rows(selected.query(*columns, Client.active_sequence)):
        yield PlannedRecord._make((*records.row_to_record(tuple(row), now), settle.kind_for(active_sequence)))


def preview_run(
    context: Context, selected: Selected, transport: Transport, *, rate: Rate | None, sentence: str = ""
) -> RunPreview:
    """Count the mails of a run, measure how long they take, and render one of the most frequent kind.

    A mail needs about as many answers of the server as connecting does, so it is estimated to take as long.

    Raises:
        InvalidInput: the sentence is invalid.
        ConfigError: a template is faulty, or clients share an e-mail although EGEC_SHARED_EMAIL is no.
    """
    shared_emails.require_allowed(context)
    settings = context.settings
    forms = settle.prepare_forms(settings, fields.clean_sentence(sentence) if sentence else "")
    total, first = selected.count(), selected.count_without_password()
    mails = dict(zip(KINDS_OF_A_RUN, (first, total - first), strict=True))
    most_frequent = max(mails, key=mails.__getitem__)
    sample = render_as_text(forms[most_frequent, settings.language].sample(context.clock()))
    start = time.perf_counter()
    hash_password(generate_password(settings.alphabet), settings.bcrypt_cost)
    hash_seconds = time.perf_counter() - start
    mail_seconds, fault = _time_to_connect(transport)
    rate = settings.mail_rate if rate is None else rate
    limits, at = RunLimits(rate, settings.mail_reserve), context.clock()
    wait = find_next_departure(limits, at, only_read=True) - at if limits.is_limited else timedelta()
    seconds = wait.total_seconds() + max(
        total * hash_seconds / settings.workers,
        total * (mail_seconds or 0) / settings.mail_connections,
        expected_duration(limits, total, at),
    )
    return RunPreview(mails, hash_seconds, mail_seconds, seconds, rate, selected.count_bounced(), sample, fault)


def _time_to_connect(transport: Transport) -> tuple[float | None, str | None]:
    start = time.perf_counter()
    try:
        transport.connect()
    except DeliveryRefused as refusal:
        return None, refusal.error.message
    finally:
        taken = time.perf_counter() - start
        transport.close()
    return taken, None
