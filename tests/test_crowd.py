"""Eight processes activate the same clients at once while some mails fail: the promises hold."""

import os
import subprocess
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial

import pytest

from egec_cli import hashing
from egec_cli.clients import fields, records
from egec_cli.context import Context
from egec_cli.credentials import states
from egec_cli.credentials.issue import issue_by_mail
from egec_cli.logins.verify import verify_login
from egec_cli.mail.transports import choose
from egec_cli.settings import load
from egec_cli.store.models import Client, Credential
from tests import children
from tests.activations import Letter, Login, letters, log_in_with_the_newest
from tests.processes import command_of
from tests.smtp_server import Fault, MailServer, Point

PROCESSES = 8
CLIENTS = 12
LOGINS_AT_ONCE = 6
ROUNDS_OF_LOGINS = 12
# Long enough for a busy machine; a crowd that needs it has failed.
PATIENCE = 120.0

# Some mails are refused or their answer is lost; the others succeed.
FAILURES = (
    Fault.RCPT_550,
    Fault.CUT_AFTER_KEEPING,
    Fault.RCPT_451,
    Fault.CUT_IN_MESSAGE,
    Fault.MESSAGE_451,
    Fault.CUT_BEFORE_KEEPING,
    Fault.CUT_AT_MAIL,
    Fault.CUT_IN_ANSWER,
)
FAULTS = [fault for failure in 2 * FAILURES for fault in (*[Fault.NONE] * 7, failure)]


def exit_codes_of_a_crowd(identifiers: list[str]) -> list[int]:
    """Activate these clients from all processes at once, and return the exit codes of the activations."""
    gate, opener = os.pipe()
    command = command_of(partial(children.activate_each, identifiers))
    with ExitStack() as stack:
        crowd = [
            stack.enter_context(subprocess.Popen(command, stdin=gate, stdout=subprocess.PIPE)) for _ in range(PROCESSES)
        ]
        os.close(gate)
        os.close(opener)
        outputs = [member.communicate(timeout=PATIENCE)[0] for member in crowd]
    return [int(code) for output in outputs for code in output.splitlines()[-1].split()]


def opens(context: Context, client: Client, received: Letter) -> bool:
    """Return whether the letter's password would sign in, without recording a login."""
    candidates = states.usable_credentials(client, context.clock())
    return any(hashing.matches_hash(received.password, candidate.password_hash or "") for candidate in candidates)


def require_kept_promises(context: Context, client: Client, received: list[Letter]) -> None:
    """Compare the letters that a client received, in this order, with the database."""
    rows = list(Credential.select().where(Credential.client == client).order_by(Credential.sequence))
    assert [row.sequence for row in rows] == list(range(1, client.last_sequence + 1))
    sequence_of = {row.message_id: row.sequence for row in rows}
    sequences = [sequence_of[one.message_id] for one in received]
    assert sequences == sorted(set(sequences))
    assert client.lease_owner is None
    assert not any(row.state == "sending" for row in rows)
    assert sum(row.state == "accepted" for row in rows) <= 1

    *earlier, last = received
    assert opens(context, client, last)
    settled_before = [one for one in earlier if sequence_of[one.message_id] < client.active_sequence]
    assert not any(opens(context, client, one) for one in settled_before)
    assert verify_login(context, client.identifier, last.password).accepted


def test_processes_that_activate_the_same_clients_keep_the_promises(
    opened: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(CLIENTS):
        records.create_client(opened, fields.parse_fields(f"c{number}@example.org"))
    identifiers = {client.identifier for client in Client.select()}
    logins: list[Login] = []
    with MailServer() as server:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        server.at(Point.KEPT, log_in_with_the_newest(opened, server, logins))
        server.fail_next(*FAULTS)
        codes = Counter(exit_codes_of_a_crowd(sorted(identifiers)))
        server.wait_until_quiet()
    kept = letters(server)

    assert codes.total() == PROCESSES * CLIENTS
    assert set(codes) == {0, 65, 75}
    for client in Client.select():
        require_kept_promises(opened, client, [one for one in kept if one.identifier == client.identifier])
    assert len(logins) == len(kept)
    for one in logins:
        later = kept[kept.index(one.with_letter) + 1 : one.kept]
        assert one.accepted or one.with_letter.identifier in {other.identifier for other in later}


def test_logins_are_accepted_while_their_mail_is_being_settled(
    opened: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = records.create_client(opened, fields.parse_fields("jeanne@example.org"))
    logins: list[Login] = []
    with MailServer() as server, ThreadPoolExecutor(LOGINS_AT_ONCE) as pool:
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        log_in = log_in_with_the_newest(opened, server, logins)
        under_way: list[Future[None]] = []
        server.at(Point.KEPT, lambda: under_way.extend(pool.submit(log_in) for _ in range(LOGINS_AT_ONCE)))
        transport = choose.open_transport(load.load_settings())
        for _ in range(ROUNDS_OF_LOGINS):
            issue_by_mail(opened, client, transport, hashing=hashing.start_hash(opened.settings))
            wait(under_way)
        transport.close()
    assert [one.accepted for one in logins] == [True] * LOGINS_AT_ONCE * ROUNDS_OF_LOGINS
