"""Functions that child processes call: changes to `egec` before it runs, and small programs that use it as a library.

`tests.processes` makes the commands. A child imports this module first, so each function imports what it needs when it
is called: a child loads only what it uses, and a change can precede an import.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import sqlite3

    from egec_cli.mail.compose.message import Mail
    from egec_cli.password import Password
    from egec_cli.settings.types import SqliteFile

# Connections that stay open until the process ends.
_kept_open: "list[sqlite3.Connection]" = []


# Changes to a module or class. `tests.processes` checks in the parent that the attribute exists.


def set_attribute(owner: str | type, name: str, value: object) -> None:
    """Set an attribute of a module, given by its name, or of a class.

    Raises:
        AttributeError: the attribute is missing.
    """
    target = import_module(owner) if isinstance(owner, str) else owner
    if not hasattr(target, name):
        raise AttributeError(f"{target} has no attribute {name}")
    setattr(target, name, value)


def wrap_attribute(owner: str | type, name: str, wrapper: Callable[..., object]) -> None:
    """Replace a function by `wrapper`, which gets the function as its first argument."""
    original = getattr(import_module(owner) if isinstance(owner, str) else owner, name)

    def call_wrapper(*arguments: object, **named: object) -> object:
        return wrapper(original, *arguments, **named)

    set_attribute(owner, name, call_wrapper)


def hide_module(name: str) -> None:
    """Make imports of a module fail, as if it were not installed."""
    sys.modules[name] = None  # type: ignore[assignment] # Python's way to mark a module as missing


# Changes to the surroundings of the process.


def enter_deleted_folder() -> None:
    """Create a folder in the working folder, enter it and delete it."""
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")


def allow_core_files(folder: Path) -> None:
    """Enter a folder, and let a crash write the memory of the process to it."""
    import resource

    os.chdir(folder)
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


# Functions that replace others.


def clock_of_a_test(_database: object, _local: object = None) -> "Callable[[], datetime]":
    """Return a clock that stands at the moment of the variable TEST_NOW, as `context.choose_clock` returns one."""
    from egec_cli.clock import parse_time

    return lambda: parse_time(os.environ["TEST_NOW"])


def kill_itself(*_: object, **_named: object) -> None:
    """End this process as by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)


def fail_with_system_error(number: int, reason: str, path: str, **_: object) -> None:
    """Fail as a system call on a file does."""
    raise OSError(number, reason, path)


def crash() -> int:
    """End this process as an error in a C library does."""
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def report_surroundings(report: Path, *_: object) -> None:
    """Write what surrounds this process to a file, as JSON: its session, open files, umask, folder and core limit."""
    import json
    import resource

    umask = os.umask(0)
    os.umask(umask)
    # The folder itself was open while it was listed.
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    found = {
        "process": os.getpid(),
        "session": os.getsid(0),
        "files": [os.readlink(link) for link in links if os.path.lexists(link)],
        "umask": umask,
        "folder": os.getcwd(),
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
    }
    report.write_text(f"{json.dumps(found)}\n")


def print_core_limit() -> int:
    """Print the maximum size of a core file."""
    import resource

    print(resource.getrlimit(resource.RLIMIT_CORE)[0])
    return 0


def make_known_password(clear: str, _alphabet: object) -> "Password":
    """Return a password known to the test."""
    from egec_cli.password import Password

    return Password(clear)


def wait_before_settling(*_: object, **_named: object) -> None:
    """Print a line and wait until the process is killed."""
    print("about to settle", flush=True)
    time.sleep(600)


def fail_with_local_secret(secret: str, **_: object) -> NoReturn:
    """Fail with a secret in the message and in a local variable."""
    text = f"no good: {secret}"
    raise ValueError(text)


def fail_by_recursion(*arguments: object, **named: object) -> None:
    """Call itself until Python stops it."""
    fail_by_recursion(*arguments, **named)


def fail_with(secret: str, *arguments: object, **named: object) -> NoReturn:
    """Fail with a secret and all arguments of the function."""
    raise RuntimeError(named, arguments, secret)


