"""Check the settings: the file, the source of each setting and the faults."""

from collections.abc import Iterator

from egec_cli.credentials import mail_route
from egec_cli.doctor.findings import Finding, Severity
from egec_cli.doctor.machine import format_mode
from egec_cli.settings.load import Reading
from egec_cli.settings.variables import SETTINGS, Setting
from egec_cli.translation import Words, join_words


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
    reported = reading.faulty & {setting.name for setting in SETTINGS}
    prefixes = tuple(f"{name}{suffix} " for name in reported for suffix in ("", "_FILE"))
    for fault in reading.faults:
        if not fault.startswith(prefixes):
            yield Finding("configuration_file", Severity.ERROR, fault, Words("Correct that line."))


def _check_file(reading: Reading) -> Iterator[Finding]:
    path = reading.settings.env_file
    for warning in reading.settings.warnings:
        yield Finding("configuration_file", Severity.WARNING, warning.what, warning.fix)
    if path is None:
        yield Finding("configuration_file", Severity.OK, Words("no file: environment and defaults only"))
        return
    # A file that other users can change is an error of reading, so it does not get here.
    yield Finding("configuration_file", Severity.OK, f"{path}, {format_mode(path.stat().st_mode)}")


def _check_setting(setting: Setting, reading: Reading) -> Finding:
    source = reading.sources[setting.name]
    if setting.name in reading.faulty:
        names = (f"{setting.name} ", f"{setting.name}_FILE ")
        what = join_words("; ", (fault for fault in reading.faults if fault.startswith(names)))
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
    shown = places.get(setting.name, Words("(secret)") if setting.secret else source.text)
    return Finding(setting.name, Severity.OK, Words("{shown} (from {place})", shown=shown, place=source.place))
