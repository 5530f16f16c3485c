"""A client at a terminal: a card, the latest events, and the command that helps now; no pipe loads this module."""

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from egec_cli import clock
from egec_cli.clients import history, records
from egec_cli.clients.history import History, HistoryEntry, MailRecord
from egec_cli.clients.records import ClientRecord, ClientStatus
from egec_cli.context import Context
from egec_cli.credentials.validity import local_moment
from egec_cli.logins import limits, sources
from egec_cli.output.cards import Line, Part, card_lines, count_rows, labelled_line, make_line, show_lines, show_paged
from egec_cli.output.messages import to_text
from egec_cli.output.screen import size_of_the_terminal
from egec_cli.output.terminal import colour_of, text_for_people
from egec_cli.settings.types import MaildirFolder
from egec_cli.store.models import Client, Credential, CredentialState
from egec_cli.translation import Words, count_words, join_words, translate

if TYPE_CHECKING:
    from egec_cli.credentials.issue import IssueResult

# A time of the timeline: `2026-11-25 05:30`, and the gap behind it.
_MARGIN = 18

FIELD_NAMES = {
    "identifier": Words("identifier"),
    "email": Words("e-mail"),
    "reference": Words("reference"),
    "civility": Words("civility"),
    "first_name": Words("first name"),
    "last_name": Words("last name"),
    "language": Words("language"),
    "valid_from": Words("valid from"),
    "valid_until": Words("valid until"),
}

# Why a login was refused, or what a test of it found.
_REASONS = {
    "accepted": Words("accepted"),
    "blocked": Words("blocked"),
    "capitals_swapped": Words("upper and lower case swapped"),
    "digits_swapped": Words("digits of the identifier swapped"),
    "client_disabled": Words("account disabled"),
    "client_inactive": Words("account outside its validity dates"),
    "disabled": Words("account disabled"),
    "earlier_password": Words("password of an earlier mail"),
    "erased": Words("client erased"),
    "expired": Words("password expired"),
    "extra_characters": Words("characters pasted with the password"),
    "first_letter_case": Words("wrong case of the first letter"),
    "inactive": Words("account outside its validity dates"),
    "last_mail_bounced": Words("the last mail bounced"),
    "last_mail_in_doubt": Words("the last mail is in doubt"),
    "last_mail_refused": Words("the last mail was refused"),
    "lookalikes_confused": Words("similar characters confused"),
    "never_activated": Words("no password yet"),
    "no_longer_valid": Words("account no longer valid"),
    "no_password": Words("no valid password"),
    "not_yet_valid": Words("account not valid yet"),
    "origin_limited": Words("too many failures from this network"),
    "revoked": Words("all passwords revoked"),
    "waiting": Words("waiting after failed logins"),
    "wrong_length": Words("wrong length of the password"),
    "wrong_password": Words("wrong password"),
}


class _Meaning(NamedTuple):
    """What the status of a client means, the command that helps, and the word whose colour they have."""

    text: str
    command: str
    colour_of: str


class _Happened(NamedTuple):
    """An event in words, with the word whose colour it has."""

    at: str
    text: str
    colour_of: str


def show_client(context: Context, client: Client, *, full: bool) -> None:
    """Show a client, its latest events, as many as fit the screen, and the command that helps now.

    Args:
        full: show all events, in the pager if they do not fit the screen.
    """
    events = history.load_history(context, client, most=None if full else history.EVENTS_SHOWN)
    mails = history.list_mails(context, client)
    card, meaning = _describe(context, client, mails, events)
    happened = [_event_line(one) for one in _fold(_happened(events.entries))]
    end = [make_line(), _command_line(meaning.command)] if meaning.command else []
    is_cut = events.is_cut
    if not full:
        # A line for the prompt, and two for the heading and what is left out.
        _, rows = size_of_the_terminal()
        fitting = _count_fitting(happened, rows - count_rows([*card, *end]) - 3)
        is_cut |= fitting < len(happened)
        happened = happened[len(happened) - fitting :]
    heading = Words("Latest events; add --full to see all:") if is_cut else Words("Events:")
    lines = [*card, make_line(), _bold_line(heading), *happened, *end]
    if full:
        show_paged(lines)
    else:
        show_lines(lines, sys.stdout)


