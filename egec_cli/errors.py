"""The expected errors. A class has an exit code; an instance says what is wrong and what to do."""

from enum import IntEnum

from egec_cli.translation import Words


class ExitCode(IntEnum):
    """The exit codes of `egec` with their meanings; from 64 on they are those of sysexits.h."""

    meaning: str

    def __new__(cls, number: int, meaning: str) -> "ExitCode":
        """Create a member that is the number."""
        code = int.__new__(cls, number)
        code._value_, code.meaning = number, meaning
        return code

    OK = 0, "done; login accepted"
    REFUSED = 1, "login refused, or confirmation declined"
    USAGE = 2, "invalid command line"
    PARTLY_DONE = 3, "done in part: some rows or clients failed, each is listed"
    INVALID_INPUT = 65, "invalid input"
    UNKNOWN_CLIENT = 67, "unknown client"
    INTERNAL_ERROR = 70, "internal error"
    ALREADY_EXISTS = 73, "already exists"
    FILE_SYSTEM = 74, "file or disk error"
    TEMPORARY_FAILURE = 75, "temporary failure; nothing was lost, try again"
    NOT_PERMITTED = 77, "not permitted"
    CONFIGURATION = 78, "configuration missing or invalid"
    HUNG_UP = 129, "terminal closed (SIGHUP); what was started can be resumed"
    INTERRUPTED = 130, "interrupted (Ctrl-C); what was started can be resumed"
    BROKEN_PIPE = 141, "the reader of the output closed the pipe (as in `| head`)"
    TERMINATED = 143, "terminated (SIGTERM); what was started can be resumed"


# The argument of a KeyboardInterrupt at a prompt, before any work.
AT_A_PROMPT = ""


class Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C arrived. Work in progress is settled while this exception travels up.

    Libraries handle KeyboardInterrupt: psycopg cancels the running statement, so that it can be rolled back.
    """

    def __init__(self, exit_code: ExitCode) -> None:
        super().__init__()
        self.exit_code = exit_code


def code_of_signal(interruption: KeyboardInterrupt) -> ExitCode:
    """Return the exit code after a signal."""
    return interruption.exit_code if isinstance(interruption, Stopped) else ExitCode.INTERRUPTED


class EgecError(Exception):
    """The root of all expected errors.

    Args:
        message: what is wrong, for an operator; never holds a secret.
        hint: what to do next; may be empty.
        code: a stable word for scripts, if one class has several causes.
        values: the values that message and hint name, as in `{path} already exists`.
    """

    exit_code = ExitCode.INTERNAL_ERROR
    code = "internal_error"

    def __init__(self, message: str, hint: str = "", *, code: str = "", **values: object) -> None:
        self.message: str = Words(message, **values)
        self.hint: str = Words(hint, **values)
        super().__init__(self.message)
        if code:
            self.code = code


class UsageError(EgecError):
    """The command line is invalid."""

    exit_code = ExitCode.USAGE
    code = "usage"


class InvalidInput(EgecError):
    """A value from outside is invalid."""

    exit_code = ExitCode.INVALID_INPUT
    code = "invalid_input"


class AddressRefused(InvalidInput):
    """The mail server or the mail program refused this address."""

    code = "mail_refused"


class ClientNotFound(EgecError):
    """No client has this e-mail, identifier or reference."""

    exit_code = ExitCode.UNKNOWN_CLIENT
    code = "unknown_client"


class AlreadyExists(EgecError):
    """Something that must be unique already exists."""

    exit_code = ExitCode.ALREADY_EXISTS
    code = "already_exists"


class StorageError(EgecError):
    """A file could not be written or read."""

    exit_code = ExitCode.FILE_SYSTEM
    code = "file_system"


class TemporaryFailure(EgecError):
    """The same command may succeed later."""

    exit_code = ExitCode.TEMPORARY_FAILURE
    code = "temporary_failure"


class PermissionDenied(EgecError):
    """The system or the state of the account forbids it."""

    exit_code = ExitCode.NOT_PERMITTED
    code = "not_permitted"


class ConfigError(EgecError):
    """The configuration is missing or invalid."""

    exit_code = ExitCode.CONFIGURATION
    code = "configuration"


class DamagedDatabase(ConfigError):
    """An SQLite file is damaged, or it is something else."""


def quoted(value: object) -> str:
    """Return a value, such as a run name or a path, as one word of a shell."""
    # Imported here: only hints need it.
    import shlex

    return shlex.quote(str(value))


# Errors of the database that several modules raise.


def database_busy() -> TemporaryFailure:
    """Return the error for a database that another process has locked."""
    return TemporaryFailure("the database is busy with another process", "Try again.", code="database_busy")


def damaged_file(location: object, reason: str) -> DamagedDatabase:
    """Return the error for an SQLite file that is damaged or something else."""
    return DamagedDatabase(
        "{location} is not an intact SQLite database: {reason}",
        "Restore a backup, or set EGEC_DATABASE_URL.",
        location=location,
        reason=reason,
    )


def damaged_tables(location: object, reason: str) -> ConfigError:
    """Return the error for a database whose tables are missing or different."""
    return ConfigError(
        "the tables in {location} are damaged: {reason}",
        "Restore a backup, or set EGEC_DATABASE_URL to another database.",
        location=location,
        reason=reason,
    )


def number_too_large() -> InvalidInput:
    """Return the error for a number that does not fit into its column."""
    return InvalidInput("a number is too large", "Use a smaller number.")


def not_writable(location: object, reason: str | Words) -> PermissionDenied:
    """Return the error for a database that this user cannot write to."""
    return PermissionDenied(
        "{location} cannot be opened for writing: {reason}",
        "Run egec as the user who owns the database; its folder must be writable too.",
        location=location,
        reason=reason,
    )
