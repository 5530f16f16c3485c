"""A client's whole story, in order: how the file came about, its changes, its mails and its logins."""

import json
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from egec_cli import clock
from egec_cli.accounts import mails
from egec_cli.accounts.egec import Egec
from egec_cli.accounts.mails import MailRecord
from egec_cli.store.database import rfc3339_text, streamed
from egec_cli.store.models import Client, Event

LAST = 50
_ISSUE = "credential.issue"


class StoryEntry(NamedTuple):
    """Something that happened to a client.

    Attributes:
        at: when, as RFC 3339 in UTC.
        what: what was done, such as `client.create` or `login`.
        outcome: how it ended, a stable word.
        by: the user of the operating system who did it, or for whom a program did; None where it was not recorded.
        details: more of it; of a mail: its `sequence`, `state` at present, `message_id`, `server_reply`, `failure` and
            `bounce`.
    """

    at: str
    what: str
    outcome: str
    by: str | None
    details: dict[str, Any]


class Story(NamedTuple):
    """What happened to a client, the oldest first, and whether what came before it is left out."""

    entries: Sequence[StoryEntry]
    is_cut: bool


def of(egec: Egec, client: Client, *, most: int | None = LAST) -> Story:
    """Return the last of what happened to a client, or all of it where `most` is None."""
    # One more than is shown tells that there is more.
    limit = None if most is None else most + 1
    issued = mails.last_of(egec, client, most=limit)
    by_sequence = {mail.sequence: mail for mail in issued}
    entries = [_with_mail(entry, by_sequence) for entry in _events(client, limit)]
    settled = {entry.details.get("sequence") for entry in entries if entry.what == _ISSUE}
    if limit is None or len(entries) < limit:
        entries += _beginning(client, entries)
    oldest = min((entry.at for entry in entries), default="")
    # What is under way, or was when its program crashed, has no event yet.
    entries += [
        _unsettled(mail)
        for mail in issued
        if mail.sequence not in settled and (limit is None or mail.issued_at > oldest)
    ]
    entries.sort(key=attrgetter("at"))
    if most is None or len(entries) <= most:
        return Story(entries, is_cut=False)
    return Story(entries[-most:], is_cut=True)


def _events(client: Client, limit: int | None) -> list[StoryEntry]:
    """Return the last events of a client, the oldest first."""
    query = (
        Event.select(rfc3339_text(Event.at), Event.action, Event.outcome, Event.actor, Event.details)
        .where(Event.client == client)
        .order_by(Event.id.desc())
        .limit(limit)
    )
    events = [StoryEntry._make((*row[:4], json.loads(row[4]))) for row in streamed(query)]
    return events[::-1]


def _beginning(client: Client, entries: Iterable[StoryEntry]) -> list[StoryEntry]:
    """Return how the file came about, where no event tells it: as after an import, or where old events are gone."""
    if any(entry.what in {"client.create", "client.import"} for entry in entries):
        return []
    return [StoryEntry(clock.rfc3339(client.created_at), "client.create", "created", None, {})]


def _with_mail(entry: StoryEntry, by_sequence: dict[int, MailRecord]) -> StoryEntry:
    mail = by_sequence.get(entry.details.get("sequence", 0)) if entry.what == _ISSUE else None
    return entry if mail is None else entry._replace(details=_details(mail))


def _unsettled(mail: MailRecord) -> StoryEntry:
    return StoryEntry(mail.issued_at, _ISSUE, mail.state, mail.issued_by, _details(mail))


def _details(mail: MailRecord) -> dict[str, Any]:
    names = ("sequence", "state", "bounce", "failure", "server_reply", "message_id")
    return {name: getattr(mail, name) for name in names if getattr(mail, name) is not None}