def show_card(context: Context, client: Client, *, has_command: bool) -> None:
    """Show a client and its status, without events; `has_command` adds the command that helps now."""
    mails = history.list_mails(context, client)
    card, meaning = _describe(context, client, mails, History([], is_cut=False))
    show_lines([*card, make_line(), *([_command_line(meaning.command)] if has_command else [])], sys.stdout)


def _bold_line(text: str) -> Line:
    return make_line(Part(text, "bold"))


def _command_line(command: str) -> Line:
    return _bold_line(Words("Next: {command}", command=command))


def _count_fitting(lines: Sequence[Line], rows: int) -> int:
    """Return how many of the last lines fit into this many rows of the screen; the last one is always shown."""
    number = 0
    for line in reversed(lines):
        rows -= count_rows([line])
        if rows < 0 and number:
            break
        number += 1
    return number


def _describe(
    context: Context, client: Client, mails: Sequence[MailRecord], events: History
) -> tuple[list[Line], _Meaning]:
    """Return the lines of the card, and what the status means."""
    record = records.load_record(client, local_moment(context))
    meaning = _explain_status(context, client, record, mails, events)
    values: list[tuple[str, Part | str]] = [(FIELD_NAMES["identifier"], record.identifier)]
    status = (Words("status"), Part(meaning.text, colour_of(meaning.colour_of)))
    if record.email is None:
        return card_lines([*values, status], indent=0), meaning
    values.append((FIELD_NAMES["email"], record.email))
    if client.email_bounced_at is not None:
        values.append((Words("bounced"), Part(_explain_bounce(client, mails), colour_of("bounced"))))
    values += [
        (FIELD_NAMES[name], value)
        for name in ("reference", "language", "valid_from", "valid_until")
        if (value := getattr(record, name))
    ]
    login = text_for_people(record.last_login_at) if record.last_login_at else Words("never")
    values += [status, (Words("last login"), login)]
    if notified_at := history.find_closing_notice(client):
        values.append((Words("closing notice"), Part(text_for_people(notified_at), colour_of("waiting"))))
    name = _name(record)
    return [*([_bold_line(name)] if name else []), *card_lines(values, indent=0)], meaning


def _name(client: Client | ClientRecord) -> str:
    return " ".join(filter(None, (client.civility, client.first_name, client.last_name)))


def _explain_bounce(client: Client, mails: Sequence[MailRecord]) -> str:
    # A mail to an earlier address, or to another client with this one, may have bounced.
    marked_at = clock.to_rfc3339(client.email_bounced_at)
    bounced = next((mail for mail in mails if mail.bounced_at == marked_at), None)
    at = clock.to_local_text(client.email_bounced_at)
    return Words("on {at}: {bounce}", at=at, bounce=bounced.bounce) if bounced else at


def _explain_status(
    context: Context, client: Client, record: ClientRecord, mails: Sequence[MailRecord], events: History
) -> _Meaning:
    identifier = record.identifier
    activate = f"egec activate {identifier}"
    if record.email is None:
        return _Meaning(Words("erased: the identifier stays reserved"), "", "refused")
    if record.status is ClientStatus.DISABLED:
        return _Meaning(_explain_disabled(client, events), f"egec client enable {identifier}", "refused")
    if record.status is ClientStatus.INACTIVE:
        return _explain_validity(context, record)
    if record.status is ClientStatus.BLOCKED:
        limit = limits.load_limits(client, context.clock())
        text = _explain_block(limit, context.clock(), sources.count_networks(client))
        return _Meaning(text, f"egec client unblock {identifier}", "blocked")
    last = mails[0] if mails else None
    is_ascii = record.email.rpartition("@")[0].isascii()
    # With an ASCII address, it is the sender that the server does not support.
    fails_again = {"mail_refused"} if is_ascii else {"mail_refused", "smtputf8_not_offered"}
    if client.email_bounced_at is not None or (last is not None and last.failure in fails_again):
        command = f"egec client update {identifier} --email {translate(Words('EMAIL'))}"
    elif record.status is not ClientStatus.ACTIVE or (last is not None and last.state is CredentialState.IN_DOUBT):
        command = activate
    else:
        command = f"egec verify {identifier} --explain --no-count"
    return _Meaning(_explain_password(client, record, mails), command, record.status.value)


