"""Explain to the help desk why a login fails; only operators see it, and it counts as an attempt unless they say no.

The password is compared only if the limits allow the attempt: with the current password, those of deliveries in
doubt, and at most two earlier ones.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from operator import ne
from typing import Any, Literal, NamedTuple

from egec_cli import clock, hashing, identifier
from egec_cli.audit.events import record_event
from egec_cli.context import Context
from egec_cli.credentials import states, validity
from egec_cli.logins import limits, sources, verify
from egec_cli.logins.verify import LoginReason, LoginResult
from egec_cli.password import LENGTH
from egec_cli.store.models import OPEN_STATES, Client, Credential, CredentialState
from egec_cli.store.sql import fetch_tuples, in_list
from egec_cli.translation import Words, count_words

# Characters that look the same in many typefaces.
_LOOKALIKES = {c: group for group in ("0O", "1lI") for c in group}
# At most this many variants are hashed, and none if there are more than the second number.
_MOST_HASHED_VARIANTS = 32
_MOST_VARIANTS = 20_000
# Characters pasted with the password from a sentence. Passwords may contain some, so the text is tried as it is first.
_SURROUNDING = " \t.,;:!?'\"«»“”\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}()[]<>*_`"

Cause = Literal[
    "accepted", "invalid_identifier", "digits_swapped", "wrong_digit", "unknown_identifier", "waiting", "blocked",
    "disabled", "erased", "earlier_password", "expired", "capitals_swapped", "first_letter_case",
    "lookalikes_confused", "extra_characters", "wrong_length", "never_activated", "last_mail_refused",
    "last_mail_in_doubt", "last_mail_bounced", "revoked", "wrong_password", "origin_limited", "not_yet_valid",
    "no_longer_valid",
]  # fmt: skip


class Explanation(NamedTuple):
    """Whether a login is accepted, and why not.

    Attributes:
        accepted: whether the login is accepted.
        reason: why not, as a stable code.
        hint: the reason in words for the help desk, and what to do.
    """

    accepted: bool
    reason: Cause
    hint: str


def explain_login(
    context: Context, given_identifier: str, given_password: str, *, count: bool = True, origin: str = ""
) -> Explanation:
    """Check a login as `verify_login` does, and return why it fails.

    Args:
        origin: the address that the login comes from, if it counts; empty if unknown.
        count: count a failure, and sign in if the login is accepted. Otherwise nothing but the audit log changes.

    Raises:
        AccountBusy: too many logins to this account are in progress.
    """
    if count:
        ended = verify.check_login(context, given_identifier, given_password, origin=origin)
    else:
        ended = verify.try_login(context, given_identifier, given_password)
    reason, hint = _explain(context, ended, verify.trim(given_identifier), verify.trim(given_password))
    with context.database.atomic():
        details: dict[str, Any] = {} if count else {"counted": False}
        record_event(context, "login.explain", reason, client=ended.client, **details)
    return Explanation(ended.reason is LoginReason.ACCEPTED, reason, hint)


def _explain(context: Context, ended: LoginResult, typed: str, password: str) -> tuple[Cause, str]:
    client = ended.client
    if ended.reason is LoginReason.ORIGIN_LIMITED:
        return "origin_limited", Words(
            "Too many logins from this network failed, so its logins are refused unchecked. They are checked again "
            "when enough of the failures are older than the period in EGEC_FAILURES_PER_ORIGIN."
        )
    if client is None:
        return _explain_identifier(typed)
    if ended.reason is LoginReason.ACCEPTED:
        return "accepted", Words("The identifier and the password are correct.")
    if ended.reason in {LoginReason.WAITING, LoginReason.BLOCKED}:
        return _explain_block(client, ended)
    if client.email is None:
        return "erased", Words("The client was erased.")
    if client.disabled_at is not None:
        return "disabled", Words(
            "The account is disabled. To enable it: `egec client enable {identifier}`.", identifier=client.identifier
        )
    return _explain_validity(context, client) or _explain_password(context, client, password) or _explain_mails(client)


def _explain_validity(context: Context, client: Client) -> tuple[Cause, str] | None:
    now = validity.local_moment(context)
    if now.is_before(client.valid_from):
        return "not_yet_valid", Words(
            "The account is valid from {day}. To change that: `egec client update {identifier} --valid-from DATE`.",
            day=client.valid_from,
            identifier=client.identifier,
        )
    if now.is_after(client.valid_until):
        return "no_longer_valid", Words(
            "The account was valid until {day}. To extend it: `egec client update {identifier} --valid-until DATE`.",
            day=client.valid_until,
            identifier=client.identifier,
        )
    return None


def _explain_identifier(typed: str) -> tuple[Cause, str]:
    if not identifier.is_identifier(typed):
        digits = sum(c in "0123456789" for c in typed)
        if typed.isdecimal() or digits >= LENGTH:
            return "invalid_identifier", count_words(
                "An identifier has 10 digits and does not start with 0; 0 characters were typed.",
                "An identifier has 10 digits and does not start with 0; 1 character was typed.",
                "An identifier has 10 digits and does not start with 0; {number} characters were typed.",
                len(typed),
            )
        return "invalid_identifier", Words("Invalid identifier: it has 10 digits, and is in the mail.")
    swapped = _known_identifiers(f"{typed[:n]}{typed[n + 1]}{typed[n]}{typed[n + 2 :]}" for n in range(9))
    if len(swapped) == 1:
        place = next(n for n in range(9) if typed[n] != swapped[0][n])
        return "digits_swapped", Words(
            "Unknown identifier: digits {digit} and {next} may be swapped.", digit=place + 1, next=place + 2
        )
    wrong = _known_identifiers(f"{typed[:n]}{digit}{typed[n + 1 :]}" for n in range(10) for digit in "0123456789")
    if len(wrong) == 1:
        place = next(n for n in range(10) if typed[n] != wrong[0][n])
        return "wrong_digit", Words("Unknown identifier: digit {digit} may be wrong.", digit=place + 1)
    return "unknown_identifier", Words("Unknown identifier. To find the client by e-mail: `egec client show EMAIL`.")


def _known_identifiers(candidates: Iterator[str]) -> list[str]:
    rows = fetch_tuples(Client.select(Client.identifier).where(in_list(Client.identifier, candidates)))
    return [known for (known,) in rows]


def _explain_block(client: Client, ended: LoginResult) -> tuple[Cause, str]:
    remedy = Words(
        "To unblock it: `egec client unblock {identifier}`, or a new password by `egec activate`.",
        identifier=client.identifier,
    )
    until = clock.to_rfc3339(ended.blocked_until) if ended.blocked_until else ""
    if ended.reason is not LoginReason.BLOCKED:
        return "waiting", Words(
            "After several failed logins{origins}, no login is checked until {until}. {remedy}",
            until=until,
            origins=_from_networks(client),
            remedy=remedy,
        )
    failures, origins = limits.FAILURES_BEFORE_BLOCK, _from_networks(client)
    if ended.blocked_until == limits.UNTIL_NEW_CREDENTIAL:
        return "blocked", Words(
            "The account is blocked after {failures} failed logins{origins}. {remedy}",
            failures=failures,
            origins=origins,
            remedy=remedy,
        )
    return "blocked", Words(
        "The account is blocked until {until} after {failures} failed logins{origins}. {remedy}",
        until=until,
        failures=failures,
        origins=origins,
        remedy=remedy,
    )


def _from_networks(client: Client) -> str:
    """Return from how many networks logins were refused, as ` from 6 origins`; empty if unknown."""
    number = sources.count_networks(client)
    if number == 1:
        return Words(" from 1 origin")
    return Words(" from {number} origins", number=number) if number else ""


def _explain_password(context: Context, client: Client, password: str) -> tuple[Cause, str] | None:
    usable = [one.password_hash or "" for one in states.usable_credentials(client, context.clock())]
    for earlier in _known_credentials(client):
        if hashing.matches_hash(password, earlier.password_hash or ""):
            day = clock.to_rfc3339(earlier.created_at)
            last = _last_credential(client)
            if last is not None and last.bounced_at is not None and last.sequence > earlier.sequence:
                return "last_mail_bounced", Words(
                    "This is the password of an earlier mail. {bounced}", bounced=_bounce_hint(client, last)
                )
            if earlier.state == CredentialState.SUPERSEDED:
                return (
                    "earlier_password",
                    Words("This is the password of an earlier mail ({day}); only the last one is valid.", day=day),
                )
            return "expired", Words(
                "The password of {day} was never used and has expired. To mail a new one: `egec activate`.", day=day
            )
    if len(password) > LENGTH and any(_matches(text, usable) for text in _without_surroundings(password)):
        return "extra_characters", Words("Spaces, punctuation or other text were pasted with the password.")
    other_case = password[:1].swapcase() + password[1:]
    mistakes: Sequence[tuple[Cause, Sequence[str], str]] = (
        ("capitals_swapped", [password.swapcase()], Words("Upper and lower case are swapped: is Caps Lock on?")),
        ("first_letter_case", [other_case], Words("The first letter has the wrong case.")),
        ("lookalikes_confused", list(_swap_lookalikes(password)), Words("0 and O, or 1, l and I, are confused.")),
    )
    for reason, variants, hint in mistakes:
        if any(variant != password and _matches(variant, usable) for variant in variants):
            return reason, hint
    if usable and len(password) != LENGTH:
        return "wrong_length", count_words(
            "A password has {length} characters; 0 were typed.",
            "A password has {length} characters; 1 was typed.",
            "A password has {length} characters; {number} were typed.",
            len(password),
            length=LENGTH,
        )
    return None


def _known_credentials(client: Client) -> Sequence[Credential]:
    """Return the credentials whose hash is known although they may no longer be usable, the latest first."""
    known = Credential.password_hash.is_null(False) & (Credential.client == client)
    rows = Credential.select().where(known).order_by(Credential.sequence.desc())
    return [row for row in rows if row.state not in OPEN_STATES or row.expires_at is not None]


def _matches(password: str, hashes: Sequence[str]) -> bool:
    return len(password) == LENGTH and any(hashing.matches_hash(password, one) for one in hashes)


def _without_surroundings(password: str) -> Iterator[str]:
    yield "".join(password.split())
    yield password.strip(_SURROUNDING)
    yield from (part for part in password.split() if len(part) == LENGTH)
    yield password[:LENGTH]
    yield password[-LENGTH:]


def _swap_lookalikes(password: str) -> Iterator[str]:
    """Yield the password with look-alikes swapped, starting with the variants that differ least from it."""
    choices = [_LOOKALIKES.get(c, c) for c in password]
    if prod(map(len, choices)) > _MOST_VARIANTS:
        return
    variants = map("".join, product(*choices))
    yield from sorted(variants, key=lambda variant: sum(map(ne, variant, password)))[:_MOST_HASHED_VARIANTS]


def _explain_mails(client: Client) -> tuple[Cause, str]:
    last = _last_credential(client)
    mail_again = Words("To mail a new one: `egec activate {identifier}`.", identifier=client.identifier)
    if last is None:
        return "never_activated", Words("The account has no password yet. {mail_again}", mail_again=mail_again)
    day = clock.to_rfc3339(last.created_at)
    if last.state == CredentialState.REFUSED:
        return "last_mail_refused", Words(
            "The mail of {day} was refused: {reason}. {mail_again}",
            day=day,
            reason=last.server_reply or last.failure,
            mail_again=mail_again,
        )
    if last.bounced_at is not None and last.state != CredentialState.REVOKED:
        return "last_mail_bounced", _bounce_hint(client, last)
    if last.state in OPEN_STATES:
        return "last_mail_in_doubt", Words(
            "The mail of {day} is in doubt: it may not have arrived. {mail_again}", day=day, mail_again=mail_again
        )
    if last.state == CredentialState.REVOKED:
        return "revoked", Words("All passwords were revoked. {mail_again}", mail_again=mail_again)
    return "wrong_password", Words(
        "The password is wrong; the last mail was sent on {day}. {mail_again}", day=day, mail_again=mail_again
    )


def _last_credential(client: Client) -> Credential | None:
    last: Credential | None = (
        Credential.select().where(Credential.client == client).order_by(Credential.sequence.desc()).first()
    )
    return last


def _bounce_hint(client: Client, last: Credential) -> str:
    return Words(
        "The mail of {day} bounced: {bounce}. Correct the address: "
        "`egec client update {identifier} --email EMAIL`, then `egec activate {identifier}`.",
        day=clock.to_rfc3339(last.created_at),
        bounce=last.bounce,
        identifier=client.identifier,
    )
