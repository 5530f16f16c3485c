"""Operators and portals: they activate clients one by one, and try again after a temporary failure."""

import json
from collections.abc import Iterable

from tests.week.office import KILLED
from tests.week.state import Given, Week

_MOST_TRIES = 10
_COUNTED = {0: "activations", 65: "activations refused", 75: "activations put off"}


def activate_all(week: Week, clients: Iterable[str], actor: str) -> None:
    """Activate these clients one by one, and skip those who cannot be reached."""
    for client in clients:
        _activate(week, client, actor, until=(0, 65))


def revoke(week: Week, client: str, actor: str) -> None:
    """Revoke all passwords of a client after a leak, repeatedly until a mail has left; until then no password works."""
    _activate(week, client, actor, "--revoke", until=(0,))
    week.books.count("clients whose earlier passwords were revoked")


def try_in_vain(week: Week, client: str, actor: str) -> None:
    """Activate a client while the mail server is unavailable, and expect a temporary failure."""
    week.egec("activate", client, "--format", "json", actor=actor, codes=(75,))
    week.books.count("activations put off")


def activate_once(week: Week, client: str, actor: str, *options: str) -> int:
    """Activate a client once; return the exit code."""
    ended = week.egec("activate", client, *options, "--format", "json", actor=actor, codes=(0, 65, 75))
    week.books.count(_COUNTED.get(ended.code, "activations that failed"))
    if ended.code == 0:
        _settle(week, ended.out, actor)
    return ended.code


def activate_and_be_killed(week: Week, client: str, actor: str) -> None:
    """Activate a client with a process that is killed when the mail arrives."""
    before = week.post.received
    running = week.egec.begin("activate", client, "--format", "json", actor=actor)
    ended = running.kill_when(lambda: week.post.received > before)
    week.books.count("activations killed", int(ended.code == KILLED))


def hand_over(week: Week, client: str, actor: str) -> None:
    """Show a client a new password at the counter."""
    ended = week.egec.hand_over("activate", client, "--no-mail", "--show-password", "--format", "json", actor=actor)
    result = json.loads(ended.out)
    week.by_hand[result["identifier"]].append(Given(result["sequence"], result["password"], None))
    week.books.expect("credential.show", "started")
    week.books.count("passwords shown at the counter")
    _settle(week, ended.out, actor)


def _activate(week: Week, client: str, actor: str, *options: str, until: tuple[int, ...]) -> None:
    is_done = any(activate_once(week, client, actor, *options) in until for _ in range(_MOST_TRIES))
    week.books.require(is_done, f"client {client} could not be activated in {_MOST_TRIES} tries")


def _settle(week: Week, out: str, actor: str) -> None:
    result = json.loads(out)
    identifier, sequence, state = result["identifier"], result["sequence"], result["state"]
    week.books.require(state in {"accepted", "superseded"}, f"client {identifier}: an activation ended as {state}")
    week.settled[identifier] = max(week.settled[identifier], sequence)
    week.accepted_by[actor] += 1