def _explain_disabled(client: Client, events: History) -> str:
    at = clock.to_local_text(client.disabled_at)
    act = next((one for one in reversed(events.entries) if one.action == "client.disable"), None)
    if act is None or not act.details.get("reason"):
        return Words("disabled on {at}: no password is accepted", at=at)
    return Words("disabled on {at}: {reason}", at=at, reason=act.details["reason"])


def _explain_validity(context: Context, record: ClientRecord) -> _Meaning:
    update = f"egec client update {record.identifier}"
    if local_moment(context).is_before(record.valid_from):
        text = Words("inactive: not valid before {day}", day=record.valid_from)
        return _Meaning(text, f"{update} --valid-from {translate(Words('DATE'))}", "inactive")
    text = Words("inactive: not valid after {day}", day=record.valid_until)
    return _Meaning(text, f"{update} --valid-until {translate(Words('DATE'))}", "inactive")


def _explain_block(limit: limits.LimitRecord, moment: datetime, origins: int) -> str:
    until = clock.parse_time(limit.blocked_until) if limit.blocked_until else moment
    if until >= limits.UNTIL_NEW_CREDENTIAL:
        text = Words("blocked after {failures} failed logins", failures=limit.failed_logins)
    else:
        text = Words(
            "blocked: waiting {time} after {failures} failed logins",
            time=_duration(until - moment),
            failures=limit.failed_logins,
        )
    if not origins:
        return text
    number = count_words("0 origins", "1 origin", "{number} origins", origins)
    return Words("{text}, from {origins}", text=text, origins=number)


