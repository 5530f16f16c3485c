"""A small database in which every command can succeed, fail in part, and be refused."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from egec_cli import clock
from egec_cli.context import open_context
from egec_cli.credentials import leases
from egec_cli.settings import load
from egec_cli.store.models import Client, ItemState, ReissueItem, ReissueRun, RunState
from tests.conftest import Egec
from tests.delivery_reports import report_of
from tests.smtp_server import Fault, MailServer

JEANNE, MARC, PAUL, ZOE, BUSY = "1234567890", "2345678901", "3456789012", "4567890123", "5678901234"
PASSWORD_FILE = "password.txt"


class World(NamedTuple):
    """Jeanne has a password, the server refuses Marc's address, Paul is disabled, Zoe was erased; one more client is
    being mailed. The runs `done`, `failed`, `paused` and `cancelled` are in the state that their name says.
    """

    folder: Path
    server: MailServer


def create_world(folder: Path, kept: Path, egec: Egec, server: MailServer, monkeypatch: pytest.MonkeyPatch) -> World:
    """Create the world in a folder the first time, keep a copy in `kept`, and use the copy the next time."""
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{folder}/data/egec.db")
    for address in ("marc@example.org", "refused@example.org"):
        server.fail_always(Fault.RCPT_550, recipient=address)
    if not kept.exists():
        _fill(folder, egec)
        shutil.copytree(folder, kept)
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    _hold_busy()
    return World(folder, server)


def _fill(folder: Path, egec: Egec) -> None:
    egec("init")
    for name, identifier in {"jeanne": JEANNE, "marc": MARC, "paul": PAUL, "zoe": ZOE, "busy": BUSY}.items():
        egec("client", "create", f"{name}@example.org", "--identifier", identifier, "--reference", f"D-{name}")
    files = {
        "some.txt": f"{JEANNE}\n",
        "partly.txt": f"{JEANNE}\nnobody@example.org\n",
        "marc.txt": "marc@example.org\n",
        "jeanne.txt": "jeanne@example.org\n192.0.2.7\n",
        "paul.txt": "paul@example.org\n",
        "clients.csv": "email;nom\nnew@example.org;New\n",
        "partly.csv": "email;nom\nnewer@example.org;New\nno address;X\n",
        "none.csv": "nom\nNew\n",
        "broken.txt": "a" * 10 + "\0\n",
        "logins.csv": "1111111111;wrong\n",
        "no-logins.csv": "one\ntwo\n",
        "report.eml": report_of().decode(),
        "empty.mbox": "",
    }
    for file, content in files.items():
        (folder / file).write_text(content)
    for command in (
        ("client", "disable", PAUL, "--reason", "left"),
        ("client", "erase", ZOE, "--yes"),
        ("reissue", "start", "done", "--from", "some.txt", "--yes"),
        ("reissue", "start", "failed", "--from", "marc.txt", "--yes"),
    ):
        egec(*command)
    shown = egec("activate", JEANNE, "--no-mail", "--show-password").out
    (folder / PASSWORD_FILE).write_text(shown.split()[1])
    (folder / "login.txt").write_text("\n".join(shown.split()))
    (folder / "checkpassword").write_text("\0".join([*shown.split(), ""]))
    with open_context(load.load_settings()):
        now = clock.now()
        for state in (RunState.PAUSED, RunState.CANCELLED):
            run = ReissueRun.create(
                name=str(state), selection='{"everyone": true}', state=state, options="{}", created_at=now
            )
            jeanne = Client.get(Client.identifier == JEANNE)
            ReissueItem.create(run=run, client=jeanne, state=ItemState.WAITING, attempts=0, not_before=now)


def _hold_busy() -> None:
    with open_context(load.load_settings()) as context:
        leases.take_lease(context, Client.get(Client.identifier == BUSY))
