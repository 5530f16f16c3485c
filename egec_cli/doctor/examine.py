"""Check the whole installation without changing it. Any failure of a check is a finding; the other checks still run."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from egec_cli import clock
from egec_cli.clock import Clock
from egec_cli.context import Context, choose_clock, detect_actor
from egec_cli.credentials import mail_route
from egec_cli.doctor import machine, mail
from egec_cli.doctor.database import (
    check_failed_items,
    check_integrity,
    check_newest_entry,
    check_open_credentials,
    check_paused_runs,
    check_schema,
    check_server_clock,
    check_shared_emails,
    has_this_schema,
)
from egec_cli.doctor.findings import Finding, Severity, add_note, convert_error
from egec_cli.doctor.machine import format_mode
from egec_cli.errors import EgecError
from egec_cli.settings import load
from egec_cli.settings.load import LOGIN_SETTINGS, Reading
from egec_cli.settings.schema import SETTINGS, Setting
from egec_cli.settings.types import Database, PostgresqlServer, Settings, SqliteFile
from egec_cli.store import database, peewee
from egec_cli.store.database import translate_failures
from egec_cli.store.sql import find_engine
from egec_cli.translation import Words, join_words, system_message

Check = Callable[[], Iterable[Finding]]

# How long to wait for the mail server, in seconds.
_PATIENCE = 10.0


def examine_installation(environ: Mapping[str, str] | None = None, now: Clock = clock.now) -> Iterator[Finding]:
    """Yield the findings, check by check.

    Checks that depend on a faulty setting are skipped. `environ` replaces the environment of the process.
    """
    yield from _run_check("clock", partial(machine.check_clock, now))
    try:
        reading = load.read_settings(environ)
    except Exception as error:  # noqa: BLE001 - as for every other check
        yield _describe_failure("configuration_file", error)
        return
    clock.show_times_in(reading.settings.timezone)
    is_missing = _is_mail_url_missing(reading)
    yield from _run_check("configuration_file", partial(check_settings, reading, is_missing))
    for check, depends_on, findings in _checks(reading, now):
        if reading.faulty.isdisjoint(depends_on):
            yield from _run_check(check, findings)


def _checks(reading: Reading, now: Clock) -> Iterator[tuple[str, set[str], Check]]:
    """Yield the checks that need the settings: name, the settings that each depends on, function."""
    found = reading.settings
    on_database = {"EGEC_DATABASE_URL"}
    on_mail = {"EGEC_MAIL_URL", "EGEC_MAIL_TIMEOUT", *LOGIN_SETTINGS}
    if isinstance(found.database, SqliteFile):
        yield "file_rights", on_database, partial(machine.check_files, found.database)
    if isinstance(found.database, PostgresqlServer):
        yield "database_connection", on_database, partial(_check_connection, found.database)
    yield "database", on_database, partial(_check_database, found, now)
    yield "templates", set(reading.sources), partial(mail.check_templates, found)
    yield "dkim", set(reading.sources), partial(mail.check_signature, found)
    impatient = found._replace(mail_timeout=min(found.mail_timeout, _PATIENCE))
    yield "mail_server", on_mail, partial(_check_mail_server, impatient)
    yield "hash_cost", {"EGEC_BCRYPT_COST"}, partial(machine.check_hash_cost, found.bcrypt_cost)


def _is_mail_url_missing(reading: Reading) -> bool:
    if not reading.faulty.isdisjoint({"EGEC_DATABASE_URL", "EGEC_MAIL_URL"}):
        return False
    try:
        return mail_route.is_url_missing(reading.settings)
    except Exception:  # noqa: BLE001 - the check of the database reports it
        return False


def _check_mail_server(found: Settings) -> Iterator[Finding]:
    yield from mail.check_server(found, is_missing=mail_route.is_url_missing(found))


def _run_check(check: str, findings: Check) -> Iterator[Finding]:
    try:
        yield from findings()
    except Exception as error:  # noqa: BLE001 - broken installations cause unexpected errors
        yield _describe_failure(check, error)


def _describe_failure(check: str, error: Exception) -> Finding:
    if isinstance(error, EgecError):
        return convert_error(check, error)
    if isinstance(error, OSError):
        parts = [str(error.filename)] if error.filename else []
        details = join_words(": ", [*parts, system_message(error)])
        return Finding(check, Severity.ERROR, details, Words("Give the user that runs egec access to it."))
    # Without the error's message: it may quote a secret.
    details = Words("internal error: {kind}", kind=type(error).__name__)
    return Finding(check, Severity.ERROR, details, Words("Please report this to the maintainers of egec."))


def _check_connection(location: PostgresqlServer) -> Iterator[Finding]:
    # Imported here: most installations have no PostgreSQL.
    from egec_cli.store import postgresql

    for weakness in postgresql.weaknesses(location):
        yield Finding("database_connection", Severity.WARNING, weakness.what, weakness.fix)


def _check_database(found: Settings, now: Clock) -> Iterator[Finding]:
    location = found.database
    with database.open_read_only(location) as opened:
        version = find_engine(opened).engine_version(opened)
        details = Words("{location} can be read: {version}", location=location, version=version)
        yield add_note(Finding("database", Severity.OK, details), version)
        for check, findings in _database_checks(found, opened, now):
            yield from _run_check(check, partial(_translate_failures, location, findings))


def _database_checks(found: Settings, opened: peewee.Database, now: Clock) -> Iterator[tuple[str, Check]]:
    yield "schema", partial(check_schema, opened, found.database)
    yield "integrity", partial(check_integrity, opened)
    yield "server_clock", partial(check_server_clock, opened, now)
    # The tables of another schema may have other columns.
    if has_this_schema(opened):
        # The clock by which the entries were written.
        now = choose_clock(opened, now)
        yield "newest_entry", partial(check_newest_entry, now)
        yield "open_credentials", check_open_credentials
        context = Context(found, opened, detect_actor(found.acting_for), now)
        yield "shared_emails", partial(check_shared_emails, context)
        yield "paused_runs", partial(check_paused_runs, context)
        yield "failed_items", partial(check_failed_items, context)


def _translate_failures(location: Database, findings: Check) -> Iterator[Finding]:
    with translate_failures(location):
        yield from findings()


def check_settings(reading: Reading, is_mail_url_missing: bool) -> Iterator[Finding]:
    """Yield findings about the file, then about every setting, then the faults that concern no single setting.

    `is_mail_url_missing`: EGEC_MAIL_URL is missing although the database has had a mail server.
    """
    yield from _check_file(reading)
    for unknown in reading.unknown:
        fix = Words("Correct the name, or unset the variable.")
        yield Finding("environment", Severity.WARNING, unknown, fix)
    for setting in SETTINGS:
        if setting.name == "EGEC_MAIL_URL" and is_mail_url_missing:
            error = mail_route.missing_url_error()
            yield Finding(setting.name, Severity.ERROR, error.message, error.hint)
        else:
            yield _check_setting(setting, reading)
    for fault in reading.faults:
        if fault.name not in reading.sources:
            yield Finding("configuration_file", Severity.ERROR, fault.words, Words("Correct that line."))


def _check_file(reading: Reading) -> Iterator[Finding]:
    path = reading.settings.env_file
    for warning in reading.settings.warnings:
        yield Finding("configuration_file", Severity.WARNING, warning.what, warning.fix)
    if path is None:
        details = Words("no file: environment and defaults only")
        yield add_note(Finding("configuration_file", Severity.OK, details), Words("no settings file"))
        return
    # A file that other users can change is an error of reading, so it does not get here.
    with_mode = f"{path}, {format_mode(path.stat().st_mode)}"
    yield add_note(Finding("configuration_file", Severity.OK, with_mode), str(path))


def _check_setting(setting: Setting, reading: Reading) -> Finding:
    source = reading.sources[setting.name]
    if setting.name in reading.faulty:
        what = join_words("; ", (fault.words for fault in reading.faults if fault.name == setting.name))
        return Finding(
            setting.name,
            Severity.ERROR,
            Words("{what} (from {place})", what=what, place=source.place),
            Words("Correct it in {place}.", place=source.place),
        )
    # These texts contain no secret.
    places: dict[str, object] = {
        "EGEC_DATABASE_URL": reading.settings.database,
        "EGEC_MAIL_URL": reading.settings.mail_server,
        "EGEC_DKIM_KEY": Words("a private key") if reading.settings.dkim else Words("none"),
    }
    shown = places.get(setting.name, source.text or Words("(secret)"))
    return Finding(setting.name, Severity.OK, Words("{shown} (from {place})", shown=shown, place=source.place))