def _duration(time: timedelta) -> str:
    """Return a time such as `44 s`, `16 min` or `5 h`, rounded up."""
    seconds = -(-time // timedelta(seconds=1))
    if seconds < 120:
        return f"{seconds} s"
    minutes = -(-seconds // 60)
    return f"{minutes} min" if minutes < 120 else f"{-(-minutes // 60)} h"


def _explain_password(client: Client, record: ClientRecord, mails: Sequence[MailRecord]) -> str:
    """Return what `new`, `active` or `expired` means."""
    current = next((mail for mail in mails if mail.sequence == client.active_sequence), None)
    last = mails[0] if mails else None
    if record.status is ClientStatus.NEW:
        if last is None:
            return Words("new: no password was mailed yet")
        if last.state is CredentialState.REFUSED:
            return Words("new: the mail with the password was refused")
        if last.state is CredentialState.REVOKED:
            return Words("new: all passwords were revoked")
        return Words("new: it is in doubt whether the mail with the password arrived")
    if record.status is ClientStatus.EXPIRED:
        if current is None or current.expires_at is None:
            return Words("expired: the password was never used in time")
        return Words("expired after {day}: the password was never used", day=_last_day(current.expires_at))
    if current is None:
        parts = [Words("active: an earlier password is valid")]
    else:
        parts = [
            Words(
                "active: the password of {at} is in use"
                if current.first_used_at
                else "active: the password of {at} was not used yet",
                at=text_for_people(current.issued_at),
            )
        ]
    if current is not None and current.first_used_at is None and current.expires_at is not None:
        parts.append(Words("it expires after {day}", day=_last_day(current.expires_at)))
    if client.failed_logins:
        parts.append(Words("failed logins since: {failures}", failures=client.failed_logins))
    return join_words(", ", parts)


def _last_day(end: str) -> str:
    """Return the day that the mail of an unused password names, from the moment when the password expires."""
    return clock.to_last_day_text(clock.parse_time(end))


def _fold(happened: Sequence[_Happened]) -> Iterator[_Happened]:
    """Yield the events; those in a row with the same words are one, with their number and the time of the last."""
    for _, alike in groupby(happened, key=attrgetter("text", "colour_of")):
        same = list(alike)
        last = same[-1]
        yield last._replace(text=f"{last.text} \N{MULTIPLICATION SIGN}{len(same)}") if len(same) > 1 else last


def _event_line(one: _Happened) -> Line:
    return labelled_line(text_for_people(one.at), Part(one.text, colour_of(one.colour_of)), _MARGIN)


def _happened(entries: Sequence[HistoryEntry]) -> list[_Happened]:
    """Return the events in words, oldest first, without those that another one includes."""
    issued = {entry.details.get("sequence") for entry in entries if entry.action == "credential.issue"}
    shown = []
    for number, entry in enumerate(entries):
        following = entries[number + 1] if number + 1 < len(entries) else None
        is_test = entry.action == "login" and following is not None and following.action == "login.explain"
        # A test of a login that counts is recorded as a login too.
        if is_test and following is not None and following.details.get("counted", True):
            continue
        if entry.action == "credential.show" and entry.details.get("sequence") in issued:
            continue
        event = _describe_event(entry)
        text = event.what
        if entry.actor and entry.action not in {"login", "mail.bounce"}:
            text = Words("{what}, by {actor}", what=text, actor=entry.actor)
        if event.details:
            text = Words("{what}: {details}", what=text, details=event.details)
        shown.append(_Happened(entry.at, to_text(text), event.colour_of))
    return shown


class _Event(NamedTuple):
    """An event in words, the word whose colour it has, and details such as the mail server's words."""

    what: str
    colour_of: str = ""
    details: str = ""


def _describe_closing_notice(entry: HistoryEntry) -> _Event:
    """Return the words for the notice that the account will be closed."""
    failure = entry.details.get("failure") or ""
    match entry.outcome:
        case "accepted":
            return _Event(Words("notified of the closing"), "accepted", entry.details.get("closes_on") or "")
        case "deferred":
            return _Event(Words("notice of the closing deferred"), "deferred", failure)
        case "in_doubt":
            return _Event(Words("notice of the closing in doubt"), "in_doubt")
        case _:
            return _Event(Words("notice of the closing refused"), "refused", failure)


def _describe_event(entry: HistoryEntry) -> _Event:
    details = entry.details
    match entry.action:
        case "login" if entry.outcome == "accepted":
            return _Event(Words("signed in"), "accepted", _explain_arrival(details))
        case "login":
            return _Event(Words("login refused"), "refused", _reason(details.get("reason")))
        case "login.explain":
            is_counted = details.get("counted", True)
            colour_of = "accepted" if entry.outcome == "accepted" else "refused"
            what = Words("login tested" if is_counted else "login tested, not counted")
            return _Event(what, colour_of, _reason(entry.outcome))
        case "client.request":
            return _describe_request(entry)
        case "credential.issue":
            return _describe_mail(details)
        case "credential.revoke":
            return _Event(Words("earlier passwords revoked"), "revoked")
        case "credential.show":
            return _Event(Words("password {sequence} shown", sequence=details.get("sequence")))
        case "mail.bounce" if details.get("notice"):
            return _Event(Words("notice of the closing reported as bounced"), "bounced", details.get("status") or "")
        case "mail.bounce":
            what = Words("mail {sequence} reported as bounced", sequence=details.get("sequence"))
            return _Event(what, "bounced", details.get("status") or "")
        case "client.create":
            return _Event(Words("client created"))
        case "client.update":
            names = [FIELD_NAMES.get(name, name) for name in details.get("fields", [])]
            return _Event(Words("changed"), details=join_words(", ", names))
        case "client.notice" if entry.outcome == "accepted":
            return _Event(Words("previous address notified"), "accepted")
        case "client.notice":
            return _Event(Words("notice to the previous address failed"), "refused", details.get("failure") or "")
        case "client.closing":
            return _describe_closing_notice(entry)
        case "client.disable":
            return _Event(Words("disabled"), "disabled", details.get("reason") or "")
        case "client.enable":
            return _Event(Words("enabled"), "enabled")
        case "client.unblock":
            return _Event(Words("unblocked"), "unblocked")
        case "client.erase":
            return _Event(Words("erased"))
        case _:
            return _Event(f"{entry.action} {entry.outcome}", entry.outcome)


def _describe_request(entry: HistoryEntry) -> _Event:
    """Return the event of a request that a client made at a portal."""
    match entry.outcome:
        case "accepted":
            return _Event(Words("password requested at the portal"), "accepted")
        case "limited":
            number = entry.details.get("number", 1)
            return _Event(Words("request {number} beyond the limit changed nothing", number=number), "refused")
        case "refused":
            return _Event(Words("request refused"), "refused", _reason(entry.details.get("reason")))
        case _:
            return _Event(Words("request failed"), "refused", entry.details.get("failure") or "")


def _reason(code: str | None) -> str:
    return _REASONS.get(code or "", code or "")


def _explain_arrival(details: dict[str, Any]) -> str:
    """Return that a login proves the arrival of a mail in doubt, if it does."""
    if "arrived" not in details:
        return ""
    return Words("with the password of mail {sequence}, which was in doubt", sequence=details["arrived"])


def _describe_mail(details: dict[str, Any]) -> _Event:
    """Return the event of a password, with the words of the mail server."""
    state = details.get("state")
    number = {"sequence": details.get("sequence")}
    words = str(details.get("bounce") or details.get("server_reply") or details.get("failure") or "")
    if "message_id" not in details and state != CredentialState.REFUSED:
        return _describe_shown_password(number, state)
    if details.get("bounce"):
        return _Event(Words("mail {sequence} bounced", **number), "bounced", words)
    match state:
        case CredentialState.REFUSED:
            return _Event(Words("mail {sequence} refused", **number), "refused", words)
        case CredentialState.IN_DOUBT:
            lost = details.get("server_reply") or Words("the mail server's answer was lost")
            return _Event(Words("mail {sequence} in doubt", **number), "in_doubt", lost)
        case CredentialState.SENDING:
            return _Event(Words("mail {sequence} on its way", **number), "sending")
        case CredentialState.SUPERSEDED:
            return _Event(Words("mail {sequence} accepted, since replaced", **number), "", words)
        case CredentialState.REVOKED:
            return _Event(Words("mail {sequence} since revoked", **number), "revoked", words)
        case _:
            return _Event(Words("mail {sequence} accepted", **number), "accepted", words)


def _describe_shown_password(number: dict[str, Any], state: object) -> _Event:
    """Return the event of a password that an operator saw instead of a mail."""
    match state:
        case CredentialState.SUPERSEDED:
            return _Event(Words("password {sequence} shown, since replaced", **number))
        case CredentialState.REVOKED:
            return _Event(Words("password {sequence} revoked", **number), "revoked")
        case _:
            return _Event(Words("password {sequence} shown", **number), "accepted")


def show_outcome(name: str, outcome: str) -> None:
    """Show what happened to a client."""
    show_lines([_bold_line(Words("{client}: {outcome}", client=name, outcome=outcome))], sys.stdout)


def show_difference(before: ClientRecord, after: ClientRecord) -> None:
    """Show the changed fields of a client as `before → after`."""
    nothing = Words("(empty)")
    values = [
        (label, join_words(" → ", [getattr(before, name) or nothing, getattr(after, name) or nothing]))
        for name, label in FIELD_NAMES.items()
        if getattr(before, name) != getattr(after, name)
    ]
    heading = _bold_line(", ".join(filter(None, (_name(after), after.identifier))))
    changes = card_lines(values, indent=0) or [make_line(Words("unchanged: it already has these values"))]
    show_lines([heading, *changes], sys.stdout)


def show_activation(context: Context, client: Client, issued: "IssueResult") -> None:
    """Report a mailed password to the operator: the recipient, the server, its reply, and when it expires."""
    credential = Credential.get((Credential.client == client.id) & (Credential.sequence == issued.sequence))
    heading = Words(
        "Password {sequence} mailed to {client}",
        sequence=issued.sequence,
        client=", ".join(filter(None, (_name(client), client.identifier))),
    )
    server = context.settings.mail_server
    values: list[tuple[str, str]] = [(Words("to"), issued.email)]
    if not isinstance(server, MaildirFolder):
        values += [(Words("server"), str(server)), (Words("reply"), issued.server_reply or "")]
    expires: str = Words("never")
    if credential.expires_at is not None:
        expires = Words("after {day}, if it is not used before", day=clock.to_last_day_text(credential.expires_at))
    show_lines([_bold_line(heading), *card_lines([*values, (Words("expires"), expires)], indent=0)], sys.stdout)
