"""The parsers of the settings: each returns the value of a text, or raises `Fault`."""

import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from egec_cli.password import Alphabet, Password
from egec_cli.settings import trust
from egec_cli.settings.types import (
    DEFAULT_TIMEZONE,
    LANGUAGES,
    Database,
    Limit,
    LogStyle,
    MaildirFolder,
    MailServer,
    PostgresqlServer,
    Rate,
    SendmailProgram,
    SmtpServer,
    SqliteFile,
    Tls,
)
from egec_cli.translation import Words, system_message

# Names of cities, which clients understand. There are others, such as CET, US/Pacific and right/Europe/Paris.
_TIMEZONE = re.compile(
    r"UTC|(?:Africa|America|Antarctica|Arctic|Asia|Atlantic|Australia|Europe|Indian|Pacific)(?:/[A-Za-z0-9_+-]+){1,2}"
)
_LONGEST_TIMEZONE = 40
# The least likeness (difflib's ratio) of a misspelling: CET and Ceuta are not alike.
_LEAST_LIKENESS_OF_ZONES = 0.8

# The folder that relative paths start at; None for the working folder, which may no longer exist.
Folder = Path | None
NOT_TEXT = Words("has a NUL character or bytes that are not UTF-8")
_NO_BREAK_SPACES = {0x00A0: " ", 0x202F: " "}


class Fault(Exception):
    """What is wrong with a value, in words that follow the variable's name; never quotes a secret."""

    def __init__(self, what: str, /, **values: object) -> None:
        self.words = Words(what, **values)
        super().__init__(self.words)


def absolute_path(folder: Folder, text: str) -> Path:
    """Return the absolute path of a text that may be relative to the folder."""
    if folder is None and not text.startswith("/"):
        try:
            folder = Path.cwd()
        except FileNotFoundError:
            raise Fault(
                "has a relative path, but the working folder {folder} no longer exists", folder=name_of_working_folder()
            ) from None
    path = Path(text) if folder is None else folder / text
    if not is_text(str(path)):
        raise Fault(NOT_TEXT)
    return path


def name_of_working_folder() -> str:
    """Return the name of a working folder that no longer exists."""
    try:
        # The kernel appends this to its name.
        return ascii(os.readlink("/proc/self/cwd").removesuffix(" (deleted)"))[1:-1]
    except OSError:
        return ascii(os.environ.get("PWD", ""))[1:-1]