def fail_with_all_arguments(*arguments: object, **named: object) -> NoReturn:
    """Fail with all arguments, and with the clear text of those that are passwords."""
    from egec_cli.password import Password

    clear = [one.reveal() for one in (*arguments, *named.values()) if isinstance(one, Password)]
    raise RuntimeError(arguments, named, clear)


def fail_with_first_argument(first: object, *_: object) -> NoReturn:
    raise RuntimeError(first)


def fail_with_password(*_: object, password: "Password", **_named: object) -> NoReturn:
    raise KeyError(password.reveal())


def fail_with_content(_transport: object, mail: "Mail") -> NoReturn:
    raise RuntimeError(mail.content.decode())


def fail_twice_with_content(_transport: object, mail: "Mail") -> NoReturn:
    """Fail with the content of a mail while handling an error with the same content."""
    try:
        raise RuntimeError(mail.content.decode())
    except RuntimeError as error:
        raise TypeError(str(error)) from error


# Functions that replace another one, call it, and do something more.


def call_and_kill_itself(function: Callable[..., object], *arguments: object) -> None:
    function(*arguments)
    kill_itself()


def act_and_call(
    action: Callable[[], object], function: Callable[..., object], *arguments: object, **named: object
) -> object:
    action()
    return function(*arguments, **named)


def act_and_connect_once(
    name: str, action: Callable[[], object], connect: Callable[..., Any], path: object, *rest: object, **named: object
) -> object:
    """Act right before the first connection to a file whose path contains `name`."""
    import sqlite3

    if name in str(path):
        sqlite3.connect = connect
        action()
    return connect(path, *rest, **named)


def open_and_lock(folder: Path, function: Callable[..., int], path: str, *rest: object, **named: object) -> int:
    """Open a file, and lock it as a database if it is an unfinished copy."""
    import sqlite3

    descriptor = function(path, *rest, **named)
    if "unfinished" in str(path):
        _kept_open.append(other := sqlite3.connect(folder / path, isolation_level=None))
        other.execute("BEGIN EXCLUSIVE")
    return descriptor


def call_beside_writer(path: Path, function: Callable[[], object]) -> object:
    """Call a function while another connection writes to the database."""
    import sqlite3

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        return function()


def shift_time(by: timedelta, now: Callable[[], datetime]) -> datetime:
    return now() + by


# Changes to files by another user in the meantime.


def exchange_file(path: Path, other: Path) -> None:
    """Replace a file by a link to another one."""
    path.unlink()
    path.symlink_to(other)


def exchange_folder(folder: Path, moved: Path, other: Path) -> None:
    """Move a folder and replace it by a link to another one."""
    folder.rename(moved)
    folder.symlink_to(other)


def exchange_folder_with_copy(folder: Path, moved: Path, other: Path) -> None:
    """Replace a folder by one that has an empty file with the name of the unfinished copy."""
    [name] = [path.name for path in folder.iterdir() if "unfinished" in path.name]
    (other / name).touch()
    exchange_folder(folder, moved, other)


# Programs.


def run_and_print_modules(*commands: Sequence[str]) -> None:
    """Run commands of `egec`, and print the names of all modules that were imported, on one line of stderr."""
    from egec_cli.main import run

    codes = [run(command) for command in commands]
    assert not any(codes), codes
    print("", *sorted(sys.modules), file=sys.stderr)


def print_lease_owner() -> None:
    from egec_cli.credentials import leases

    print(leases.new_owner())


def judge_owners_in_fork() -> None:
    """Exit with 1 if a child of this process finds that itself or its parent has ended."""
    from egec_cli.credentials import leases

    if os.fork() == 0:
        own = leases.new_owner()
        parent = own.split("/")
        parent[1] = str(os.getppid())
        os._exit(any(map(leases.is_owner_gone, [own, "/".join(parent)])))
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))


def guess(identifier: str, password: str, times: int, origin: str = "") -> None:
    """Wait for a line, then try a password several times; print the reason of each result."""
    from egec_cli.context import open_context
    from egec_cli.logins import verify
    from egec_cli.settings import load

    with open_context(load.load_settings()) as context:
        sys.stdin.readline()
        for _ in range(times):
            print(verify.check_login(context, identifier, password, origin=origin).reason)


