"""The doctor looks at the settings: the file they are read from, where each comes from, what is wrong with them."""

from collections.abc import Iterator

from egec_cli.credentials import mail_route
from egec_cli.doctor.findings import Finding, Severity
from egec_cli.doctor.machine import format_mode
from egec_cli.settings.load import Reading
from egec_cli.settings.variables import SETTINGS, Setting
from egec_cli.translation import Words, join_words


def check_settings(reading: Reading, is_mail_url_missing: bool) -> Iterator[Finding]:
    """Yield the file, then every setting, then the faults that are of no single one.

    Args:
        reading: what was read of the settings.
        is_mail_url_missing: EGEC_MAIL_URL is not set, although the database has had a mail server.
    """
    yield from _file(reading)
    for unknown in reading.unknown:
        cure = Words("Correct the name, or unset the variable.")
        yield Finding("environment", Severity.WARNING, unknown, cure)
    for setting in SETTINGS:
        if setting.name == "EGEC_MAIL_URL" and is_mail_url_missing:
            error = mail_route.missing()
            yield Finding(setting.name, Severity.FAULT, error.message, error.hint)
        else:
            yield _of(setting, reading)
    told = reading.faulty & {setting.name for setting in SETTINGS}
    named = tuple(f"{name} " for name in told) + tuple(f"{name}_FILE " for name in told)
    for fault in reading.faults:
        if not fault.startswith(named):
            yield Finding("configuration_file", Severity.FAULT, fault, Words("Correct that line."))


def _file(reading: Reading) -> Iterator[Finding]:
    path = reading.settings.env_file
    for warning in reading.settings.warnings:
        yield Finding("configuration_file", Severity.WARNING, warning.what, warning.cure)
    if path is None:
        yield Finding("configuration_file", Severity.OK, Words("there is none: the environment and the defaults"), "")
        return
    # A file that somebody else can change is not read at all, so there would be no reading of it to examine.
    yield Finding("configuration_file", Severity.OK, f"{path}, {format_mode(path.stat().st_mode)}", "")


def _of(setting: Setting, reading: Reading) -> Finding:
    source = reading.sources[setting.name]
    if setting.name in reading.faulty:
        names = (f"{setting.name} ", f"{setting.name}_FILE ")
        what = join_words("; ", (fault for fault in reading.faults if fault.startswith(names)))
        return Finding(
            setting.name,
            Severity.FAULT,
            Words("{what} (from {place})", what=what, place=source.place),
            Words("Correct it in {place}.", place=source.place),
        )
    # In these words, none holds a secret.
    places: dict[str, object] = {
        "EGEC_DATABASE_URL": reading.settings.database,
        "EGEC_MAIL_URL": reading.settings.mail_server,
        "EGEC_DKIM_KEY": Words("a private key") if reading.settings.dkim else Words("none"),
    }
    shown = places.get(setting.name, Words("(secret)") if setting.secret else source.text)
    return Finding(setting.name, Severity.OK, Words("{shown} (from {place})", shown=shown, place=source.place), "")
