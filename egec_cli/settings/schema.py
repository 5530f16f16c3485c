"""The settings: read from the environment and one file, checked all at once, kept in one frozen object.

`SETTINGS` describes every variable; the README's table and `.env.example` are held against it by tests.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from egec_cli.errors import ConfigError, InvalidInput, quoted
from egec_cli.password import DEFAULT_SPECIALS, Alphabet, Password
from egec_cli.settings import trust
from egec_cli.translation import Words, join_words, system_message

_PREFIX = "EGEC_"
ENV_FILE_VARIABLE = "EGEC_ENV_FILE"
# How alike two names are (difflib's ratio) where one may be a misspelling of the other: MAIL_RTE and MAIL_RATE, but not
# TYPO and LOG.
_NEAR = 0.7
# For whom a calling program acts: of one call, so it is never read from a file.
ACTOR_VARIABLE = "EGEC_ACTOR"
_LONGEST_ACTOR = 100
SYSTEM_ENV_FILE = Path("/etc/egec/egec.env")
LANGUAGES = ("fr", "en")


class SqliteFile(NamedTuple):
    """A database in a file of this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


class PostgresqlServer(NamedTuple):
    """A database on a PostgreSQL server; `url` may hold a password, `str()` and `repr()` never do."""

    url: str

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"PostgreSQL {parts.hostname or ''}{parts.path}"

    def __repr__(self) -> str:
        return str(self)


Database = SqliteFile | PostgresqlServer


class Tls(StrEnum):
    """How the connection to the mail server is made private."""

    STARTTLS = "required"
    IMPLICIT = "implicit"
    NONE = "none"


class SmtpServer(NamedTuple):
    """A mail server spoken to by SMTP."""

    host: str
    port: int
    tls: Tls
    user: str = ""
    password: Password = Password("")
    ca_file: Path | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class SendmailProgram(NamedTuple):
    """A program that takes mail as sendmail does."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


class MaildirFolder(NamedTuple):
    """A folder to which mail is saved rather than sent; the default one where EGEC_MAIL_URL is not set."""

    path: Path
    is_default: bool = False

    def __str__(self) -> str:
        return str(self.path)


class DkimKey(NamedTuple):
    """The private key by which mails are signed, in PEM form, and the selector of its public half in the DNS."""

    private: Password
    selector: str


class LogStyle(StrEnum):
    """How each act is told in the log."""

    TEXT = "text"
    JSON = "json"


MailServer = SmtpServer | SendmailProgram | MaildirFolder


class SettingsWarning(NamedTuple):
    """What is unsafe about the settings, and what to do about it."""

    what: str
    cure: str


class Settings(NamedTuple):
    """Every setting, parsed. `env_file` is the file that was read; `warnings` are for the operator.

    `acting_for` is the person for whom the calling program says that it acts.
    """

    database: Database
    mail_server: MailServer
    mail_from: str
    mail_reply_to: str
    mail_bounces: str
    mail_timeout: float
    dkim: DkimKey | None
    app_name: str
    app_url: str
    support: str
    language: str
    templates: Path | None
    bcrypt_cost: int
    alphabet: Alphabet
    unused_password_days: int
    workers: int
    mail_connections: int
    mail_rate: int
    audit_days: int
    log: LogStyle | None
    env_file: Path | None
    warnings: tuple[SettingsWarning, ...] = ()
    acting_for: str = ""


# The folder that relative paths start at; None for the working folder, which may be gone where no path is relative.
_Folder = Path | None


class Setting(NamedTuple):
    """What is to be known of one environment variable.

    Attributes:
        parse: makes the value of its text and the folder that relative paths start at; raises `_Fault`
            or `InvalidInput` with what is wrong.
        default: how the documentation words the value that holds where the variable is not set.
        secret: the value may hold a password, so it may also come from the file that `NAME_FILE` names.
    """

    name: str
    parse: Callable[[str, _Folder], Any]
    default: str
    example: str
    meaning: str
    secret: bool = False


class Source(NamedTuple):
    """Where a setting was read from, in words, and its text there, which of a secret is left out."""

    place: str
    text: str


class Reading(NamedTuple):
    """What was read of the settings, whether or not it can be used.

    Attributes:
        settings: every setting; the default stands where one is faulty.
        faults: what is wrong, in words; nobody may work with the settings while there is any.
        faulty: the names of the settings that are.
        sources: of each setting, by its name.
        unknown: variables of the environment that are named like settings and are none, in words. They are no fault,
            since other programs may use such names.
    """

    settings: Settings
    faults: tuple[str, ...]
    faulty: frozenset[str]
    sources: Mapping[str, Source]
    unknown: tuple[str, ...] = ()


class _Fault(Exception):
    """What is wrong with a value, in words that follow the variable's name; never quotes a secret."""

    def __init__(self, what: str, /, **values: object) -> None:
        self.words = Words(what, **values)
        super().__init__(self.words)


