"""The attacks, and what must hold after each."""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import bcrypt

from egec_cli.clients import change, fields, records
from egec_cli.context import Context, create_database, open_context
from egec_cli.credentials import issue
from egec_cli.hashing import start_hash
from egec_cli.logins.verify import verify_login
from egec_cli.networks import prune_counts
from egec_cli.requests.texts import Answer, render_answer
from egec_cli.settings import load
from egec_cli.store.models import Client, CredentialState, Event, RateCount
from egec_cli.store.sql import fetch_tuples, in_list, insert_many
from tests.activations import letters
from tests.door.forks import Forked, run_all
from tests.door.hostile import JEANNE, NETWORKS, make_request
from tests.smtp_server import Fault, MailServer

ACTIVATE, VERIFY = ("activate", "--stdin"), ("verify", "--stdin")
# The exit codes of requests that reach a working mail server, and the words that go with each.
ANSWERS = {
    0: {Answer.SENT},
    65: {Answer.UNAVAILABLE},
    67: {Answer.NOT_RECOGNISED},
    77: {Answer.NOT_RECOGNISED},
    75: {Answer.UNAVAILABLE},
}
# The lowest identifier of the accounts that are attacked.
_FIRST = 2_000_000_000


class Door(NamedTuple):
    """An installation whose portal is attacked; Jeanne has a password, Marc is disabled."""

    folder: Path
    environ: dict[str, str]
    server: MailServer
    password: str

    def run(self, arguments: Sequence[str], make_input: Callable[[int], bytes], number: int) -> list[Forked]:
        """Run `egec` as often as `number` says, with the inputs that `make_input` returns."""
        return run_all(arguments, make_input, number, {**os.environ, **self.environ})

    @contextmanager
    def opened(self) -> Iterator[Context]:
        """Open the database."""
        with open_context(load.load_settings(self.environ)) as context:
            yield context


@contextmanager
def installed(url: str = "") -> Iterator[Door]:
    """Install in a folder of its own; `url` names an empty database (default: an SQLite file)."""
    with tempfile.TemporaryDirectory(prefix="egec-door-") as name, MailServer() as server:
        environ = {
            "EGEC_DATABASE_URL": url or f"sqlite:///{name}/egec.db",
            "EGEC_MAIL_URL": server.url,
            "EGEC_BCRYPT_COST": "4",
            "XDG_CONFIG_HOME": name,
        }
        create_database(load.load_settings(environ))
        door = Door(Path(name), environ, server, "")
        with door.opened() as context:
            jeanne, marc = (
                records.create_client(context, fields.parse_fields(email)) for email in (JEANNE, "marc@example.org")
            )
            change.disable_clients(context, [marc.id], reason="left")
            made = start_hash(context.settings)
            issue.issue_to_operator(context, jeanne, lambda _: None, hashing=made)
        yield door._replace(password=made.password.reveal())


def attack_by_hostile_requests(door: Door, number: int, seed: int) -> list[str]:
    """Send hostile requests; return what is wrong."""
    settings = load.load_settings(door.environ)
    words = {answer: f"{render_answer(settings, answer)}\n" for answer in Answer}
    faults = []
    found = door.run(ACTIVATE, partial(make_request, seed), number)
    for one, ended in enumerate(found):
        expected = {words[answer] for answer in ANSWERS.get(ended.code, set())}
        if ended.out not in expected or "Traceback" in ended.err or not ended.err.replace("\n", "").isprintable():
            faults.append(f"{make_request(seed, one)[:80]!r}: {ended}")
    with door.opened() as context:
        rows, events = RateCount.select().count(), Event.select().count()
        # Three kinds of networks and none; refusals count apart; one client.
        networks = 3 * NETWORKS + 2
        if rows > 2 * networks + 2:
            faults.append(f"{rows} counts are stored")
        if events > 15 * networks + 20:
            faults.append(f"{events} events are stored")
        moment = context.clock() + timedelta(days=1, seconds=1)
        prune_counts(context._replace(clock=lambda: moment))
        if left := RateCount.select().count():
            faults.append(f"{left} counts are left after a day")
    print(f"{number} hostile requests: {dict(Counter(one.code for one in found))}, {len(door.server.accepted)} mails, "
          f"{rows} counts and {events} events stored, {len(faults)} faults")  # fmt: skip
    return faults


