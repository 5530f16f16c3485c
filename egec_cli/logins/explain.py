"""Why a login fails, for a help desk: told to the operator alone; it counts as an attempt like any other.

A reason is looked for only behind an attempt that the limits allow, with the hashes of the password in use, of those
whose mails are in doubt, and of at most two that came before.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from operator import ne
from typing import Literal, NamedTuple

from egec_cli import clock, hashing, identifier
from egec_cli.audit.record import record_event
from egec_cli.context import Context
from egec_cli.credentials import states
from egec_cli.logins import limits, verify
from egec_cli.logins.verify import LoginReason, LoginResult
from egec_cli.password import LENGTH
from egec_cli.store.models import OPEN_STATES, Client, Credential, CredentialState
from egec_cli.store.sql import fetch_tuples, in_list
from egec_cli.translation import Words

# What looks the same in many typefaces.
_LOOKALIKES = {c: group for group in ("0O", "1lI") for c in group}
# So many variants are hashed, of at most so many that are there.
_MOST_EXCHANGES = 32
_MOST_LOOKED_AT = 20_000
# What is pasted along from a sentence; what passwords may hold themselves is tried first as it is.
_AROUND = " \t.,;:!?'\"«»“”\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}()[]<>*_`"

Cause = Literal[
    "accepted",
    "identifier_malformed",
    "digits_swapped",
    "digit_wrong",
    "unknown_identifier",
    "waiting",
    "blocked",
    "disabled",
    "erased",
    "former_password",
    "expired",
    "capitals_swapped",
    "first_letter_case",
    "lookalikes_exchanged",
    "pasted_along",
    "wrong_length",
    "never_activated",
    "last_mail_refused",
    "last_mail_in_doubt",
    "last_mail_bounced",
    "revoked",
    "wrong_password",
]


class Explanation(NamedTuple):
    """Whether a login is accepted, and why not.

    Attributes:
        accepted: whether to let in.
        reason: why not, by a stable word.
        hint: the same for the help desk, and what to tell the client.
    """

    accepted: bool
    reason: Cause
    hint: str


def explain_login(context: Context, given_identifier: str, given_password: str) -> Explanation:
    """Check a login as `login.verify` does, and return why it fails.

    Args:
        context: where.
        given_identifier: the identifier, as it was typed.
        given_password: the password, as it was typed.
    """
    ended = verify.check_login(context, given_identifier, given_password)
    reason, hint = _found(context, ended, verify.trim(given_identifier), verify.trim(given_password))
    with context.database.atomic():
        record_event(context, "login.explain", reason, client=ended.client)
    return Explanation(ended.reason is LoginReason.ACCEPTED, reason, hint)


def _found(context: Context, ended: LoginResult, typed: str, password: str) -> tuple[Cause, str]:
    client = ended.client
    if client is None:
        return _about_the_identifier(typed)
    if ended.reason is LoginReason.ACCEPTED:
        return "accepted", Words("The login is right.")
    if ended.reason in {LoginReason.WAITING, LoginReason.BLOCKED}:
        return _about_the_block(client, ended)
    if client.email is None:
        return "erased", Words("The file was erased for good.")
    if client.disabled_at is not None:
        return "disabled", Words(
            "The account is disabled. Type `egec client enable {identifier}` if that is wrong.",
            identifier=client.identifier,
        )
    return _about_the_password(context, client, password) or _about_the_mails(client)


def _about_the_identifier(typed: str) -> tuple[Cause, str]:
    if not identifier.is_identifier(typed):
        digits = sum(c in "0123456789" for c in typed)
        if typed.isdecimal() or digits >= LENGTH:
            return "identifier_malformed", Words(
                "An identifier has 10 digits, the first not 0; {typed} were typed.", typed=len(typed)
            )
        return "identifier_malformed", Words("That is no identifier: it has 10 digits, and stands in the mail.")
    swapped = _known(f"{typed[:n]}{typed[n + 1]}{typed[n]}{typed[n + 2 :]}" for n in range(9))
    if len(swapped) == 1:
        place = next(n for n in range(9) if typed[n] != swapped[0][n])
        return "digits_swapped", Words(
            "Nobody has this identifier; its digits {digit} and {next} look swapped.", digit=place + 1, next=place + 2
        )
    wrong = _known(f"{typed[:n]}{digit}{typed[n + 1 :]}" for n in range(10) for digit in "0123456789")
    if len(wrong) == 1:
        place = next(n for n in range(10) if typed[n] != wrong[0][n])
        return "digit_wrong", Words("Nobody has this identifier; its digit {digit} looks wrong.", digit=place + 1)
    return "unknown_identifier", Words(
        "Nobody has this identifier. Look for the client by e-mail: `egec client show EMAIL`."
    )


def _known(candidates: Iterator[str]) -> list[str]:
    """Return those of the identifiers that are clients'."""
    return [
        known
        for (known,) in fetch_tuples(Client.select(Client.identifier).where(in_list(Client.identifier, candidates)))
    ]


