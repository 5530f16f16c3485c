"""`egec` as a process in other circumstances: without some right, with a small disk, with something of it broken."""

import subprocess
import sys

import pytest

from tests.conftest import Ended

# So that no statement waits long for another's transaction.
IMPATIENT = "from egec_cli.store import database\ndatabase.BUSY_TIMEOUT = 1\n"


def run_with(patch: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run `egec` after `patch` has broken something of it, to meet what cannot be met otherwise."""
    script = f"import sys\n{patch}\nfrom egec_cli.main import entry\nsys.argv[1:] = {list(arguments)!r}\nentry()"
    # As the installed program, it does not import from the folder in which it is called.
    command = [sys.executable, "-P", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=60)


def run_patched(patch: str, *arguments: str, stdin: str = "") -> Ended:
    """Run `egec` as a process in which `patch` has been done first."""
    done = run_with(patch, *arguments, stdin=stdin)
    return Ended(done.returncode, done.stdout, done.stderr)


def run_as_any_user(*arguments: str, stdin: str = "") -> Ended:
    """Run `egec` as a process that may not override the rights to a file, as root may."""
    script = """
import ctypes, os, sys
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24
if os.getuid() == 0:
    for right in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        if ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, right, 0, 0, 0) != 0:
            sys.exit("cannot be dropped")
os.execv(sys.executable, [sys.executable, "-m", "egec_cli", *sys.argv[1:]])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], input=stdin, capture_output=True, text=True, timeout=60
    )
    if "cannot be dropped" in done.stderr:
        pytest.skip("this system does not let root give up its rights")
    return Ended(done.returncode, done.stdout, done.stderr)


def disk_with_room_to(size: int) -> str:
    """Return the patch that lets no file grow beyond so many bytes."""
    return f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
