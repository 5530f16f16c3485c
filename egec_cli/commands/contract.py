"""What scripts may count on: what each command writes in a machine format, and by which exit codes it may end.

The keys and their types are those of the classes of what is shown, what they mean stands in the docstrings there, and
what the errors' codes mean stands here. Loaded by the completion of --fields and by what writes the reference alone.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from egec_cli.audit import prune
from egec_cli.audit.query import EventRecord
from egec_cli.clients.change import ChangeRecord
from egec_cli.clients.lists import ExportRecord, ExportRecordWithHash
from egec_cli.clients.records import ClientRecord
from egec_cli.commands.activate import FirstMail, ShownPassword
from egec_cli.commands.client_show import History
from egec_cli.commands.init import Places
from egec_cli.commands.password import GeneratedPassword, RatedPassword
from egec_cli.credentials.bounces import BounceRecord
from egec_cli.credentials.issue import IssueResult
from egec_cli.doctor import mail_trial, maintenance
from egec_cli.doctor.findings import Finding
from egec_cli.errors import ExitCode
from egec_cli.imports import run
from egec_cli.logins import batch, explain, verify
from egec_cli.logins.limits import LimitRecord
from egec_cli.reissue.items import ItemRecord
from egec_cli.reissue.preview import PlannedRecord
from egec_cli.reissue.runs import RunRecord


class Result(NamedTuple):
    """What a command writes in a machine format.

    Attributes:
        parts: the classes whose fields it has, one class after the other.
        when: the options that make it so, as they are typed; empty for what the command writes without them.
        many: one for each client or row that the command concerns: a list in json.
    """

    parts: tuple[type[Any], ...]
    when: str = ""
    many: bool = False

    @property
    def keys(self) -> list[str]:
        """The names of its fields, in order."""
        return [name for part in self.parts for name in part._fields]


class Contract(NamedTuple):
    """What a command promises.

    Attributes:
        results: what it writes; none where it has no machine format.
        exits: its exit codes beside those of every command, or of every one that reads the same, and what they mean.
        reads: what may be missing or wrong, and end it too.
    """

    results: tuple[Result, ...]
    exits: Mapping[int, str]
    reads: tuple[str, ...] = ("settings", "database")


# By which every command may end, and every command that reads the settings, or the database.
EVERY_COMMAND = (
    ExitCode.OK,
    ExitCode.USAGE,
    ExitCode.INTERNAL_ERROR,
    ExitCode.FILE_SYSTEM,
    ExitCode.INTERRUPTED,
    ExitCode.BROKEN_PIPE,
    ExitCode.TERMINATED,
)
READING = {
    "settings": {ExitCode.CONFIGURATION: "a setting is wrong"},
    "database": {
        ExitCode.TEMPORARY_FAILURE: "the database is busy or unavailable",
        ExitCode.NOT_PERMITTED: "the database is not this user's",
        ExitCode.CONFIGURATION: "the database is missing, or has the schema of another version",
    },
}

_SETTINGS_ALONE = ("settings",)
_NO_CLIENT = {67: "unknown client"}
_MAILING = {65: "the address is refused", 75: "the mail server is unavailable, or its answer was lost"}
_RUN = {
    3: "some clients could not be mailed, or lines of the list match no client",
    75: "the mail server is unavailable, so the run is paused; or it is paused or cancelled elsewhere",
}
_CHANGED = Result((ChangeRecord,)), Result((ChangeRecord,), "--from", many=True)
_CHANGING = {3: "some lines failed; each is reported", 65: "the list is invalid", 67: "unknown client"}
_ERASED = {77: "the file was erased"}

CONTRACT: Mapping[str, Contract] = {
    "init": Contract((Result((Places,)),), {}),
    "client create": Contract(
        (Result((ClientRecord,)), Result((ClientRecord, FirstMail), "--activate")),
        {
            65: "a field is not valid; with --activate, or the address is refused",
            73: "the e-mail, the reference or the identifier is taken",
            75: "with --activate: the mail server is unavailable, or its answer was lost; the file was made",
        },
    ),
    "client import": Contract(
        (Result((run.ImportResult,)),),
        {3: "rows were rejected; each is reported", 65: "the table is invalid; with --strict, a row was rejected"},
    ),
    "client show": Contract((Result((ClientRecord, LimitRecord, History)),), _NO_CLIENT),
    "client list": Contract(
        (Result((ClientRecord,), many=True),),
        {65: "a list or a date is invalid", 67: "the client of --after is unknown"},
    ),
    "client export": Contract(
        (Result((ExportRecord,), many=True), Result((ExportRecordWithHash,), "--with-hashes", many=True)),
        {65: "a list or a date is invalid", 73: "there is a file of that name"},
    ),
    "client update": Contract(
        (Result((ClientRecord,)),),
        {
            3: "the file was changed, but the notice to the previous address failed",
            65: "a field is not valid",
            67: "unknown client",
            73: "the e-mail or the reference is taken",
            77: "the file was erased; or the identifier was to be changed",
        },
    ),
    "client disable": Contract(_CHANGED, _CHANGING | _ERASED),
    "client enable": Contract(_CHANGED, _CHANGING | _ERASED),
    "client unblock": Contract(_CHANGED, _CHANGING | _ERASED),
    "client erase": Contract(
        _CHANGED,
        _CHANGING
        | {
            1: "the question was answered by no",
            75: "the client is being mailed at this moment; or erased, but copies remain in the database's files",
        },
    ),
    "activate": Contract(
        (Result((IssueResult,)), Result((IssueResult, ShownPassword), "--no-mail --show-password")),
        _MAILING | _NO_CLIENT | {77: "the client is disabled, or was erased"},
    ),
    "verify": Contract(
        (
            Result((verify.Verdict,)),
            Result((explain.Explanation,), "--explain"),
            Result((batch.LineVerdict,), "--batch", many=True),
        ),
        {
            1: "the login is refused",
            3: "with --batch: some logins are refused",
            65: "no login was given",
            75: "too many logins to the account are in progress: this one was not checked",
            111: "with --checkpassword: it could not be checked",
        },
    ),
    "reissue start": Contract(
        (
            Result((RunRecord,)),
            Result((ItemRecord,), "--format jsonl, csv, ids", many=True),
            Result((PlannedRecord,), "--dry-run", many=True),
        ),
        _RUN
        | {
            1: "the question was answered by no",
            65: "the name, the sentence or a list is invalid, or the number is not that of --expect",
            73: "the name was used with other selectors or another sentence",
            77: "the run was cancelled",
        },
    ),
    "reissue resume": Contract(
        (Result((RunRecord,)), Result((ItemRecord,), "--format jsonl, csv, ids", many=True)),
        _RUN | {65: "unknown run", 77: "the run was cancelled"},
    ),
    "reissue status": Contract(
        (
            Result((RunRecord,)),
            Result((RunRecord,), "without NAME", many=True),
            Result((ItemRecord,), "--failed, --items", many=True),
        ),
        {65: "unknown run"},
    ),
    "reissue retry": Contract(
        (Result((RunRecord,)), Result((ItemRecord,), "--format jsonl, csv, ids", many=True)),
        _RUN | {65: "unknown run", 77: "the run was cancelled"},
    ),
    "reissue cancel": Contract((Result((RunRecord,)),), {65: "unknown run", 77: "the run is done"}),
    "mail check": Contract(
        (Result((Finding,), many=True),),
        {
            3: "there are warnings",
            75: "the mail server is unavailable; there is no other fault",
            78: "there is a fault that must be fixed",
        },
        _SETTINGS_ALONE,
    ),
    "mail preview": Contract((), {65: "the language is invalid", 67: "unknown client", 73: "there is such a file"}),
    "mail test": Contract((Result((mail_trial.TestMailResult,)),), _MAILING, _SETTINGS_ALONE),
    "mail bounces": Contract(
        (Result((BounceRecord,), many=True),),
        {3: "some messages are not reports, or not about mail of this installation", 65: "there is no message"},
    ),
    "password": Contract(
        (Result((GeneratedPassword,), many=True), Result((RatedPassword,), "--entropy", many=True)), {}, _SETTINGS_ALONE
    ),
    "audit list": Contract(
        (Result((EventRecord,), many=True),), {65: "unknown run", 67: "the client of --client is unknown"}
    ),
    "audit prune": Contract((Result((prune.PruneResult,)),), {1: "the question was answered by no"}),
    "db status": Contract((Result((maintenance.SchemaStatus,)),), {}),
    "db upgrade": Contract(
        (Result((maintenance.UpgradeResult,)),), {75: "a run is being worked on, or the database is busy"}
    ),
    "db backup": Contract((Result((maintenance.BackupResult,)),), {73: "there is a file of that name"}),
    "db restore": Contract(
        (Result((maintenance.RestoreResult,)),), {65: "the file is not a backup", 75: "another egec is at work"}
    ),
    "doctor": Contract(
        (Result((Finding,), many=True),),
        {
            3: "there are warnings",
            75: "the mail server or the database is unavailable; there is no other fault",
            78: "there is a fault that must be fixed",
        },
    ),
    "completion": Contract((), {}, ()),
}

# What `code` of an error says, beside its exit code.
ERRORS: Mapping[str, tuple[ExitCode, str]] = {
    "usage": (ExitCode.USAGE, "the command line is wrong"),
    "bad_input": (ExitCode.BAD_INPUT, "a value is not valid"),
    "rejected": (ExitCode.BAD_INPUT, "a row was rejected, so `--strict` took none"),
    "unexpected_number": (ExitCode.BAD_INPUT, "the number of clients is not the one of `--expect`"),
    "no_such_run": (ExitCode.BAD_INPUT, "no run has this name"),
    "mail_refused": (ExitCode.BAD_INPUT, "the mail server does not take this address; correct it"),
    "smtputf8_not_offered": (ExitCode.BAD_INPUT, "the mail server takes no address that is not ASCII"),
    "no_such_client": (ExitCode.NO_SUCH_CLIENT, "unknown client"),
    "defect": (ExitCode.INTERNAL_ERROR, "internal error"),
    "already_exists": (ExitCode.ALREADY_EXISTS, "it is there already, or taken"),
    "identifier_reserved": (ExitCode.ALREADY_EXISTS, "the identifier was that of a client who was erased"),
    "run_exists": (ExitCode.ALREADY_EXISTS, "the name of the run was used with other selectors or another sentence"),
    "file_system": (ExitCode.FILE_SYSTEM, "a file could not be read or written, or its file system is read-only"),
    "not_now": (ExitCode.TEMPORARY_FAILURE, "it cannot be done at this moment"),
    "database_busy": (ExitCode.TEMPORARY_FAILURE, "the database is busy or unavailable"),
    "client_busy": (ExitCode.TEMPORARY_FAILURE, "the client is being mailed at this moment"),
    "account_busy": (
        ExitCode.TEMPORARY_FAILURE,
        "too many logins to the account are in progress: this one was not checked and does not count as a failure",
    ),
    "copies_remain": (
        ExitCode.TEMPORARY_FAILURE,
        "the data was erased, but another process keeps copies of it in the database's files",
    ),
    "in_doubt": (ExitCode.TEMPORARY_FAILURE, "the mail server's answer was lost; the mail may have left"),
    "mail_deferred": (ExitCode.TEMPORARY_FAILURE, "the mail server does not take the mail now"),
    "mail_server_unavailable": (ExitCode.TEMPORARY_FAILURE, "the mail server cannot be reached"),
    "run_in_progress": (ExitCode.TEMPORARY_FAILURE, "a run is being worked on"),
    "run_paused": (ExitCode.TEMPORARY_FAILURE, "another worker has paused the run and reports why"),
    "not_permitted": (ExitCode.NOT_PERMITTED, "the system does not let this user do it"),
    "client_disabled": (ExitCode.NOT_PERMITTED, "the client is disabled"),
    "client_erased": (ExitCode.NOT_PERMITTED, "the client's file was erased"),
    "too_many_in_doubt": (ExitCode.NOT_PERMITTED, "too many deliveries to the client are in doubt: `--revoke`"),
    "identifier_fixed": (ExitCode.NOT_PERMITTED, "an identifier never changes"),
    "run_cancelled": (ExitCode.NOT_PERMITTED, "the run was cancelled"),
    "run_done": (ExitCode.NOT_PERMITTED, "the run is done"),
    "configuration": (ExitCode.CONFIGURATION, "a setting is missing or wrong"),
    "mail_url_missing": (
        ExitCode.CONFIGURATION,
        "`EGEC_MAIL_URL` is not set, although the database has had a mail server",
    ),
    "no_database": (ExitCode.CONFIGURATION, "the database is missing: `egec init`"),
    "database_older": (ExitCode.CONFIGURATION, "the database was made by an older egec: `egec db upgrade`"),
    "database_newer": (ExitCode.CONFIGURATION, "the database was made by a newer egec"),
}