def _about_the_block(client: Client, ended: LoginResult) -> tuple[Cause, str]:
    new = Words(
        "`egec client unblock {identifier}` frees it at once, and so does a new password by `egec activate`.",
        identifier=client.identifier,
    )
    if ended.reason is LoginReason.BLOCKED:
        return "blocked", Words(
            "The account is blocked after {failures} failures. {new}",
            failures=limits.FAILURES_BEFORE_BLOCK,
            new=new,
        )
    until = clock.to_rfc3339(ended.blocked_until) if ended.blocked_until else ""
    return "waiting", Words("After several failures the account waits until {until}. {new}", until=until, new=new)


def _about_the_password(context: Context, client: Client, password: str) -> tuple[Cause, str] | None:
    living = [one.password_hash or "" for one in states.usable_credentials(client, context.clock())]
    for former in _former(client):
        if hashing.matches_hash(password, former.password_hash or ""):
            day = clock.to_rfc3339(former.created_at)
            last = _last(client)
            if last is not None and last.bounced_at is not None and last.sequence > former.sequence:
                return "last_mail_bounced", Words(
                    "That is the password of an earlier mail. {came_back}", came_back=_came_back(client, last)
                )
            if former.state == CredentialState.SUPERSEDED:
                return (
                    "former_password",
                    Words("That is the password of an earlier mail, of {day}; only the last one counts.", day=day),
                )
            return "expired", Words(
                "The password of {day} was never used and has expired. Mail a new one: `egec activate`.", day=day
            )
    if len(password) > LENGTH:
        for meant in _without_what_was_pasted(password):
            if _opens(meant, living):
                return "pasted_along", Words("Blanks or punctuation were pasted along with the password.")
    other_case = password[:1].swapcase() + password[1:]
    mistakes: Sequence[tuple[Cause, Sequence[str], str]] = (
        (
            "capitals_swapped",
            [password.swapcase()],
            Words("Capitals and small letters are exchanged: is Caps Lock on?"),
        ),
        ("first_letter_case", [other_case], Words("The first letter has the wrong case.")),
        ("lookalikes_exchanged", list(_exchanged(password)), Words("0 and O, or 1, l and I, are exchanged.")),
    )
    for reason, variants, hint in mistakes:
        if any(variant != password and _opens(variant, living) for variant in variants):
            return reason, hint
    if living and len(password) != LENGTH:
        return "wrong_length", Words(
            "A password has {length} characters; {typed} were typed.", length=LENGTH, typed=len(password)
        )
    return None


def _former(client: Client) -> Sequence[Credential]:
    """Return the credentials whose passwords are known but do not open the account any more, the latest first."""
    known = Credential.password_hash.is_null(False) & (Credential.client == client)
    rows = Credential.select().where(known).order_by(Credential.sequence.desc())
    return [row for row in rows if row.state not in OPEN_STATES or row.expires_at is not None]


def _opens(password: str, hashes: Sequence[str]) -> bool:
    return len(password) == LENGTH and any(hashing.matches_hash(password, one) for one in hashes)


def _without_what_was_pasted(password: str) -> Iterator[str]:
    yield "".join(password.split())
    yield password.strip(_AROUND)
    yield from (part for part in password.split() if len(part) == LENGTH)
    yield password[:LENGTH]
    yield password[-LENGTH:]


def _exchanged(password: str) -> Iterator[str]:
    """Yield the password with look-alikes exchanged, those first that differ least from what was typed."""
    choices = [_LOOKALIKES.get(c, c) for c in password]
    if prod(map(len, choices)) > _MOST_LOOKED_AT:
        return
    variants = map("".join, product(*choices))
    yield from sorted(variants, key=lambda variant: sum(map(ne, variant, password)))[:_MOST_EXCHANGES]


def _about_the_mails(client: Client) -> tuple[Cause, str]:
    last = _last(client)
    mail_again = Words("`egec activate {identifier}` mails a new one.", identifier=client.identifier)
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
        return "last_mail_bounced", _came_back(client, last)
    if last.state in OPEN_STATES:
        return "last_mail_in_doubt", Words(
            "It is not known whether the mail of {day} arrived. {mail_again}", day=day, mail_again=mail_again
        )
    if last.state == CredentialState.REVOKED:
        return "revoked", Words("Every password was voided. {mail_again}", mail_again=mail_again)
    return "wrong_password", Words(
        "The password is wrong; the last mail is of {day}. {mail_again}", day=day, mail_again=mail_again
    )


def _last(client: Client) -> Credential | None:
    last: Credential | None = (
        Credential.select().where(Credential.client == client).order_by(Credential.sequence.desc()).first()
    )
    return last


def _came_back(client: Client, last: Credential) -> str:
    return Words(
        "The mail of {day} came back: {bounce}. Correct the address by "
        "`egec client update {identifier} --email EMAIL`, then `egec activate {identifier}`.",
        day=clock.to_rfc3339(last.created_at),
        bounce=last.bounce,
        identifier=client.identifier,
    )