def is_text(text: str) -> bool:
    """Return whether a text can be written as UTF-8 and be part of a path; the environment may hold any bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def parse_line(text: str, _folder: Folder) -> str:
    """Return a text that is one line and no encoded word of RFC 2047."""
    if not text.translate(_NO_BREAK_SPACES).isprintable():
        raise Fault("has a line break or another control character")
    if "=?" in text:
        raise Fault("has =?, which mail programs take for an encoded word")
    return text


def parse_mail_address(text: str, folder: Folder) -> str:
    """Return an e-mail address, with or without a name."""
    parse_line(text, folder)
    if not re.fullmatch(r"(?:[^<>@,;:\"]*<[^<>@\s,]+@[^<>@\s,]+>|[^<>@\s,]+@[^<>@\s,]+)", text):
        raise Fault("is not a valid e-mail address")
    return text


def parse_bounces_address(text: str, _folder: Folder) -> str:
    """Return a bare e-mail address with room for the mark of a mail."""
    # Each mail adds a mark of 36 characters, and 64 may stand before the @.
    if not re.fullmatch(r"[A-Za-z0-9._+-]{1,28}@[^<>@\s,]+", text):
        raise Fault("must be a bare e-mail address with at most 28 ASCII letters, digits and . _ + - before its @")
    return text


# What a shell would interpret, as words of their own.
_SHELL_OPERATORS = frozenset({"|", "||", "&", "&&", ";", "<", ">", ">>"})


def parse_command(text: str, folder: Folder) -> tuple[str, ...]:
    """Return a program and its arguments, split as a shell would; no shell runs them."""
    # Imported here: few installations have a command.
    import shlex

    try:
        words = shlex.split(text)
    except ValueError:
        raise Fault("has a quote that is not closed") from None
    if not words or not words[0]:
        raise Fault("names no program")
    if re.match(r"[A-Za-z_][A-Za-z0-9_]*=", words[0]) or not _SHELL_OPERATORS.isdisjoint(words):
        raise Fault("is not run by a shell: put variables, pipes and redirections into a script, and name the script")
    program = str(absolute_path(folder, words[0])) if "/" in words[0] else words[0]
    return program, *words[1:]


def parse_file(text: str, folder: Folder) -> Path:
    """Return the path of a file that is read later."""
    return absolute_path(folder, text)


def parse_private_key(text: str, _folder: Folder) -> Password:
    """Return a private key in PEM form."""
    # Only the form; `mail.compose.signing` loads the library that reads the key.
    if not re.fullmatch(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.+-----END \1-----", text.strip(), re.DOTALL):
        raise Fault("must be a private key in PEM form")
    return Password(text.strip())


def parse_selector(text: str, _folder: Folder) -> str:
    """Return a DKIM selector (RFC 6376, 3.1)."""
    # A selector has the form of a host name.
    label = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    if not re.fullmatch(rf"{label}(?:\.{label}){{0,3}}", text):
        raise Fault("must be a selector: ASCII letters, digits and hyphens, as in a host name")
    return text


def number_parser(low: int, high: int) -> Callable[[str, Folder], int]:
    """Return a parser of whole numbers in this range."""

    def parse(text: str, _folder: Folder) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise Fault("must be a whole number from {low} to {high}", low=low, high=high)
        return int(text)

    return parse


# The units of windows and periods, in seconds, and what people write for them.
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_UNITS = {seconds: unit for unit, seconds in _SECONDS.items()}
_UNIT_OF_WORD = {
    word: unit
    for unit, words in {
        "s": "s sec second seconds seconde secondes",
        "min": "min mn minute minutes",
        "h": "h hour hours heure heures",
        "d": "d day days j jour jours",
    }.items()
    for word in words.split()
}
LONGEST_WINDOW = max(_SECONDS.values())
_LIMIT = re.compile(r"\s*([0-9]{1,9})\s*(?:/\s*([0-9]{0,4})\s*([A-Za-z]+)\s*)?")
_WITHOUT_SLASH = re.compile(r"\s*([0-9]+)\s*([A-Za-z]+)\s*")
_MOST_MAILS = 1_000_000
# Each counted act is kept as one time in the database.
_MOST_ACTS = 1000
_LONGEST_PERIOD = 31 * 86_400
_FORM_OF_A_RATE = Words(
    "must be mails per s, min, h or d, such as 30/min, or several separated by commas; 0 = no limit"
)
_FORM_OF_LIMITS = Words("must be limits such as 1/5min,5/d (units: s, min, h, d), or 0 for no limit")


def parse_rate(text: str, _folder: Folder = None) -> Rate:
    """Return the quotas of a text such as `30/min,500/h`; a number alone is per second, 0 means no limit."""
    if text.strip() == "0":
        return ()
    quotas = sorted(map(_parse_quota, text.split(",")), key=lambda quota: quota.seconds)
    for quota, following in pairwise(quotas):
        if quota.seconds == following.seconds:
            raise Fault("has two quotas per {unit}", unit=_UNITS[quota.seconds])
    return tuple(quotas)


def _parse_quota(text: str) -> Limit:
    mails, units, unit = _split_limit(text, _FORM_OF_A_RATE)
    if units:
        raise Fault(_FORM_OF_A_RATE)
    if not 1 <= mails <= _MOST_MAILS:
        raise Fault(
            "must allow from 1 to {most} mails per {unit}; 0 alone = no limit", most=_MOST_MAILS, unit=unit or "s"
        )
    return Limit(mails, _SECONDS[unit or "s"])


def format_rate(rate: Rate) -> str:
    """Return quotas as `parse_rate` reads them: `30/min,500/h`, or `0` for no limit."""
    return ",".join(f"{quota.number}/{_UNITS[quota.seconds]}" for quota in rate) or "0"


def parse_limits(text: str, _folder: Folder) -> tuple[Limit, ...]:
    """Return the limits of a list such as `1/5min,5/d`; none for `0`."""
    if text == "0":
        return ()
    found = []
    for part in text.split(","):
        number, units, unit = _split_limit(part, _FORM_OF_LIMITS)
        if not unit:
            raise Fault(_FORM_OF_LIMITS)
        limit = Limit(number, int(units or 1) * _SECONDS[unit])
        if not 1 <= limit.number <= _MOST_ACTS or not 1 <= limit.seconds <= _LONGEST_PERIOD:
            raise Fault("must limit to 1 to {most} per period, and a period to at most 31d", most=_MOST_ACTS)
        found.append(limit)
    return tuple(found)


def _split_limit(text: str, form: str) -> tuple[int, str, str]:
    """Return the number, the length and the unit of a limit such as `1/5min`; length and unit may be empty.

    Raises:
        Fault: the text is not a limit; `form` describes one.
    """
    found = _LIMIT.fullmatch(text)
    if found is None:
        if without_slash := _WITHOUT_SLASH.fullmatch(text):
            raise Fault("needs a slash before the unit (did you mean {meant}?)", meant="/".join(without_slash.groups()))
        raise Fault(form)
    number, length, word = found.groups()
    unit = _UNIT_OF_WORD.get((word or "").lower(), "")
    if word and not unit:
        if word.lower() == "m":
            raise Fault("has an unknown unit {unit} (did you mean min?)", unit=word)
        raise Fault("has an unknown unit {unit}: use s, min, h or d", unit=word)
    return int(number), length or "", unit


def parse_yes_or_no(text: str, _folder: Folder) -> bool:
    """Return true or false."""
    if text.lower() not in {"yes", "no", "true", "false", "1", "0"}:
        raise Fault("must be yes or no")
    return text.lower() in {"yes", "true", "1"}


def parse_language(text: str, _folder: Folder) -> str:
    """Return a language of clients."""
    if text not in LANGUAGES:
        raise Fault("must be one of {known}", known=", ".join(LANGUAGES))
    return text


def parse_timezone(text: str, _folder: Folder) -> str:
    """Return the name of a time zone that this machine knows."""
    # Loading the library takes longer than all other settings together, so the default is not looked up.
    if text == DEFAULT_TIMEZONE or _is_timezone(text):
        return text
    if meant := _nearest_timezone(text):
        raise Fault("is not a known time zone (did you mean {meant}?)", meant=meant)
    raise Fault("is not a known time zone: write UTC, or a region and a city")


def _is_timezone(text: str) -> bool:
    if not _TIMEZONE.fullmatch(text):
        return False
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(text)
    except (LookupError, ValueError, OSError):
        return False
    return True


def _nearest_timezone(text: str) -> str:
    """Return the time zone with the most similar name, with or without its region, or an empty text."""
    from difflib import get_close_matches
    from zoneinfo import available_timezones

    known = sorted(name for name in available_timezones() if _TIMEZONE.fullmatch(name))
    names = {(name if "/" in text else name.rpartition("/")[2]).lower(): name for name in known}
    written = text[:_LONGEST_TIMEZONE].replace(" ", "_").lower()
    return "".join(names[one] for one in get_close_matches(written, names, 1, _LEAST_LIKENESS_OF_ZONES))


def parse_log_style(text: str, _folder: Folder) -> LogStyle:
    """Return the format of the log."""
    if text not in set(LogStyle):
        raise Fault("must be one of {known}", known=", ".join(LogStyle))
    return LogStyle(text)


def parse_specials(text: str, _folder: Folder) -> str:
    """Return the special characters of passwords."""
    # With look-alikes, for the most bits that these specials allow; `load` checks the actual alphabet.
    Alphabet.create(text, lookalikes=True)
    return text


def parse_existing_folder(text: str, folder: Folder) -> Path:
    """Return the path of a folder that only root and this user can change."""
    path = absolute_path(folder, text)
    # Unlike `Path.is_dir`, this does not raise if a parent folder may not be entered.
    if not os.path.isdir(path):
        raise Fault("names {path}, which is not a folder", path=path)
    try:
        trust.require_folder(path)
    except trust.UntrustedFile as error:
        raise Fault("is refused: {message}. {hint}", message=error.message, hint=error.hint) from None
    except OSError as error:
        raise Fault(
            "names {path}, which cannot be examined: {reason}", path=path, reason=system_message(error)
        ) from None
    return path


def parse_database(text: str, folder: Folder) -> Database:
    """Return the database of a URL."""
    if text.startswith("sqlite:"):
        path = text.removeprefix("sqlite:").removeprefix("///")
        if not path:
            raise Fault("names no file")
        if path.startswith("//") and not path.startswith("///"):
            raise Fault("needs three slashes before a relative path (sqlite:///egec.db), four before an absolute one")
        if "?" in path:
            raise Fault("has a ? in its path, but an SQLite file takes no options")
        return SqliteFile(absolute_path(folder, path))
    if text.startswith(("postgresql://", "postgres://")):
        _url_parts(text)
        return PostgresqlServer("postgresql://" + text.partition("://")[2])
    raise Fault("must begin with sqlite:/// or postgresql://")


def parse_mail_server(text: str, folder: Folder) -> MailServer:
    """Return the mail server of a URL."""
    scheme, _, rest = text.partition(":")
    if scheme == "maildir":
        if not rest:
            raise Fault("names no folder")
        return MaildirFolder(absolute_path(folder, rest))
    if scheme == "sendmail":
        return SendmailProgram(absolute_path(folder, rest or "/usr/sbin/sendmail"))
    if scheme not in {"smtp", "smtps"}:
        raise Fault("must begin with smtp://, smtps://, sendmail: or maildir:")
    return _smtp_server(text, folder)


def _url_parts(text: str) -> tuple[SplitResult, int | None]:
    fault = Fault("is not a valid URL (in a password, write @ : / ? # % as %40 %3A %2F %3F %23 %25)")
    # Messages of urllib may quote a part of the URL, so they are not passed on.
    try:
        parts = urlsplit(text)
        port = parts.port
        for part in (parts.username, parts.password):
            unquote(part or "", errors="strict")
        unquote(text, errors="strict").encode()
    except ValueError:
        raise fault from None
    # An @ after the host comes from a password with a / ? or #, so the host is the first half of the password.
    if port == 0 or "@" in parts.path + parts.query + parts.fragment:
        raise fault
    return parts, port


def _smtp_server(text: str, folder: Folder) -> SmtpServer:
    parts, port = _url_parts(text)
    if not parts.hostname or parts.path not in {"", "/"} or parts.fragment:
        raise Fault("is not of the form smtp://USER:PASSWORD@HOST:PORT (in a password, write @ as %40, / as %2F ...)")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    ca_file = options.pop("ca", None)
    tls = options.pop("tls", None)
    auth = options.pop("auth", None)
    if options:
        raise Fault("has an unknown option after ? (use tls=, ca= or auth=)")
    if parts.scheme == "smtps":
        if tls is not None:
            raise Fault("has tls=, but smtps:// always uses TLS")
        mode = Tls.IMPLICIT
    elif tls is None:
        mode = Tls.NONE if _is_loopback(parts.hostname) else Tls.STARTTLS
    elif tls in {Tls.STARTTLS, Tls.NONE}:
        mode = Tls(tls)
    else:
        raise Fault("has an unknown tls= value (use required or none)")
    server = SmtpServer(
        host=parts.hostname,
        port=port or (465 if mode is Tls.IMPLICIT else 587 if mode is Tls.STARTTLS else 25),
        tls=mode,
        user=unquote(parts.username or ""),
        password=Password(unquote(parts.password or "")),
        ca_file=absolute_path(folder, ca_file) if ca_file else None,
    )
    return server if auth is None else _with_oauth(server, auth)


def _with_oauth(server: SmtpServer, auth: str) -> SmtpServer:
    if auth != "oauth":
        raise Fault("has an unknown auth= value (use oauth)")
    if not server.user:
        raise Fault("has auth=oauth, but no user name before the @")
    # The response to the server separates its parts by control characters.
    if not (server.user.isascii() and server.user.isprintable()):
        raise Fault("has auth=oauth, but a user name that is not printable ASCII")
    if server.password.reveal():
        raise Fault("has auth=oauth and a password: remove the password")
    if server.tls is Tls.NONE and not _is_loopback(server.host):
        raise Fault("has auth=oauth, which needs TLS: remove tls=none")
    return server._replace(uses_oauth=True)


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host == "::1" or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None
