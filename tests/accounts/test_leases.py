"""The lease per client: who waits for whom, and for how long."""

import os
import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from egec_cli.accounts import clients, fields, leases
from egec_cli.accounts.egec import Egec
from egec_cli.errors import NotNow
from egec_cli.store.models import Client


@pytest.fixture
def client(opened: Egec) -> Client:
    """Return a client."""
    return clients.create(opened, fields.checked("jeanne@example.org"))


def owner(client: Client) -> str | None:
    holder: str | None = Client.get_by_id(client.id).lease_owner
    return holder


def gone_process() -> int:
    """Return the number of a process that was and is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_lease_that_is_held_is_waited_for_in_vain(opened: Egec, client: Client) -> None:
    leases.take(opened, client)
    with pytest.raises(NotNow, match=f"client {client.identifier} is being mailed by another egec"):
        leases.take(opened, client, patience=0.1)


def test_a_released_lease_is_free_at_once(opened: Egec, client: Client) -> None:
    leases.take(opened, client).release()
    assert leases.take(opened, client, patience=0).owner


def test_a_lease_whose_process_is_gone_from_this_host_is_free_at_once(opened: Egec, client: Client) -> None:
    left = leases.take(opened, client).owner.split("/")
    Client.update(lease_owner=f"{left[0]}/{gone_process()}/{left[2]}/{left[3]}").execute()
    assert leases.take(opened, client, patience=0).owner


def test_a_process_number_that_was_given_to_another_process_does_not_hold_it(opened: Egec, client: Client) -> None:
    left = leases.take(opened, client).owner.split("/")
    Client.update(lease_owner=f"{left[0]}/{os.getppid()}/1/{left[3]}").execute()
    assert leases.take(opened, client, patience=0).owner


def test_a_lease_of_another_host_is_kept_until_its_time_ends(opened: Egec, client: Client) -> None:
    left = leases.take(opened, client).owner.split("/")
    Client.update(lease_owner=f"elsewhere/{gone_process()}/{left[2]}/{left[3]}").execute()
    with pytest.raises(NotNow):
        leases.take(opened, client, patience=0)
    later = opened.clock() + timedelta(days=1)
    assert leases.take(opened._replace(clock=lambda: later), client, patience=0).owner


def test_to_release_a_lease_that_another_has_taken_over_leaves_it_alone(opened: Egec, client: Client) -> None:
    first = leases.take(opened, client)
    later = opened.clock() + timedelta(days=1)
    second = leases.take(opened._replace(clock=lambda: later), client, patience=0)
    first.release()
    assert owner(client) == second.owner


def test_a_lease_that_is_released_soon_is_waited_for(opened: Egec, client: Client) -> None:
    held = leases.take(opened, client)

    def release() -> None:
        with opened.database.connection_context():
            held.release()

    soon = threading.Timer(0.2, release)
    soon.start()
    assert leases.take(opened, client).owner != held.owner
    soon.join()
