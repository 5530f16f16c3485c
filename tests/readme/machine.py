"""A machine of the test's own, on which the README's examples for administrators are carried out to the letter.

It has the accounts, the folders and the programs of this machine; what is written to `/etc`, `/opt`, `/var` … stays
with it, for its commands run in a mount namespace in which layers of a scratch folder lie over those folders.
"""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.callers.site import CHECKOUT
from tests.conftest import Ended
from tests.programs import require_program

LAYERED = ("/etc", "/home", "/opt", "/srv", "/usr/local/lib", "/var")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEEP_IT_UP = """
set -eu
scratch=$1 places=$2 opened=$3
for place in $places; do
    mkdir -p "$scratch/upper$place" "$scratch/work$place"
    mount -t overlay egec -o "lowerdir=$place,upperdir=$scratch/upper$place,workdir=$scratch/work$place" "$place"
done
for place in $opened; do chmod o+x "$place"; done
echo up
exec cat
"""
READ_ONLY = """
set -eu
places=$1 state=$2; shift 2
mount --bind "$state" "$state"
for place in $places /; do mount -o remount,bind,ro "$place"; done
exec "$@"
"""
ALONE = ["unshare", "--mount", "--propagation", "private"]


class Machine:
    """One that has `/opt/egec/bin/egec` and nothing else of egec yet; `machine` makes it.

    Args:
        process: the process that keeps its namespace.
        places: the folders in which what is written stays with it.
    """

    def __init__(self, process: int, places: Sequence[str]) -> None:
        self._process = process
        self._places = places
        egec = f'#!/bin/sh\nPYTHONPATH={CHECKOUT} exec {sys.executable} -m egec_cli "$@"\n'
        self.write("/opt/egec/bin/egec", egec, mode=0o755)

    def entered(self, command: list[str], *, writable: str = "") -> list[str]:
        """Return the command that runs this one, as root, on the machine.

        Args:
            command: the program and its arguments.
            writable: the one folder that may be written to, as with `ProtectSystem=strict`; all of them by default.
        """
        if writable:
            command = [*ALONE, "sh", "-c", READ_ONLY, "sh", " ".join(self._places), writable, *command]
        return ["nsenter", f"--target={self._process}", "--mount", *command]

    def run(
        self,
        command: list[str],
        *,
        user: str = "root",
        typed: str = "",
        variables: Mapping[str, str] | None = None,
        folder: str = "/",
        writable: str = "",
    ) -> Ended:
        """Run a command on the machine, with nothing in its environment but `PATH` and these variables."""
        if user != "root":
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--", *command]
        environment = [f"{name}={value}" for name, value in {"PATH": PATH, **(variables or {})}.items()]
        done = subprocess.run(
            self.entered(["env", "-i", "-C", folder, *environment, *command], writable=writable),
            input=typed,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=120,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def must(self, command: list[str], **how: str) -> str:
        """Run a command as root, require success, and return its output."""
        ended = self.run(command, **how)  # type: ignore[arg-type]
        assert ended.code == 0, f"{command}: {ended}"
        return ended.out

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file of root and its parent folders."""
        script = f'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod {mode:o} "$1"'
        self.must(["sh", "-c", script, "sh", path], typed=text)


def _on_the_way() -> list[Path]:
    files = [Path(sys.executable), Path(os.path.realpath(sys.executable)), CHECKOUT / "egec_cli"]
    found = {folder for file in files for folder in file.parents}
    return sorted(found)


@contextmanager
def machine() -> Iterator[Machine]:
    """Make a machine; skip the test if that is impossible."""
    if os.geteuid() != 0:
        pytest.skip("a machine of the test's own needs the rights of root: run the tests as root")
    for program in ("unshare", "nsenter", "setpriv"):
        require_program(program, "util-linux")
    # Folders on the way to this Python and to the checkout that only their owner may pass.
    closed = [str(place) for place in _on_the_way() if not place.stat().st_mode & stat.S_IXOTH]
    places = [*LAYERED, *closed]
    require_program("mount", "mount")
    with tempfile.TemporaryDirectory(prefix="egec-machine-") as scratch:
        command = [*ALONE, "sh", "-c", KEEP_IT_UP, "sh", scratch, " ".join(places), " ".join(closed)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"up\n":
                pytest.skip(f"a machine of the test's own cannot be made here: {process.communicate()[1].decode()}")
            yield Machine(process.pid, places)
        finally:
            process.communicate()