def _below(folder: _Folder, text: str) -> Path:
    """Return the absolute path of a text that may be a relative path."""
    if folder is None and not text.startswith("/"):
        try:
            folder = Path.cwd()
        except FileNotFoundError:
            raise _Fault(
                "has a relative path, but the working folder {folder} no longer exists",
                folder=name_of_working_folder(),
            ) from None
    path = Path(text) if folder is None else folder / text
    if not _is_text(str(path)):
        raise _Fault(_NOT_TEXT)
    return path


def name_of_working_folder() -> str:
    """Return the name of a working folder that no longer exists."""
    try:
        # The kernel's name for it ends with these words.
        return ascii(os.readlink("/proc/self/cwd").removesuffix(" (deleted)"))[1:-1]
    except OSError:
        return ascii(os.environ.get("PWD", ""))[1:-1]


_NOT_TEXT = Words("has a NUL character or bytes that are not UTF-8")
_NO_BREAK_SPACES = {0x00A0: " ", 0x202F: " "}


def _one_line(text: str, _folder: _Folder) -> str:
    if not text.translate(_NO_BREAK_SPACES).isprintable():
        raise _Fault("has a line break or another control character")
    if "=?" in text:
        raise _Fault("has =?, which mail programs take for an encoded word")
    return text


def _mail_address(text: str, folder: _Folder) -> str:
    _one_line(text, folder)
    if not re.fullmatch(r"(?:[^<>@,;:\"]*<[^<>@\s,]+@[^<>@\s,]+>|[^<>@\s,]+@[^<>@\s,]+)", text):
        raise _Fault("is no e-mail address")
    return text


def _bounces_address(text: str, _folder: _Folder) -> str:
    # Of the 64 characters that may stand before the @, a mail's own mark takes 36.
    if not re.fullmatch(r"[A-Za-z0-9._+-]{1,28}@[^<>@\s,]+", text):
        raise _Fault("is no bare e-mail address with at most 28 ASCII letters, digits and . _ + - before its @")
    return text


