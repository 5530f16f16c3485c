"""`egec` as a process under other conditions: without some right, with a small disk, with a part of it changed.

Changes and programs are passed as objects, not as text, so that type checkers and refactoring tools see them. A child
process finds each by its pickled name.
"""

import pickle
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from egec_cli.main import entry
from egec_cli.store import database, upgrade
from tests import children
from tests.conftest import Ended

# A call of a child process: a function of a module, or a `partial` of one.
Call = Callable[[], object]

ROOT = Path(__file__).resolve().parents[1]


def replace(owner: ModuleType | type, name: str, value: object) -> Call:
    """Return the change that sets an attribute of a module or class.

    Raises:
        AttributeError: the attribute is missing.
    """
    getattr(owner, name)
    return partial(children.set_attribute, _reference(owner), name, value)


def wrap(owner: ModuleType | type, name: str, wrapper: Callable[..., object]) -> Call:
    """Return the change that replaces a function by `wrapper`, which gets the function as its first argument.

    Raises:
        AttributeError: the function is missing.
    """
    getattr(owner, name)
    return partial(children.wrap_attribute, _reference(owner), name, wrapper)


def hide_module(name: str) -> Call:
    """Return the change that hides a module, as if it were not installed.

    Raises:
        ModuleNotFoundError: the module is not installed.
    """
    if find_spec(name) is None:
        raise ModuleNotFoundError(f"no module {name} to hide")
    return partial(children.hide_module, name)


def _reference(owner: ModuleType | type) -> str | type:
    return owner.__name__ if isinstance(owner, ModuleType) else owner


def command_of(*calls: Call) -> list[str]:
    """Return the command of a Python process that makes these calls in order.

    Raises:
        pickle.PicklingError: a child could not find one of the functions or values.
        AttributeError: the same, for a function defined in another one.
    """
    # Each call is loaded after the one before was made: a change can precede an import.
    script = (
        f"import pickle, sys\nsys.path.append({str(ROOT)!r})\n"
        f"for call in {[pickle.dumps(call) for call in calls]!r}:\n    pickle.loads(call)()"
    )
    # -P: like the installed program, it does not import from the working folder.
    return [sys.executable, "-P", "-c", script]


def egec_after(*changes: Call) -> list[str]:
    """Return the command that runs `egec` after these changes; the caller appends the arguments."""
    return command_of(*changes, entry)


def run_with(changes: Sequence[Call], *arguments: str, stdin: str = "") -> Ended:
    """Run `egec` as a process after these changes."""
    command = [*egec_after(*changes), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=60)
    return Ended(done.returncode, done.stdout, done.stderr)


# A change that shortens the wait for other transactions.
IMPATIENT = replace(database, "BUSY_TIMEOUT", 1)


def disk_with_room_to(size: int) -> Call:
    """Return the change that limits the size of files, in bytes."""
    return partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))


def later_release(folder: Path, migration: str) -> Call:
    """Return the change to a later release with this last migration; `folder` is created for its migrations."""
    folder.mkdir()
    for path in upgrade.MIGRATIONS.glob("[0-9]*.py"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "9999_later.py").write_text(migration)
    return replace(upgrade, "MIGRATIONS", folder)


def run_as_any_user(*arguments: str, stdin: str = "") -> Ended:
    """Run `egec` as a process that cannot override file permissions as root can."""
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
