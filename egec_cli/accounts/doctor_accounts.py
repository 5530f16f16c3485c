"""The doctor looks at what is left to be done: mails of unknown fate, runs that stand still, clients without mail."""

from collections.abc import Iterator

from egec_cli.accounts import reissue
from egec_cli.accounts.credentials import MOST_OPEN
from egec_cli.accounts.egec import Egec
from egec_cli.accounts.findings import Finding, Verdict
from egec_cli.shell import quoted
from egec_cli.store import peewee
from egec_cli.store.database import tuples
from egec_cli.store.models import (
    OPEN_STATES,
    Client,
    Credential,
    CredentialState,
    ItemState,
    ReissueItem,
    ReissueRun,
    RunState,
)
from egec_cli.translation import Words

# A list that is longer is for another command to show.
_MOST_NAMED = 5


def open_credentials() -> Iterator[Finding]:
    """Yield how many mails are of unknown fate, and who can get no further one for having too many of them."""
    is_open = Credential.state.in_(OPEN_STATES)
    number = Credential.select().where(is_open).count()
    crowded = (
        Client.select(Client.identifier)
        .join(Credential)
        .where(is_open)
        .group_by(Client.id, Client.identifier)
        .having(peewee.fn.COUNT(Credential.id) >= MOST_OPEN)
    )
    identifiers = [identifier for (identifier,) in tuples(crowded.limit(_MOST_NAMED))]
    for identifier in identifiers:
        detail = Words(
            "client {identifier} has {number} mails of unknown fate, and gets no further one",
            identifier=identifier,
            number=MOST_OPEN,
        )
        yield Finding(
            "open_credentials",
            Verdict.WARNING,
            detail,
            f"egec activate {identifier} --revoke",
        )
    if not identifiers:
        detail = Words("{number} mails are of unknown fate; a login with one of them settles it", number=number)
        yield Finding("open_credentials", Verdict.OK, detail if number else Words("no mail is of unknown fate"), "")


def paused_runs(egec: Egec) -> Iterator[Finding]:
    """Yield the runs that nobody works on although something is left to be done."""
    is_idle = True
    for run in reissue.listed(egec):
        if run.state is RunState.PAUSED:
            is_idle = False
            detail = Words(
                "the run {name} is paused with {remaining} of {total} clients left",
                name=run.name,
                remaining=run.remaining,
                total=run.total,
            )
            yield Finding("paused_runs", Verdict.WARNING, detail, f"egec reissue resume {quoted(run.name)}")
    if is_idle:
        yield Finding("paused_runs", Verdict.OK, Words("no re-issue run stands still"), "")


def failed_items() -> Iterator[Finding]:
    """Yield the runs with clients who could not be mailed, and have not been since."""
    mailed_since = Credential.select(peewee.SQL("1")).where(
        (Credential.client == ReissueItem.client)
        & (Credential.state == CredentialState.ACCEPTED)
        & (Credential.settled_at > ReissueRun.created_at)
    )
    query = (
        ReissueItem.select(ReissueRun.name, peewee.fn.COUNT(ReissueItem.id))
        .join(ReissueRun)
        .switch(ReissueItem)
        .join(Client)
        .where(
            (ReissueItem.state == ItemState.FAILED)
            & (ReissueRun.state != RunState.CANCELLED)
            & Client.disabled_at.is_null()
            & Client.email.is_null(False)
            & ~peewee.fn.EXISTS(mailed_since)
        )
        .group_by(ReissueRun.id, ReissueRun.name)
        .order_by(ReissueRun.id.desc())
        .limit(_MOST_NAMED)
    )
    runs = list(tuples(query))
    for name, number in runs:
        detail = Words(
            "{number} clients of the run {name} could not be mailed, and have not been since", number=number, name=name
        )
        cure = f"egec reissue status {quoted(name)} --failed; then: egec reissue retry {quoted(name)}"
        yield Finding("failed_items", Verdict.WARNING, detail, cure)
    if not runs:
        yield Finding("failed_items", Verdict.OK, Words("no run has clients who are still to be mailed"), "")
