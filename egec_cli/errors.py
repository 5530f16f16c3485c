"""The expected errors: each class has an exit code, each instance says what is wrong and what to type."""

from enum import IntEnum

from egec_cli.translation import Words


class ExitCode(IntEnum):
    """The exit codes of `egec`; from 64 on they are those of sysexits.h."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    PARTLY_DONE = 3
    BAD_INPUT = 65
    NO_SUCH_CLIENT = 67
    INTERNAL_ERROR = 70
    ALREADY_EXISTS = 73
    FILE_SYSTEM = 74
    TEMPORARY_FAILURE = 75
    NOT_PERMITTED = 77
    CONFIGURATION = 78
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


EXIT_CODE_MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done; login accepted",
    ExitCode.REFUSED: "the answer is no: login refused",
    ExitCode.USAGE: "wrong command line",
    ExitCode.PARTLY_DONE: "done in part: some rows or clients failed, each is listed",
    ExitCode.BAD_INPUT: "bad input data",
    ExitCode.NO_SUCH_CLIENT: "no such client",
    ExitCode.INTERNAL_ERROR: "a defect of the program",
    ExitCode.ALREADY_EXISTS: "it already exists",
    ExitCode.FILE_SYSTEM: "the disk or the file system failed",
    ExitCode.TEMPORARY_FAILURE: "not now, nothing is lost, run the same again",
    ExitCode.NOT_PERMITTED: "not permitted",
    ExitCode.CONFIGURATION: "configuration missing or wrong",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C); what was begun can be resumed",
    ExitCode.BROKEN_PIPE: "the reader of the output went away (as in `| head`)",
    ExitCode.TERMINATED: "terminated (SIGTERM); what was begun can be resumed",
}


# The argument of a KeyboardInterrupt at a prompt: nothing was begun.
AT_A_PROMPT = ""


class EgecError(Exception):
    """The root of all expected errors.

    Args:
        message: what is wrong, for an operator; never holds a secret.
        hint: what to do or to type next; may be empty.
        code: a stable word for scripts, where one class has several causes.
        values: what stands in message and hint by name, as in `there is no file {path}`.
    """

    exit_code = ExitCode.INTERNAL_ERROR
    code = "defect"

    def __init__(self, message: str, hint: str = "", *, code: str = "", **values: object) -> None:
        self.message: str = Words(message, **values)
        self.hint: str = Words(hint, **values)
        super().__init__(self.message)
        if code:
            self.code = code


class UsageError(EgecError):
    """The command line cannot be carried out as it is."""

    exit_code = ExitCode.USAGE
    code = "usage"


class InvalidInput(EgecError):
    """A value from outside is not valid."""

    exit_code = ExitCode.BAD_INPUT
    code = "bad_input"


class AddressRefused(InvalidInput):
    """The mail server or the mail program does not take this address."""

    code = "mail_refused"


class ClientNotFound(EgecError):
    """No client has this e-mail, identifier or reference."""

    exit_code = ExitCode.NO_SUCH_CLIENT
    code = "no_such_client"


class AlreadyExists(EgecError):
    """Something that must be unique is there already."""

    exit_code = ExitCode.ALREADY_EXISTS
    code = "already_exists"


class StorageError(EgecError):
    """A file could not be written or read."""

    exit_code = ExitCode.FILE_SYSTEM
    code = "file_system"


class TemporaryFailure(EgecError):
    """It cannot be done at present; the same command may succeed later."""

    exit_code = ExitCode.TEMPORARY_FAILURE
    code = "not_now"


class PermissionDenied(EgecError):
    """The system or the state of the account forbids it."""

    exit_code = ExitCode.NOT_PERMITTED
    code = "not_permitted"


class ConfigError(EgecError):
    """The configuration is missing or wrong."""

    exit_code = ExitCode.CONFIGURATION
    code = "configuration"


def quoted(value: object) -> str:
    """Return a value, such as the name of a run or a path, as one word of a shell."""
    # Imported here: only hints and advice need it.
    import shlex

    return shlex.quote(str(value))