def _private_key(text: str, _folder: _Folder) -> Password:
    # Only its form; what is in it is for `mail.signing` to find out, which loads what can read it.
    if not re.fullmatch(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.+-----END \1-----", text.strip(), re.DOTALL):
        raise _Fault("is no private key in PEM form")
    return Password(text.strip())


def _selector(text: str, _folder: _Folder) -> str:
    # RFC 6376, 3.1: names as those of hosts.
    label = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    if not re.fullmatch(rf"{label}(?:\.{label}){{0,3}}", text):
        raise _Fault("is no selector: ASCII letters, digits and hyphens, as in the name of a host")
    return text


def _number(low: int, high: int) -> Callable[[str, _Folder], int]:
    def parse(text: str, _folder: _Folder) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise _Fault("is no whole number from {low} to {high}", low=low, high=high)
        return int(text)

    return parse


def _yes_or_no(text: str, _folder: _Folder) -> bool:
    if text.lower() not in {"yes", "no", "true", "false", "1", "0"}:
        raise _Fault("is neither yes nor no")
    return text.lower() in {"yes", "true", "1"}


def _language(text: str, _folder: _Folder) -> str:
    if text not in LANGUAGES:
        raise _Fault("is none of {known}", known=", ".join(LANGUAGES))
    return text


def _log_style(text: str, _folder: _Folder) -> LogStyle:
    if text not in set(LogStyle):
        raise _Fault("is none of {known}", known=", ".join(LogStyle))
    return LogStyle(text)


def _specials(text: str, _folder: _Folder) -> str:
    # With the look-alikes, the most that these can make; `load` checks what they make with the other settings.
    Alphabet.of(text, lookalikes=True)
    return text


def _existing_folder(text: str, folder: _Folder) -> Path:
    path = _below(folder, text)
    # Not by `Path.is_dir`, which raises where a folder above may not be entered.
    if not os.path.isdir(path):
        raise _Fault("names {path}, which is no folder", path=path)
    try:
        trust.require_folder(path)
    except trust.UntrustedFile as error:
        raise _Fault("is refused: {message}. {hint}", message=error.message, hint=error.hint) from None
    except OSError as error:
        raise _Fault(
            "names {path}, which cannot be examined: {reason}", path=path, reason=system_message(error)
        ) from None
    return path


def _database(text: str, folder: _Folder) -> Database:
    if text.startswith("sqlite:"):
        path = text.removeprefix("sqlite:").removeprefix("///")
        if not path:
            raise _Fault("names no file")
        if path.startswith("//") and not path.startswith("///"):
            raise _Fault("needs three slashes before a relative path (sqlite:///egec.db), four before an absolute one")
        return SqliteFile(_below(folder, path))
    if text.startswith(("postgresql://", "postgres://")):
        _url_parts(text)
        return PostgresqlServer("postgresql://" + text.partition("://")[2])
    raise _Fault("begins with neither sqlite:/// nor postgresql://")


def _mail_server(text: str, folder: _Folder) -> MailServer:
    scheme, _, rest = text.partition(":")
    if scheme == "maildir":
        if not rest:
            raise _Fault("names no folder")
        return MaildirFolder(_below(folder, rest))
    if scheme == "sendmail":
        return SendmailProgram(_below(folder, rest or "/usr/sbin/sendmail"))
    if scheme not in {"smtp", "smtps"}:
        raise _Fault("begins with none of smtp://, smtps://, sendmail: and maildir:")
    return _smtp_server(text, folder)


def _url_parts(text: str) -> tuple[SplitResult, int | None]:
    fault = _Fault("is no URL (in a password, write @ : / ? # % as %40 %3A %2F %3F %23 %25)")
    # urllib's own messages may quote a part of the URL, so none of them goes further.
    try:
        parts = urlsplit(text)
        port = parts.port
        for part in (parts.username, parts.password):
            unquote(part or "", errors="strict")
        unquote(text, errors="strict").encode()
    except ValueError:
        raise fault from None
    # An @ behind the host is that of a password cut in two by a / ? or #; the host is its first half.
    if port == 0 or "@" in parts.path + parts.query + parts.fragment:
        raise fault
    return parts, port


def _smtp_server(text: str, folder: _Folder) -> SmtpServer:
    parts, port = _url_parts(text)
    if not parts.hostname or parts.path not in {"", "/"} or parts.fragment:
        raise _Fault("is not of the form smtp://USER:PASSWORD@HOST:PORT (in a password, write @ as %40, / as %2F ...)")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    ca_file = options.pop("ca", None)
    tls = options.pop("tls", None)
    if options:
        raise _Fault("has an option after ? that is neither tls= nor ca=")
    if parts.scheme == "smtps":
        if tls is not None:
            raise _Fault("has tls=, which smtps:// always is")
        mode = Tls.IMPLICIT
    elif tls is None:
        mode = Tls.NONE if _is_loopback(parts.hostname) else Tls.STARTTLS
    elif tls in {Tls.STARTTLS, Tls.NONE}:
        mode = Tls(tls)
    else:
        raise _Fault("has a tls= that is neither required nor none")
    return SmtpServer(
        host=parts.hostname,
        port=port or (465 if mode is Tls.IMPLICIT else 587 if mode is Tls.STARTTLS else 25),
        tls=mode,
        user=unquote(parts.username or ""),
        password=Password(unquote(parts.password or "")),
        ca_file=_below(folder, ca_file) if ca_file else None,
    )


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host == "::1" or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "EGEC_DATABASE_URL",
        _database,
        "an SQLite file in the user's data folder",
        "sqlite:////var/lib/egec/egec.db",
        "Where the client files are kept: `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/NAME`.",
        secret=True,
    ),
    Setting(
        "EGEC_MAIL_URL",
        _mail_server,
        "a Maildir in the user's data folder, until the database has had a mail server",
        "smtp://egec:secret@smtp.example.org:587",
        "Who takes the mail: `smtp://` (STARTTLS), `smtps://`, `sendmail:` or `maildir:PATH`.",
        secret=True,
    ),
    Setting(
        "EGEC_MAIL_FROM",
        _mail_address,
        "eGEC <ne-pas-repondre@egec.pro>",
        "eGEC <ne-pas-repondre@egec.pro>",
        "The sender of the mails; its domain also ends their Message-IDs.",
    ),
    Setting(
        "EGEC_MAIL_REPLY_TO",
        _mail_address,
        Words("none"),
        "service-it@egec.pro",
        "Where replies go all the same, although the mail says that nobody reads them.",
    ),
    Setting(
        "EGEC_MAIL_BOUNCES",
        _bounces_address,
        Words("the sender's"),
        "ne-pas-repondre@egec.pro",
        "The address that undeliverable mails come back to; each mail adds `+` and a mark of its own before the `@`.",
    ),
    Setting(
        "EGEC_MAIL_TIMEOUT",
        _number(1, 3600),
        "60",
        "60",
        "How long the mail server may take for each answer as a whole, in seconds.",
    ),
    Setting(
        "EGEC_DKIM_KEY",
        _private_key,
        Words("none"),
        "-----BEGIN PRIVATE KEY----- MIIEvQIBADANBgkq... -----END PRIVATE KEY-----",
        "The RSA key, in PEM form, by which mails are signed (DKIM) where the mail server does not sign them.",
        secret=True,
    ),
    Setting(
        "EGEC_DKIM_SELECTOR",
        _selector,
        Words("none"),
        "mail2026",
        "Under which name the public half of that key is found: `SELECTOR._domainkey.` and the sender's domain.",
    ),
    Setting("EGEC_APP_NAME", _one_line, "eGEC", "eGEC", "The name of the application in the mails."),
    Setting("EGEC_APP_URL", _one_line, "www.egec.pro", "www.egec.pro", "The address of the application in the mails."),
    Setting(
        "EGEC_SUPPORT",
        _one_line,
        "Service IT",
        "Service IT (01 23 45 67 89)",
        "Whom a client may turn to, in the mails.",
    ),
    Setting(
        "EGEC_LANGUAGE",
        _language,
        "fr",
        "fr",
        "The language of clients whose file names none, and of the refusal at login: `fr` or `en`.",
    ),
    Setting(
        "EGEC_TEMPLATES",
        _existing_folder,
        Words("the built-in ones"),
        "/etc/egec/templates",
        "A folder whose templates replace the built-in ones of the same file name.",
    ),
    Setting(
        "EGEC_BCRYPT_COST",
        _number(4, 16),
        "12",
        "12",
        "The cost of password hashes: each step doubles the time. Below 10 for tests only.",
    ),
    Setting(
        "EGEC_PASSWORD_SPECIALS",
        _specials,
        DEFAULT_SPECIALS,
        DEFAULT_SPECIALS,
        "The special characters of passwords: ASCII punctuation, each once.",
    ),
    Setting(
        "EGEC_PASSWORD_LOOKALIKES",
        _yes_or_no,
        "no",
        "no",
        "Whether passwords may have `0 O 1 l I`: `yes` or `no`.",
    ),
    Setting(
        "EGEC_UNUSED_PASSWORD_DAYS",
        _number(0, 3650),
        "30",
        "30",
        "After how many days a password that was never used stops working; 0 = never.",
    ),
    Setting(
        "EGEC_WORKERS",
        _number(1, 256),
        Words("as many as the machine has cores"),
        "4",
        "How many passwords a re-issue run hashes at a time.",
    ),
    Setting(
        "EGEC_MAIL_CONNECTIONS",
        _number(1, 64),
        "4",
        "4",
        "How many connections to the mail server a re-issue run keeps open.",
    ),
    Setting(
        "EGEC_MAIL_RATE",
        _number(0, 100_000),
        "0",
        "50",
        "How many mails a second all re-issue runs of the database may send together; 0 = no limit.",
    ),
    Setting(
        "EGEC_AUDIT_DAYS",
        _number(0, 36_500),
        "365",
        "365",
        "How many days of events `egec audit prune` keeps; 0 = all of them.",
    ),
    Setting(
        "EGEC_LOG",
        _log_style,
        Words("none"),
        "json",
        "A line on stderr for each act: `text`, or `json` (an object); `--verbose` is `text` unless this is set.",
    ),
)


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of this process: its environment first, then the one file found.

    Args:
        environ: the environment to read instead of the process's own.

    Raises:
        ConfigError: something is wrong; all faults are told at once.
    """
    found = read_settings(environ)
    if found.faults:
        raise _invalid(found.faults, found.settings.env_file)
    return found.settings


def read_settings(environ: Mapping[str, str] | None = None) -> Reading:
    """Return what `load` reads, with all that is wrong about it.

    Args:
        environ: the environment to read instead of the process's own.

    Raises:
        ConfigError: the file of settings cannot be found or read.
    """
    environ = os.environ if environ is None else environ
    found = _find_env_file(environ)
    in_file, faults = ({}, []) if found is None else _parsed(found.path, found.text)
    reader = _Reader(environ, in_file, found)
    specials = reader.value("EGEC_PASSWORD_SPECIALS", DEFAULT_SPECIALS)
    lookalikes = reader.value("EGEC_PASSWORD_LOOKALIKES", False)
    alphabet = reader.alphabet(specials, lookalikes)
    settings = Settings(
        database=reader.value("EGEC_DATABASE_URL", None) or SqliteFile(data_folder() / "egec.db"),
        mail_server=reader.value("EGEC_MAIL_URL", None) or MaildirFolder(data_folder() / "mail", is_default=True),
        mail_from=reader.value("EGEC_MAIL_FROM", "eGEC <ne-pas-repondre@egec.pro>"),
        mail_reply_to=reader.value("EGEC_MAIL_REPLY_TO", ""),
        mail_bounces=reader.value("EGEC_MAIL_BOUNCES", ""),
        mail_timeout=reader.value("EGEC_MAIL_TIMEOUT", 60),
        dkim=reader.dkim(),
        app_name=reader.value("EGEC_APP_NAME", "eGEC"),
        app_url=reader.value("EGEC_APP_URL", "www.egec.pro"),
        support=reader.value("EGEC_SUPPORT", "Service IT"),
        language=reader.value("EGEC_LANGUAGE", "fr"),
        templates=reader.value("EGEC_TEMPLATES", None),
        bcrypt_cost=reader.value("EGEC_BCRYPT_COST", 12),
        alphabet=alphabet,
        unused_password_days=reader.value("EGEC_UNUSED_PASSWORD_DAYS", 30),
        workers=reader.value("EGEC_WORKERS", os.cpu_count() or 1),
        mail_connections=reader.value("EGEC_MAIL_CONNECTIONS", 4),
        mail_rate=reader.value("EGEC_MAIL_RATE", 0),
        audit_days=reader.value("EGEC_AUDIT_DAYS", 365),
        log=reader.value("EGEC_LOG", None),
        env_file=found.path if found else None,
        warnings=tuple(reader.warnings()),
        acting_for=reader.acting_for(),
    )
    sources = {setting.name: reader.source(setting) for setting in SETTINGS}
    unknown = tuple(reader.unknown_variables())
    return Reading(settings, (*faults, *reader.faults), frozenset(reader.faulty), sources, unknown)


def data_folder() -> Path:
    """Return the folder of the user's data, in which the embedded database and Maildir are.

    Raises:
        ConfigError: the user has no home folder.
    """
    if not (os.environ.get("XDG_DATA_HOME") or _has_home()):
        raise ConfigError(
            "user {user} has no home folder to keep the data in",
            "Set EGEC_DATABASE_URL and EGEC_MAIL_URL, or HOME.",
            user=os.geteuid(),
        )
    # Imported where it is needed: with a database and a mail server set, no command pays for it.
    import platformdirs

    return _text_path(platformdirs.user_data_path("egec", appauthor=False))


def user_env_file() -> Path:
    """Return where the user's own file of settings is looked for, if the user has a home folder."""
    import platformdirs

    return platformdirs.user_config_path("egec", appauthor=False) / "egec.env"