def run_each_forked(arguments: list[str], make_input: Callable[[int], bytes], numbers: Sequence[int]) -> None:
    """Run `egec` in a fork for each of these numbers, with the input that `make_input` returns; print how each ended.

    With EGEC_TEST_HASHES, each bcrypt hash adds a byte to the file that it names.
    """
    import json

    import bcrypt

    # Loaded once, for all forks.
    for name in ("commands.activate_request", "commands.verify", "logins.sources", "mail.transports.smtp"):
        import_module(f"egec_cli.{name}")
    from tests.door.forks import fork_and_run

    if counted := os.environ.pop("EGEC_TEST_HASHES", ""):
        counter = os.open(counted, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

        def count(original: Callable[..., object], *given: object) -> object:
            os.write(counter, b"x")
            return original(*given)

        for name in ("checkpw", "hashpw"):
            wrap_attribute(bcrypt.__name__, name, count)
    for number in numbers:
        print(json.dumps(fork_and_run(arguments, make_input(number))), flush=True)


def count_acts(subject: str, times: int, most: int) -> None:
    """Wait for a line, then count several acts of a subject; print of each whether the limit of an hour allows it."""
    from egec_cli import networks
    from egec_cli.context import open_context
    from egec_cli.settings import load
    from egec_cli.settings.types import Limit

    with open_context(load.load_settings()) as context:
        sys.stdin.readline()
        for _ in range(times):
            print(networks.count_act(context, subject, (Limit(most, 3600),)).is_within)


def activate_each(identifiers: Sequence[str]) -> None:
    """Activate each client once, in random order, when standard input ends; print the exit codes."""
    import random

    from egec_cli.main import run

    records = random.sample(identifiers, len(identifiers))
    sys.stdin.read()
    print(*[run(["activate", client, "--format", "jsonl"]) for client in records])


def activate_again_and_again(identifiers: Sequence[str]) -> None:
    """Activate random clients until standard input ends; print the exit codes."""
    import random
    import select

    from egec_cli.main import run

    codes = []
    while not select.select([sys.stdin], [], [], 0)[0]:
        codes.append(run(["activate", random.choice(identifiers), "--format", "jsonl"]))
    print(*codes)


def create_client_and_stop() -> None:
    """Create a client and end the process without closing the database."""
    from egec_cli.clients import fields, records
    from egec_cli.context import open_context
    from egec_cli.settings import load

    with open_context(load.load_settings()) as context:
        records.create_client(context, fields.parse_fields("jeanne@example.org"))
        os._exit(0)


def create_files(folder: Path) -> None:
    """Create a database and folders, as a program with an open umask that uses `egec` as a library."""
    os.umask(0)
    from egec_cli import files
    from egec_cli.settings.types import SqliteFile
    from egec_cli.store import database

    database.create_database(SqliteFile(folder / "a" / "b" / "egec.db"))
    files.make_folders(folder / "c" / "d")
    assert os.umask(0) == 0


def write_without_end(path: Path) -> None:
    """Start to write a file and never finish it."""
    from egec_cli import files

    with files.atomic_write(path):
        time.sleep(60)


def read_impatiently(location: "SqliteFile") -> None:
    from egec_cli.store import sqlite_file

    with sqlite_file.uri(location, patience=0.2):
        pass


def deliver(mail: "Mail") -> None:
    from egec_cli.mail.transports import choose
    from egec_cli.settings import load

    transport = choose.open_transport(load.load_settings())
    transport.deliver(mail)
    transport.close()


def print_what_signing_needs() -> None:
    """Print the finding about the signature, and the error of a transport."""
    from egec_cli.doctor.mail import check_signature
    from egec_cli.errors import ConfigError
    from egec_cli.mail.transports import choose
    from egec_cli.settings import load

    [found] = check_signature(load.load_settings())
    print(found.verdict, found.details, found.fix)
    try:
        choose.open_transport(load.load_settings())
    except ConfigError as error:
        print(error.message, error.hint)


def send_to_itself(number: int, *_: object, **__: object) -> None:
    """Send a signal to this process."""
    signal.raise_signal(number)
