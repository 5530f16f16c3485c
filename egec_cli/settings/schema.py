"""What the settings hold: databases, mail servers, keys and `Settings` itself."""

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from egec_cli.password import Alphabet, Password

ENV_FILE_VARIABLE = "EGEC_ENV_FILE"
LANGUAGES = ("fr", "en")


class SqliteFile(NamedTuple):
    """A database in a local file."""

    path: Path

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


class SmtpServer(NamedTuple):
    """A mail server that speaks SMTP."""

    host: str
    port: int
    tls: Tls
    user: str = ""
    password: Password = Password("")
    ca_file: Path | None = None

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

    `env_file` is the file that was read; `acting_for` is the person that the calling program names.
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
