"""Workers in containers with the same host name and process numbers never mail for each other."""

import os
import subprocess
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from egec_cli.clients import fields, records
from egec_cli.context import open_context
from egec_cli.credentials import leases
from egec_cli.settings import load
from egec_cli.settings.types import Database
from tests import children
from tests.activations import PATIENCE, letters
from tests.processes import command_of
from tests.reissue_storm import WORKER
from tests.smtp_server import MailServer, Point

PEOPLE, WORKERS = 60, 3
# Processes are numbered from 1, as in a container; the host name stays.
CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture(scope="module", autouse=True)
def containers() -> None:
    """Skip the tests if this user cannot create PID namespaces."""
    try:
        subprocess.run([*CONTAINER, "true"], check=True, capture_output=True, timeout=PATIENCE)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no PID namespaces, which need root and unshare: {error}")


def in_container(*command: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([*CONTAINER, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(workers: Sequence["subprocess.Popen[bytes]"]) -> list[tuple[int, str]]:
    errors = [worker.communicate(timeout=PATIENCE)[1].decode() for worker in workers]
    return [(worker.returncode, err) for worker, err in zip(workers, errors, strict=True)]


def test_workers_in_containers_with_one_host_name_mail_each_client_once(location: Database, server: MailServer) -> None:
    with open_context(load.load_settings()) as context:
        for number in range(PEOPLE):
            records.create_client(context, fields.parse_fields(f"c{number}@example.org"))
    # Slow enough for the workers to meet.
    server.at(Point.KEPT, lambda: time.sleep(0.2))
    command = (*WORKER, "reissue", "start", "spring", "--all", "--yes", "--format", "jsonl")
    results = ended([in_container(*command) for _ in range(WORKERS)])
    server.wait_until_quiet()
    mails = Counter(letter.identifier for letter in letters(server))
    assert [err for _, err in results] == [""] * WORKERS
    assert {code for code, _ in results} == {0}
    assert (len(mails), set(mails.values())) == (PEOPLE, {1})


def test_a_process_of_another_container_never_counts_as_ended() -> None:
    process = in_container(*command_of(children.print_lease_owner))
    name = process.communicate(timeout=PATIENCE)[0].decode().strip()
    assert process.returncode == 0
    host, number, *_ = name.split("/")
    assert (host, number) == (os.uname().nodename, "1")
    assert not leases.is_owner_gone(name)


def test_a_container_with_the_proc_of_its_host_never_counts_running_processes_as_ended() -> None:
    command = [*(part for part in CONTAINER if part != "--mount-proc"), *command_of(children.judge_owners_in_fork)]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, b"")
