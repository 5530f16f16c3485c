"""Servers run under their Debian account if the tests run as root, otherwise under the user of the tests."""

import os
import pwd
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.callers.site import CHECKOUT
from tests.programs import SEARCHED, require_program

ACCOUNT = "www-data"
# Long enough for a busy machine; a test that lets it pass has failed.
PATIENCE = 30.0


def as_service_account(command: Sequence[str]) -> list[str]:
    """Return the command that runs this one under the servers' account, where the tests run as root.

    The account may look into root's folders if this Python or the checkout is in one: only how the tests are installed
    needs that, and it gives no right to write.
    """
    if os.geteuid() != 0:
        return list(command)
    dropped = _dropped()
    for rights in ([], _LOOK_EVERYWHERE):
        if _can_run_egec([*dropped, *rights]):
            return [*dropped, *rights, *command]
    pytest.skip(f"the account {ACCOUNT} cannot run {sys.executable} or read {CHECKOUT}, and may not be let")


def within_service_account(command: Sequence[str], folder: Path) -> list[str]:
    """Return the command that runs this one where the caller has taken the servers' account already.

    Should it have to look into root's folders, as above, it is let by a program that is put in `folder`; `give` would
    take that right away again.
    """
    if _can_run_egec(_dropped()):
        return list(command)
    lets = shutil.copy(require_program("setpriv", "util-linux"), folder / "look-everywhere")
    # What `setcap cap_dac_read_search=ep` writes: struct vfs_cap_data of linux/capability.h.
    os.setxattr(lets, "security.capability", struct.pack("<5I", 0x02000001, 1 << 2, 0, 0, 0))
    reader = [str(lets), *_LOOK_EVERYWHERE]
    if _can_run_egec([*_dropped(), *_BY_A_SHELL, *reader]):
        return [*reader, *command]
    pytest.skip(f"the account {ACCOUNT} cannot run {sys.executable} or read {CHECKOUT}, and may not be let")


# As the scripts do: what setpriv runs itself it may still run with the rights of root.
_BY_A_SHELL = ["sh", "-c", 'exec "$@"', "sh"]
_LOOK_EVERYWHERE = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def _dropped() -> list[str]:
    return [require_program("setpriv", "util-linux"), f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"]


def _can_run_egec(prefix: Sequence[str]) -> bool:
    probe = [*prefix, *_BY_A_SHELL, sys.executable, "-c", "import egec_cli"]
    env = {"PATH": SEARCHED, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(probe, env=env, capture_output=True).returncode == 0


@contextmanager
def folder_of_service_account() -> Iterator[Path]:
    """Make a folder that a server's account can reach; `give` makes it the owner of the contents."""
    folder = Path(tempfile.mkdtemp(prefix="egec-caller-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def give(folder: Path) -> None:
    """Make the servers' account the owner of the folder and its contents."""
    if os.geteuid() == 0:
        account = pwd.getpwnam(ACCOUNT)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)


def free_port() -> int:
    """Return a free port of the loopback address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(command: Sequence[str], port: int, log: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Run a server for the `with` block, which starts when the server listens on the loopback port.

    Args:
        command: runs until it is terminated.
        port: on the loopback address.
        log: the file for its output.
        patience: the maximum start-up time in seconds.
    """
    # In a session of its own: when Apache ends, it ends its whole process group, of which the tests would be.
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        deadline = time.monotonic() + patience
        while not _listens(port):
            ended = server.poll() is not None
            if ended or time.monotonic() > deadline:
                server.kill()
                output = log.read_text() if log.exists() else ""
                pytest.fail(f"{command[-1]} does not start: {server.communicate()[1].decode()} {output}")
            time.sleep(0.02)
        yield
    finally:
        server.terminate()
        server.communicate(timeout=PATIENCE)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