def attack_by_flood(door: Door, number: int) -> list[str]:
    """Request passwords for one client from 50 networks, while the mail server refuses all, then not; return faults."""
    faults = []
    door.server.fail_always(Fault.MAIL_451)
    refused = door.run(ACTIVATE, _request_from_network, -(-number // 10))
    if not _signs_in(door, door.password) or door.server.accepted:
        faults.append("a flood without mails changed the password")
    door.server.work_again()
    with door.opened():
        RateCount.delete().execute()
    begin = time.monotonic()
    codes = Counter(one.code for one in door.run(ACTIVATE, _request_from_network, number))
    if codes != {0: number}:
        faults.append(f"exit codes {codes}")
    mails = letters(door.server)
    if len(mails) != 1 or not _signs_in(door, mails[0].password):
        faults.append(f"{len(mails)} mails were sent")
    print(f"{number} requests from 50 networks in {time.monotonic() - begin:.0f} s: {len(mails)} mail, which signs in; "
          f"{len(refused)} with the mail server down: no mail, the earlier password signs in")  # fmt: skip
    return faults


def attack_by_spray(door: Door, number: int, accounts: int) -> list[str]:
    """Try a wrong password for many accounts from one network; return faults."""
    stored = bcrypt.hashpw(b"fG69a*6jH", bcrypt.gensalt(4)).decode()
    with door.opened() as context:
        identifiers = _fill(context, accounts, stored)
    hashes = door.folder / "hashes"
    counted = door._replace(environ={**door.environ, "EGEC_TEST_HASHES": str(hashes)})
    codes = Counter(one.code for one in counted.run(VERIFY, partial(_wrong_login, accounts), number))
    compared = hashes.stat().st_size
    with door.opened() as context:
        shut = Client.select().where(Client.blocked_until.is_null(False)).count()
        events = Event.select().where(Event.action == "login").count()
        is_accepted = verify_login(context, identifiers[-1], "fG69a*6jH", origin="198.51.100.7").accepted
    faults = [f"exit codes {codes}"] if codes != {1: number} else []
    if compared > 30:
        faults.append(f"{compared} hashes were compared")
    if shut or not is_accepted:
        faults.append(f"{shut} accounts were shut")
    print(f"{number} wrong logins from one /24 over {accounts} accounts: {compared} hashes compared, "
          f"{shut} accounts shut, {events} events")  # fmt: skip
    return faults


def _request_from_network(number: int) -> bytes:
    return f"{JEANNE}\n10.0.{number % 50}.7".encode()


def _wrong_login(accounts: int, number: int) -> bytes:
    return f"{_FIRST + number % accounts}\nwrong\n192.0.2.{number % 256}\n".encode()


def _fill(context: Context, accounts: int, stored: str) -> list[str]:
    """Create accounts that have this hash; return their identifiers."""
    identifiers = [str(_FIRST + number) for number in range(accounts)]
    now = "2026-01-01T00:00:00.000Z"
    with context.database.atomic():
        insert_many(
            context.database,
            "client",
            ("identifier", "email", "email_key", "civility", "first_name", "last_name", "language", "created_at",
             "updated_at"),
            [(one, f"{one}@example.org", f"{one}@example.org", "", "", "", "", now, now) for one in identifiers],
            constants={"active_sequence": 1, "last_sequence": 1, "revoked_below": 0, "failed_logins": 0},
        )  # fmt: skip
        rows = fetch_tuples(Client.select(Client.id).where(in_list(Client.identifier, identifiers)))
        insert_many(
            context.database,
            "credential",
            ("client_id", "state", "password_hash", "created_at", "issued_by"),
            [(key, CredentialState.ACCEPTED.value, stored, now, "test") for (key,) in rows],
            constants={"sequence": 1},
        )
    return identifiers


def _signs_in(door: Door, password: str) -> bool:
    with door.opened() as context:
        identifier = Client.get(Client.email_key == JEANNE).identifier
        return verify_login(context, identifier, password).accepted
