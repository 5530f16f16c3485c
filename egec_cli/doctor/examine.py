"""The doctor: examines the whole installation and changes nothing of it.

Each check is on its own: what is broken is a finding, whatever it is, and the others go on.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from egec_cli import clock
from egec_cli.clock import Clock
from egec_cli.context import Context, choose_clock, detect_actor
from egec_cli.credentials import mail_route
from egec_cli.doctor import database as doctor_database
from egec_cli.doctor import machine, mail
from egec_cli.doctor.database import check_failed_items, check_open_credentials, check_paused_runs
from egec_cli.doctor.findings import Finding, Severity, fault_of
from egec_cli.doctor.settings import check_settings
from egec_cli.errors import EgecError
from egec_cli.settings import load
from egec_cli.settings.load import Reading
from egec_cli.settings.schema import Database, PostgresqlServer, Settings, SqliteFile
from egec_cli.store import database, peewee
from egec_cli.store.failures import translate_failures
from egec_cli.store.sql import find_engine
from egec_cli.translation import Words, system_message

Check = Callable[[], Iterable[Finding]]

# A mail server that needs longer to say hello, in seconds, is not one to wait for here.
_PATIENCE = 10.0


def examine_installation(environ: Mapping[str, str] | None = None, now: Clock = clock.now) -> Iterator[Finding]:
    """Yield what is found, check by check.

    What hangs on a setting that is faulty is left out: nobody knows which database or mail server is meant.

    Args:
        environ: the environment whose settings are examined, instead of the process's own.
        now: the clock of this machine.
    """
    yield from _carried_out("clock", partial(machine.check_clock, now))
    try:
        reading = load.read_settings(environ)
    except Exception as error:  # noqa: BLE001 - as for every other check
        yield _failed("configuration_file", error)
        return
    is_missing = _is_mail_url_missing(reading)
    yield from _carried_out("configuration_file", partial(check_settings, reading, is_missing))
    for check, depends_on, findings in _checks(reading, now):
        if reading.faulty.isdisjoint(depends_on):
            yield from _carried_out(check, findings)


def _checks(reading: Reading, now: Clock) -> Iterator[tuple[str, set[str], Check]]:
    """Yield the checks that need the settings: name, the settings that each depends on, and what carries it out."""
    found = reading.settings
    on_database, on_mail = {"EGEC_DATABASE_URL"}, {"EGEC_MAIL_URL", "EGEC_MAIL_TIMEOUT"}
    if isinstance(found.database, SqliteFile):
        yield "file_rights", on_database, partial(machine.check_files, found.database)
    if isinstance(found.database, PostgresqlServer):
        yield "database_connection", on_database, partial(_of_the_connection, found.database)
    yield "database", on_database, partial(_of_the_database, found, now)
    yield "templates", set(reading.sources), partial(mail.check_templates, found)
    yield "dkim", set(reading.sources), partial(mail.check_signature, found)
    soon = found._replace(mail_timeout=min(found.mail_timeout, _PATIENCE))
    yield "mail_server", on_mail, partial(_mail_server, soon)
    yield "hash_cost", {"EGEC_BCRYPT_COST"}, partial(machine.check_hash_cost, found.bcrypt_cost)


def _is_mail_url_missing(reading: Reading) -> bool:
    if not reading.faulty.isdisjoint({"EGEC_DATABASE_URL", "EGEC_MAIL_URL"}):
        return False
    try:
        return mail_route.is_missing_here(reading.settings)
    except Exception:  # noqa: BLE001 - the check of the database tells what is wrong with it
        return False


def _mail_server(found: Settings) -> Iterator[Finding]:
    yield from mail.check_server(found, is_missing=mail_route.is_missing_here(found))


def _carried_out(check: str, findings: Check) -> Iterator[Finding]:
    try:
        yield from findings()
    except Exception as error:  # noqa: BLE001 - who looks at broken things meets what nobody thought of
        yield _failed(check, error)


def _failed(check: str, error: Exception) -> Finding:
    if isinstance(error, EgecError):
        return fault_of(check, error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return Finding(
            check,
            Severity.FAULT,
            Words("{where}{reason}", where=where, reason=system_message(error)),
            Words("Give the user that runs egec its rights."),
        )
    # Its message may quote a value, and any value may be a secret.
    detail = Words("it could not be examined: {kind}", kind=type(error).__name__)
    return Finding(check, Severity.FAULT, detail, Words("Please report this to the maintainers of egec."))


def _of_the_connection(location: PostgresqlServer) -> Iterator[Finding]:
    """Yield what the URL gives up of the security of the connection."""
    # Imported here: most installations have no PostgreSQL.
    from egec_cli.store import postgresql

    for weakness in postgresql.weaknesses(location):
        yield Finding("database_connection", Severity.WARNING, weakness.what, weakness.cure)


def _of_the_database(found: Settings, now: Clock) -> Iterator[Finding]:
    location = found.database
    with database.open_read_only(location) as opened:
        version = find_engine(opened).engine_version(opened)
        yield Finding(
            "database",
            Severity.OK,
            Words(
                "{location} can be read: {version}",
                location=location,
                version=version,
            ),
            "",
        )
        for check, findings in _database_checks(found, opened, now):
            yield from _carried_out(check, partial(_translated, location, findings))


def _database_checks(found: Settings, opened: peewee.Database, now: Clock) -> Iterator[tuple[str, Check]]:
    yield "schema", partial(doctor_database.check_schema, opened, found.database)
    yield "integrity", partial(doctor_database.check_integrity, opened)
    yield "server_clock", partial(doctor_database.check_server_clock, opened, now)
    # The tables of another schema may have other columns.
    if doctor_database.has_this_schema(opened):
        # The clock by which the entries were written.
        now = choose_clock(opened, now)
        yield "newest_entry", partial(doctor_database.check_newest_entry, now)
        yield "open_credentials", check_open_credentials
        context = Context(found, opened, detect_actor(found.acting_for), now)
        yield "paused_runs", partial(check_paused_runs, context)
        yield "failed_items", check_failed_items


def _translated(location: Database, findings: Check) -> Iterator[Finding]:
    with translate_failures(location):
        yield from findings()