def _has_home() -> bool:
    if os.environ.get("HOME"):
        return True
    import pwd

    try:
        return bool(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return False


class _EnvFile(NamedTuple):
    """A settings file: its path, its text, and its status when it was read."""

    path: Path
    text: str
    status: os.stat_result


def _find_env_file(environ: Mapping[str, str]) -> _EnvFile | None:
    named = environ.get(ENV_FILE_VARIABLE)
    if named:
        path = _named_env_file(named)
        found = _env_file_if_any(path)
        if found is None:
            raise ConfigError(
                "there is no file {path} to read the settings from",
                "Correct the path after --env-file or in {variable}.",
                path=path,
                variable=ENV_FILE_VARIABLE,
            )
        return found
    if local := _local_env_file():
        return local
    has_own = bool(os.environ.get("XDG_CONFIG_HOME")) or _has_home()
    for place in (*([user_env_file()] if has_own else []), SYSTEM_ENV_FILE):
        if found := _env_file_if_any(place):
            return found
    return None


def _named_env_file(named: str) -> Path:
    try:
        return Path(named).absolute()
    except FileNotFoundError:
        raise ConfigError(
            "the working folder {folder} no longer exists, so {path} cannot be found in it",
            "Change to a folder that exists, or write the path after --env-file from / on.",
            folder=name_of_working_folder(),
            path=named,
        ) from None


def _local_env_file() -> _EnvFile | None:
    """Return the `.env` of the working folder."""
    try:
        path = Path(".env").absolute()
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        # There is none, or the working folder was deleted, or this user may not look into it, as into root's after
        # `sudo -u egec`: then it is only where the shell happens to be.
        return None
    return _env_file_if_any(path)


def _env_file_if_any(path: Path) -> _EnvFile | None:
    """Return the settings file of this path; None where there is nothing, or a folder, as of a virtual environment.

    Raises:
        ConfigError: it cannot be read, or somebody else can change it.
    """
    try:
        path.lstat()
        if path.is_dir():
            return None
        content = trust.read(_text_path(path))
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        if isinstance(error, ValueError) or not os.path.islink(path):
            return None
        raise ConfigError(
            "{path} is a symbolic link to a file that does not exist", "Create the file, or remove the link.", path=path
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        text = content.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            "{path} is not UTF-8 text: {reason}", "Save it as UTF-8.", path=path, reason=error.reason
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ConfigError("{path}:{line} has a NUL character", "Save it as plain text.", path=path, line=line)
    return _EnvFile(path, text, content.status)


def _text_path(path: Path) -> Path:
    """Return the path, which must be UTF-8: it is shown, logged and recorded."""
    if not _is_text(str(path)):
        raise ConfigError("the path {path} is not UTF-8", "Rename the file or the folder.", path=ascii(str(path)))
    return path


def _is_text(text: str) -> bool:
    """Tell whether a text can be written as UTF-8 and be part of a path; bytes of the environment may be anything."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        "{path} cannot be read: {reason}",
        "Give this user the right to read it.",
        path=path,
        reason=system_message(error),
    )


def _parsed(path: Path, text: str) -> tuple[dict[str, str], list[str]]:
    """Return the variables of the file, and what is wrong with its lines; no line is quoted, it may hold a secret."""
    # python-dotenv is imported only where there is a file for it to read; its `dotenv_values` skips faulty lines.
    from io import StringIO

    from dotenv.parser import parse_stream

    faults: list[str] = []
    bindings = list(parse_stream(StringIO(text, newline=None)))
    for binding in bindings:
        if binding.error:
            # A statement begins with the empty lines above it.
            line, statement = binding.original.line, binding.original.string
            line += statement.count("\n", 0, len(statement) - len(statement.lstrip()))
            faults.append(
                Words("{path}:{line} is not of the form NAME=value, or a quote is missing", path=path, line=line)
            )
    return {binding.key: binding.value or "" for binding in bindings if binding.key}, faults


def _invalid(faults: Sequence[str], env_file: Path | None) -> ConfigError:
    where = Words("the environment or {env_file}", env_file=env_file) if env_file else Words("the environment")
    if len(faults) == 1:
        message = faults[0]
        hint = Words("Correct it in {where}; .env.example explains every setting.", where=where)
    else:
        message = join_words("\n  ", [Words("invalid settings:"), *faults])
        hint = Words("Correct them in {where}; .env.example explains every setting.", where=where)
    return ConfigError(message, hint)


def _has_secret(text: str) -> bool:
    return "@" in text or "password=" in text or "PRIVATE KEY" in text


class _Reader:
    """Reads variables one by one and gathers what is wrong with them."""

    def __init__(self, environ: Mapping[str, str], in_file: Mapping[str, str], env_file: _EnvFile | None) -> None:
        self._environ = environ
        self._in_file = in_file
        self._env_file = env_file
        self._secret_files: list[tuple[Path, os.stat_result]] = []
        self._known = {setting.name: setting for setting in SETTINGS}
        self.faults = [*self._misspelt()]
        self.faulty: set[str] = set()

    def value(self, name: str, default: Any) -> Any:
        """Return the parsed value of the variable; `default` where it is not set, empty, or faulty."""
        setting = self._known[name]
        text, folder = self._text(name)
        if setting.secret:
            text, folder = self._text_or_file(name, text, folder)
        if not text:
            return default
        try:
            value = setting.parse(text, folder)
            if _is_text(text):
                return value
            reason = _NOT_TEXT
        except _Fault as fault:
            reason = fault.words
        except InvalidInput as error:
            reason = Words("is refused: {message}", message=error.message)
        words = Words("{name} {reason}. Example: {name}={example}", name=name, reason=reason, example=setting.example)
        self._fault(name, words)
        return default

    def alphabet(self, specials: str, lookalikes: bool) -> Alphabet:
        """Return the alphabet of both settings; the default one where they do not go together."""
        try:
            return Alphabet.of(specials, lookalikes=lookalikes)
        except InvalidInput as error:
            self._fault(
                "EGEC_PASSWORD_SPECIALS",
                Words("EGEC_PASSWORD_SPECIALS is refused: {message}. {hint}", message=error.message, hint=error.hint),
            )
            return Alphabet.of()

    def dkim(self) -> DkimKey | None:
        """Return the key that signs, with its selector; neither is of use without the other."""
        key, selector = self.value("EGEC_DKIM_KEY", None), self.value("EGEC_DKIM_SELECTOR", "")
        lacking, given = ("EGEC_DKIM_SELECTOR", "EGEC_DKIM_KEY") if key else ("EGEC_DKIM_KEY", "EGEC_DKIM_SELECTOR")
        if bool(key) != bool(selector) and self.faulty.isdisjoint({lacking, given}):
            example = f"{lacking}={self._known[lacking].example}"
            self._fault(
                lacking,
                Words(
                    "{lacking} is not set, without which {given} is of no use. Example: {example}",
                    lacking=lacking,
                    given=given,
                    example=example,
                ),
            )
        return DkimKey(key, selector) if key and selector else None

    def acting_for(self) -> str:
        """Return for whom the calling program acts, as the environment says."""
        text = self._environ.get(ACTOR_VARIABLE, "").strip()
        if text.isprintable() and len(text) <= _LONGEST_ACTOR:
            return text
        self._fault(
            ACTOR_VARIABLE,
            Words(
                "{name} is no line of at most {most} printable characters. Example: {name}=jeanne.martin",
                name=ACTOR_VARIABLE,
                most=_LONGEST_ACTOR,
            ),
        )
        return ""

    def source(self, setting: Setting) -> Source:
        """Return where the setting was read from: the first place that has it."""
        names = [setting.name, f"{setting.name}_FILE"] if setting.secret else [setting.name]
        for place, variables in (
            (Words("the environment"), self._environ),
            (str(self._env_file.path if self._env_file else ""), self._in_file),
        ):
            for name in names:
                if variables.get(name):
                    where = (
                        place
                        if name == setting.name
                        else Words("the file that {name} names in {place}", name=name, place=place)
                    )
                    return Source(where, "" if setting.secret else variables[name])
        return Source(Words("the default"), "" if setting.secret else setting.default)

    def _fault(self, name: str, words: str) -> None:
        self.faults.append(words)
        self.faulty.add(name)

    def _text(self, name: str) -> tuple[str, _Folder]:
        if self._environ.get(name) or self._env_file is None:
            return self._environ.get(name, ""), None
        return self._in_file.get(name, ""), self._env_file.path.parent

    def _text_or_file(self, name: str, text: str, folder: _Folder) -> tuple[str, _Folder]:
        file_name, file_folder = self._text(f"{name}_FILE")
        if text and file_name and bool(self._environ.get(name)) != bool(self._environ.get(f"{name}_FILE")):
            # The environment comes before the file, in whichever form.
            text, file_name = (text, "") if self._environ.get(name) else ("", file_name)
        if not file_name:
            return text, folder
        if text:
            self._fault(name, Words("{name} and {name}_FILE are both set. Keep one of them", name=name))
            return "", folder
        try:
            path = _below(file_folder, file_name)
        except _Fault as fault:
            self._fault(name, Words("{name}_FILE {fault}", name=name, fault=fault.words))
            return "", folder
        try:
            content = trust.read(path)
            text = content.data.decode("utf-8-sig").strip()
        except trust.UntrustedFile as error:
            self._fault(
                name, Words("{name}_FILE is refused: {what}. {cure}", name=name, what=error.message, cure=error.hint)
            )
            return "", folder
        except (OSError, ValueError) as error:  # ValueError: not UTF-8
            self._fault(
                name,
                Words(
                    "{name}_FILE names {path}, which cannot be read ({kind})",
                    name=name,
                    path=path,
                    kind=type(error).__name__,
                ),
            )
            return "", folder
        if not text:
            self._fault(name, Words("{name}_FILE names {path}, which is empty", name=name, path=path))
        self._secret_files.append((path, content.status))
        return text, path.parent

    def _misspelt(self) -> Iterator[str]:
        for name in self._in_file:
            if name == ACTOR_VARIABLE:
                yield Words("{name} names the person of one call, so it is for the environment alone", name=name)
            elif self._is_unknown(name):
                meant = self._nearest(name)
                yield Words(
                    "unknown setting {name} (did you mean {meant}?)" if meant else "unknown setting {name}",
                    name=name,
                    meant=meant,
                )

    def unknown_variables(self) -> Iterator[str]:
        """Yield each variable of the environment that is named like a setting and is none, in words."""
        for name in sorted(self._environ):
            if name not in {ENV_FILE_VARIABLE, ACTOR_VARIABLE} and self._is_unknown(name):
                meant = self._nearest(name)
                yield Words(
                    "unknown variable {name} in the environment (did you mean {meant}?)"
                    if meant
                    else "unknown variable {name} in the environment",
                    name=ascii(name)[1:-1],
                    meant=meant,
                )

    def _is_unknown(self, name: str) -> bool:
        if not name.startswith(_PREFIX) or name in self._known:
            return False
        setting = self._known.get(name.removesuffix("_FILE"))
        return setting is None or not setting.secret

    def _nearest(self, name: str) -> str:
        """Return the setting whose name is nearly this one; empty where none is."""
        from difflib import get_close_matches

        # All begin alike, which would make any two of them look close.
        known = [one.removeprefix(_PREFIX) for one in self._known]
        return "".join(_PREFIX + one for one in get_close_matches(name.removeprefix(_PREFIX), known, 1, _NEAR))

    def warnings(self) -> Iterator[SettingsWarning]:
        """Yield a warning for each file with secrets that every user of the machine can read."""
        files = list(self._secret_files)
        if self._env_file and any(_has_secret(self._in_file.get(s.name, "")) for s in SETTINGS if s.secret):
            files.append((self._env_file.path, self._env_file.status))
        for path, status in files:
            if status.st_mode & stat.S_IROTH:
                what = Words("{path} holds a secret and can be read by others", path=path)
                yield SettingsWarning(what, Words("Type: chmod 600 {path}", path=quoted(path)))
