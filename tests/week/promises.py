"""The promises at the end of a week, held for every client against what the mail server has really taken.

P1 of the mails that the server accepted, the one with the highest sequence opens the account, which is the last one
   that the client got, unless the account is shut; P2 no earlier password does, once a later issue has been settled;
P3 a failed issue changes nothing; P4 the identifier never changes. (DESIGN of the product, and README, "How it works")
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from egec_cli.errors import ExitCode
from tests.week import logins
from tests.week.logins import Login
from tests.week.office import KILLED
from tests.week.state import Given, Week

_SPECIAL = re.compile(rb"[#%+=?*!-]")
_HEXADECIMAL = re.compile(rb"[0-9a-f]{18,}")
_LENGTH = 9
# Of so few mails that arrive, a worker that is killed does not get to know it, in a small week.
_MOST_IN_FLIGHT = 15
# Fewer than these in a row let no account wait.
_MOST_TRIES_OF_THE_SHUT = 3


def check(week: Week) -> None:
    """Check the promises for every client, and compare the books with the record."""
    week.look_at_identifiers()
    _every_letter_is_on_record_and_went_to_a_known_address(week)
    _letters_came_in_order(week)
    issues = week.egec("audit", "list", "--action", "credential.issue", "--format", "jsonl").rows()
    _learn_what_was_settled(week, issues)
    _passwords_open_or_do_not(week)
    _nothing_is_left_open(week)
    _runs_add_up(week)
    _no_mail_was_repeated_needlessly(week, issues)
    _each_change_is_on_record(week, issues)
    _exit_codes_are_documented(week)


def _every_letter_is_on_record_and_went_to_a_known_address(week: Week) -> None:
    recorded = {row.message_id: row.identifier for row in week.store.credentials()}
    known_by = {identifier: name for name, identifier in week.identifiers.items()}
    notes = 0
    for place, letter in enumerate(week.post.letters()):
        if not letter.password:
            notes += 1
            continue
        may_be_forgotten = place in week.lost or week.shut.get(letter.identifier) == "erased"
        owner = recorded.get(letter.message_id)
        week.books.require(
            owner == letter.identifier or (owner is None and may_be_forgotten),
            f"P4: the mail {letter.message_id} to {letter.recipient} says {letter.identifier}, the record {owner}",
        )
        allowed = week.addresses[known_by.get(letter.identifier, "")]
        week.books.require(letter.recipient in allowed, f"{letter.recipient} got the mail of {letter.identifier}")
    expected = week.books.events["client.notice", "accepted"]
    week.books.require(notes == expected, f"{notes} notes to previous addresses arrived, not {expected}")
    week.books.count("mails that the server accepted", week.post.received)
    week.books.count("of them without a password", notes)


def _letters_came_in_order(week: Week) -> None:
    sequences = {row.message_id: row.sequence for row in week.store.credentials() if row.message_id}
    came: dict[str, list[int]] = defaultdict(list)
    for letter in week.post.letters():
        if letter.message_id in sequences:
            came[letter.identifier].append(sequences[letter.message_id])
    for identifier, order in came.items():
        week.books.require(order == sorted(order), f"P1: the mails of client {identifier} came as {order}")


def _learn_what_was_settled(week: Week, issues: Iterable[Mapping[str, Any]]) -> None:
    for event in issues:
        sequence = event["details"].get("sequence", 0)
        if event["outcome"] == "accepted":
            week.settled[event["client"]] = max(week.settled[event["client"]], sequence)


def _passwords_open_or_do_not(week: Week) -> None:
    given = week.given()
    week.books.count("clients held to the promises", len(given))
    week.books.count("of them with more than one password", sum(len(passwords) > 1 for passwords in given.values()))
    week.books.count("of them whose account is shut", sum(identifier in week.shut for identifier in given))
    logins.try_all(week, [list(_final_logins(week, *item)) for item in sorted(given.items())])


def _final_logins(week: Week, identifier: str, given: Sequence[Given]) -> Iterator[Login]:
    if identifier in week.shut:
        for one in given[-_MOST_TRIES_OF_THE_SHUT:]:
            yield Login(identifier, one.password, False, f"the client is {week.shut[identifier]}")
    else:
        yield from logins.thoroughly(week, identifier, given)


def _nothing_is_left_open(week: Week) -> None:
    """Require that, after the last password was used, one password is active and none in doubt."""
    states = defaultdict(list)
    for row in week.store.credentials():
        states[row.identifier].append(row)
    for identifier, given in week.given().items():
        if identifier in week.shut:
            continue
        in_use = [row.sequence for row in states[identifier] if row.state == "accepted"]
        week.books.require(in_use == [given[-1].sequence], f"client {identifier}: {in_use} are in use")
        still_open = [row for row in states[identifier] if row.state == "sending"]
        week.books.require(not still_open, f"client {identifier}: {still_open} are under way for ever")


def _runs_add_up(week: Week) -> None:
    for run in week.egec("reissue", "status", "--format", "jsonl").rows():
        adds_up = run["accepted"] + run["failed"] + run["skipped"] == run["total"] and run["remaining"] == 0
        week.books.require(run["state"] == "done" and adds_up, f"the run {run['name']} does not add up: {run}")
        week.books.count(f"clients of the run {run['name']}, {run['failed']} of them failed", run["total"])


def _no_mail_was_repeated_needlessly(week: Week, issues: Iterable[Mapping[str, Any]]) -> None:
    """Require that a run repeats a mail only if it cannot know that the previous one was accepted."""
    known: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for event in issues:
        known[event["outcome"]].add((event["client"], event["details"].get("sequence")))
    arrived = {letter.message_id for letter in week.post.letters()}
    mails: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for row in week.store.credentials():
        if row.run is not None and row.message_id in arrived:
            mails[row.run, row.identifier].append((row.identifier, row.sequence))
    twice = [several for several in mails.values() if len(several) > 1]
    for *before, _ in twice:
        in_vain = known["accepted"].intersection(before)
        week.books.require(not in_vain, f"a run mailed clients again after {in_vain} acceptances were reported to it")
    unexplained = [several for several in twice if known["in_doubt"].isdisjoint(several[:-1])]
    week.books.require(len(unexplained) <= _most_in_flight(week), f"runs mailed {len(unexplained)} clients twice")
    week.books.count("clients mailed twice by a run, for an answer was lost", len(twice) - len(unexplained))
    week.books.count("clients mailed twice by a run, for a worker was killed", len(unexplained))


def _most_in_flight(week: Week) -> int:
    """Return for how many mails the acceptance may be unknown, because of kills and the backup."""
    return (week.egec.codes[KILLED] + 1) * max(_MOST_IN_FLIGHT, week.number // 100)


def _each_change_is_on_record(week: Week, issues: Collection[Mapping[str, Any]]) -> None:
    by_credential = Counter((one["client"], one["details"].get("sequence")) for one in issues)
    doubled = [key for key, number in by_credential.items() if number > 1 and key[1] is not None]
    week.books.require(not doubled, f"issues are on record more than once: {doubled}")
    _arrived_issues_are_on_record(week, by_credential)
    for actor, number in week.accepted_by.items():
        found = sum(
            one["actor"].endswith(f"for {actor})") and one["outcome"] in {"accepted", "superseded"} for one in issues
        )
        week.books.require(found == number or actor == "carla", f"{actor} issued {number}, on record are {found}")
    rows = week.egec("audit", "list", "--fields", "action,outcome", "--format", "jsonl").rows()
    found_events = Counter((row["action"], row["outcome"]) for row in rows)
    for (action, outcome), number in week.books.events.items():
        found = found_events[action, outcome]
        week.books.require(found == number, f"{found} events {action} {outcome} are on record, not {number}")
    week.books.count("events on record", len(rows))


def _arrived_issues_are_on_record(week: Week, issues: Mapping[tuple[str, int], int]) -> None:
    """Require a recorded issue for every mail that arrived, except those whose sender was killed."""
    arrived = {letter.message_id for letter in week.post.letters()}
    unrecorded = [
        row
        for row in week.store.credentials()
        if row.message_id in arrived and not issues[row.identifier, row.sequence]
    ]
    week.books.require(
        len(unrecorded) <= _most_in_flight(week), f"of {len(unrecorded)} mails that arrived, no issue is on record"
    )
    week.books.count("mails whose issue is not on record, for their sender was killed", len(unrecorded))


def _exit_codes_are_documented(week: Week) -> None:
    for code, number in sorted(week.egec.codes.items()):
        is_documented = code in {one.value for one in ExitCode} and code != ExitCode.INTERNAL_ERROR
        week.books.require(is_documented or code == KILLED, f"{number} commands ended with {code}")
        word = "were killed" if code == KILLED else f"ended with exit code {code}"
        week.books.count(f"commands that {word}", number)


def check_files(week: Week) -> None:
    """Require that no clear password is stored outside the mail, and that erased data is gone."""
    outputs = ((path.name, path.read_bytes()) for path in sorted(week.egec.outputs.iterdir()))
    stored = week.store.content()
    kept = [address for address in week.erased if address in stored]
    week.books.require(not kept, f"{len(kept)} addresses of erased clients are still stored")
    forms = forms_of(secret.encode() for secret in week.secrets())
    size = 0
    for name, content in (*week.store.at_rest(), *outputs):
        size += len(content)
        for secret in found_secrets(content, forms):
            week.books.require(False, f"a clear password is in {name}: …{secret.decode()[-3:]}")
        if name in week.store.without_erased:
            kept = [data for data in week.erased if data in content]
            week.books.require(not kept, f"{len(kept)} addresses of erased clients are still in {name}")
    week.books.count("clear passwords looked for", len(forms) // 2)
    week.books.count("bytes searched for them", size)


def forms_of(secrets: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return the secrets by the forms in which they are looked for: as they are, and in hexadecimal."""
    return {form: secret for secret in secrets for form in (secret, secret.hex().encode())}


def found_secrets(content: bytes, forms: Mapping[bytes, bytes]) -> Iterator[bytes]:
    """Yield those of the secrets, all of nine characters with a special among them, that stand in the content.

    They are found in the forms of `forms_of`, and in UTF-16.
    """
    for text in (content, content.replace(b"\0", b"")) if b"\0" in content else (content,):
        for special in _SPECIAL.finditer(text):
            for begin in range(max(0, special.start() - _LENGTH + 1), special.start() + 1):
                if (piece := text[begin : begin + _LENGTH]) in forms:
                    yield forms[piece]
    for run in _HEXADECIMAL.finditer(content):
        for begin in range(run.start(), run.end() - 2 * _LENGTH + 1):
            if (piece := content[begin : begin + 2 * _LENGTH]) in forms:
                yield forms[piece]
