"""What the settings hold: databases, mail servers, keys, limits and `Settings` itself."""

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from egec_cli.password import Alphabet, Password

ENV_FILE_VARIABLE = "EGEC_ENV_FILE"
LANGUAGES = ("fr", "en")
DEFAULT_TIMEZONE = "Europe/Paris"
# How long to wait for each answer of the mail server, in seconds, and for the one that decides whether it accepted a
# mail: it may deliver the mail before it answers (RFC 5321, 4.5.3.2.6).
MAIL_TIMEOUT = 60
MAIL_FINAL_TIMEOUT = 600


class SqliteFile(NamedTuple):
    """A database in a local file; `is_default` if EGEC_DATABASE_URL is not set."""

    path: Path
    is_default: bool = False

    def __str__(self) -> str:
        return str(self.path)


class PostgresqlServer(NamedTuple):
    """A database on a PostgreSQL server. `url` may hold a password; `str()` and `repr()` never show it."""

    url: str

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"PostgreSQL {parts.hostname or ''}{parts.path}"

    def __repr__(self) -> str:
        return str(self)


Database = SqliteFile | PostgresqlServer


class Tls(StrEnum):
    """How the connection to the mail server is encrypted."""

    STARTTLS = "required"
    IMPLICIT = "implicit"
    NONE = "none"


class SecretCommand(NamedTuple):
    """A program that prints the secret of a login. Its arguments may be secret: `str()` and `repr()` hide them.

    `setting` is the variable that names the program; `words` are the program and its arguments.
    """

    setting: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return self.words[0]

    def __repr__(self) -> str:
        return f"SecretCommand({self.setting})"


class SecretFile(NamedTuple):
    """A file with the secret of a login, which may change at any time; `setting` is the variable that names it."""

    setting: str
    path: Path

    def __str__(self) -> str:
        return str(self.path)


class SmtpServer(NamedTuple):
    """A mail server that speaks SMTP.

    `password` is that of the URL; `secret` is where the password, or the token of OAuth, comes from instead.
    """

    host: str
    port: int
    tls: Tls
    user: str = ""
    password: Password = Password("")
    ca_file: Path | None = None
    uses_oauth: bool = False
    secret: SecretCommand | SecretFile | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class SendmailProgram(NamedTuple):
    """A program that accepts mail like sendmail."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


class MaildirFolder(NamedTuple):
    """A folder in which mail is saved instead of being sent; the default if EGEC_MAIL_URL is not set."""

    path: Path
    is_default: bool = False

    def __str__(self) -> str:
        return str(self.path)


class DkimKey(NamedTuple):
    """The private key that signs mails, in PEM form, and the selector of its public key in the DNS."""

    private: Password
    selector: str


class Limit(NamedTuple):
    """At most this number of mails or acts within any period of this length, in seconds."""

    number: int
    seconds: int


# The limits on mails that hold together, the shortest window first; none means no limit.
Rate = tuple[Limit, ...]


class LogStyle(StrEnum):
    """The format of the log."""

    TEXT = "text"
    JSON = "json"


MailServer = SmtpServer | SendmailProgram | MaildirFolder


class SettingsWarning(NamedTuple):
    """What is unsafe about the settings, and what to do."""

    what: str
    fix: str


class Settings(NamedTuple):
    """Every setting, parsed.

    `env_file` is the file that was read; `acting_for` is the person that the calling program names. `mail_timeout` and
    `mail_final_timeout` are in seconds; the latter is for the answer that decides whether a mail was accepted.
    """

    database: Database
    mail_server: MailServer
    mail_from: str
    mail_reply_to: str
    mail_bounces: str
    mail_timeout: float
    mail_final_timeout: float
    dkim: DkimKey | None
    app_name: str
    app_url: str
    support: str
    language: str
    timezone: str
    templates: Path | None
    bcrypt_cost: int
    alphabet: Alphabet
    unused_password_days: int
    workers: int
    mail_connections: int
    mail_rate: Rate
    mail_reserve: int
    mail_retry_hours: int
    audit_days: int
    requests_per_client: tuple[Limit, ...]
    requests_per_origin: tuple[Limit, ...]
    request_discloses: bool
    shared_email: bool
    failures_per_origin: tuple[Limit, ...]
    block_hours: int
    log: LogStyle | None
    env_file: Path | None
    warnings: tuple[SettingsWarning, ...] = ()
    acting_for: str = ""
