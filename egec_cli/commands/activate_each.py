"""`egec activate EMAIL` for an e-mail that several clients share: a mail and a result for each of them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import typer

from egec_cli.context import Context
from egec_cli.credentials import issue_each, mail_route, validity
from egec_cli.credentials.issue_each import Issued
from egec_cli.errors import EgecError, ExitCode
from egec_cli.hashing import Hashing
from egec_cli.output.formats import OutputFormat, is_hidden, print_unless_quiet, render_all
from egec_cli.output.messages import note, warn
from egec_cli.requests.texts import Answer, render_answer
from egec_cli.store.models import Client, CredentialState
from egec_cli.translation import count_words, format_number


class ActivationRecord(NamedTuple):
    """The outcome for one of the clients who share the e-mail.

    Attributes:
        identifier: the client's identifier.
        reference: the number of the client in another system.
        email: the address that was mailed.
        sequence: the number of this password among those of the client; None if no mail was accepted.
        state: `accepted`; or `superseded` or `revoked` if a later credential has replaced it already; None likewise.
        message_id: the mail's Message-ID; None likewise.
        server_reply: the mail server's answer or the file that the mail was saved to; None likewise.
        failure: the code of the error; None if the mail was accepted.
        details: the error for people.
    """

    identifier: str
    reference: str | None
    email: str | None
    sequence: int | None
    state: CredentialState | None
    message_id: str | None
    server_reply: str | None
    failure: str | None
    details: str | None


_IN_TABLE = ("identifier", "reference", "email", "state", "failure")


def mail_passwords(
    context: Context,
    clients: Sequence[Client],
    hashing: Hashing,
    *,
    revoke: bool,
    output: OutputFormat,
    prints_text: bool,
) -> None:
    """Mail a new password to each of the clients who may get one, and show the outcomes.

    Args:
        prints_text: print the memo's text for the client, once, instead of the outcomes.

    Raises:
        EgecError: no mail was accepted; the error of the first one.
        PermissionDenied: none of the clients may get a mail; the reason for the first one.
        typer.Exit: not every mail was accepted.
    """
    now = validity.local_moment(context)
    refusals = {client.id: refusal for client in clients if (refusal := issue_each.find_refusal(client, now))}
    mailable = [client for client in clients if client.id not in refusals]
    if not mailable:
        raise refusals[clients[0].id]
    mail_route.require(context)
    # A flaw of the template is found before any mail leaves.
    sent_text = render_answer(context.settings, Answer.SENT, mailable[0].language)
    for refusal in refusals.values():
        note("egec: no mail: {reason}", reason=refusal.message)
    failed: list[tuple[Client, EgecError]] = []
    issued = _collect_failed(issue_each.mail_each(context, mailable, hashing=hashing, revoke=revoke), failed)
    if prints_text:
        for _ in issued:
            pass
        if len(failed) < len(mailable):
            print_unless_quiet(sent_text)
    else:
        records = map(_record, issued)
        render_all(
            records,
            ActivationRecord,
            output,
            in_table=_IN_TABLE,
            optional=("reference",),
            flush=True,
            are_outcomes=True,
        )
    is_first_raised = len(failed) == len(mailable)
    for client, error in failed[is_first_raised:] if prints_text or is_hidden(output) else ():
        warn("egec: client {identifier}: {message}", identifier=client.identifier, message=error.message)
        if error.hint:
            warn("      {hint}", hint=error.hint)
    accepted = count_words(
        "egec: 0 of {total} mails accepted",
        "egec: 1 of {total} mails accepted",
        "egec: {number} of {total} mails accepted",
        len(mailable) - len(failed),
        total=format_number(len(mailable)),
    )
    note(accepted)
    if is_first_raised:
        raise failed[0][1]
    if failed:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _collect_failed(issued: Iterator[Issued], failed: list[tuple[Client, EgecError]]) -> Iterator[Issued]:
    for one in issued:
        if one.error is not None:
            failed.append((one.client, one.error))
        yield one


def _record(issued: Issued) -> ActivationRecord:
    client, result, error = issued
    return ActivationRecord(
        identifier=client.identifier,
        reference=client.reference,
        email=client.email,
        sequence=result and result.sequence,
        state=result and result.state,
        message_id=result and result.message_id,
        server_reply=result and result.server_reply,
        failure=None if error is None else error.code,
        details=None if error is None else error.message,
    )
