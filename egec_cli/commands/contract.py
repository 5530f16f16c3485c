"""What scripts may rely on: the output of each command in machine formats, its exit codes, and the error codes.

The result classes define the keys, their types and, in docstrings, their meanings. Only the completion of --fields and
the generator of the reference load this module.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from egec_cli.audit import events
from egec_cli.audit.events import EventRecord
from egec_cli.clients.bulk import PlannedChange
from egec_cli.clients.change import ChangeRecord
from egec_cli.clients.lists import ExportRecord, ExportRecordWithHash
from egec_cli.clients.records import ClientRecord
from egec_cli.commands.activate import ActivationRecord, FirstMail, ShownPassword
from egec_cli.commands.activate_request import RequestResult
from egec_cli.commands.client_show import ClientHistory
from egec_cli.commands.init import InitResult
from egec_cli.commands.password import GeneratedPassword, RatedPassword
from egec_cli.credentials.bounces import BounceRecord
from egec_cli.credentials.issue import IssueResult
from egec_cli.doctor import database, mail
from egec_cli.doctor.findings import Finding
from egec_cli.errors import ExitCode
from egec_cli.imports import run
from egec_cli.logins import batch, explain, verify
from egec_cli.logins.limits import LimitRecord
from egec_cli.reissue.items import ItemRecord
from egec_cli.reissue.preview import PlannedRecord
from egec_cli.reissue.report import RunRecord
from egec_cli.stats.counts import StatisticRecord


class Result(NamedTuple):
    """The output of a command in machine formats.

    Attributes:
        parts: the classes whose fields it has, in order.
        when: the options for this output, as typed; empty for the output without options.
        many: a list in json: one for each client or row.
    """

    parts: tuple[type[Any], ...]
    when: str = ""
    many: bool = False

    @property
    def keys(self) -> list[str]:
        """The names of the fields, in order."""
        return [name for part in self.parts for name in part._fields]


class Contract(NamedTuple):
    """What a command promises.

    Attributes:
        results: its outputs; empty if it has no machine format.
        exits: its exit codes and their meanings, beyond EVERY_COMMAND and READING.
        reads: the keys of READING that apply to it.
    """

    results: tuple[Result, ...]
    exits: Mapping[int, str]
    reads: tuple[str, ...] = ("settings", "database")


# The exit codes of every command, and of every command that reads the settings or the database.
EVERY_COMMAND = (
    ExitCode.OK,
    ExitCode.USAGE,
    ExitCode.INTERNAL_ERROR,
    ExitCode.FILE_SYSTEM,
    ExitCode.HUNG_UP,
    ExitCode.INTERRUPTED,
    ExitCode.BROKEN_PIPE,
    ExitCode.TERMINATED,
)
READING = {
    "settings": {ExitCode.CONFIGURATION: "a setting is wrong"},
    "database": {
        ExitCode.TEMPORARY_FAILURE: "the database is busy or unavailable",
        ExitCode.NOT_PERMITTED: "this user may not use the database",
        ExitCode.CONFIGURATION: "the database is missing, or has another schema version",
    },
}

_Exits = dict[int, str]

_SETTINGS_ALONE = ("settings",)
_NO_CLIENT: _Exits = {ExitCode.UNKNOWN_CLIENT: "unknown client, or several clients match"}
_DECLINED: _Exits = {ExitCode.REFUSED: "the operator did not confirm"}
_MAILING: _Exits = {
    ExitCode.INVALID_INPUT: "the address is refused",
    ExitCode.TEMPORARY_FAILURE: "the mail server is unavailable, or its answer was lost",
}
_RUN: _Exits = {
    ExitCode.PARTLY_DONE: "some clients could not be mailed, or the list names unknown clients",
    ExitCode.TEMPORARY_FAILURE: "the mail server is unavailable or refuses all mails, deferred mail is due later, or"
    " another worker paused the run",
}
_LISTING: _Exits = {ExitCode.PARTLY_DONE: "a list names unknown clients; each is reported"}
_CHANGED = (
    Result((ChangeRecord,)),
    Result((ChangeRecord,), "--from or another selector", many=True),
    Result((PlannedChange,), "--dry-run", many=True),
)
_CHANGING: _Exits = {
    ExitCode.PARTLY_DONE: "some lines or clients failed; each is reported",
    ExitCode.INVALID_INPUT: "the list is invalid, or --expect does not match",
    **_NO_CLIENT,
    **_DECLINED,
}
_ERASED: _Exits = {ExitCode.NOT_PERMITTED: "the client was erased"}

CONTRACT: Mapping[str, Contract] = {
    "init": Contract((Result((InitResult,)),), {}),
    "client create": Contract(
        (Result((ClientRecord,)), Result((ClientRecord, FirstMail), "--activate")),
        {
            ExitCode.INVALID_INPUT: "a field is invalid; or, with --activate, the address is refused",
            ExitCode.UNKNOWN_CLIENT: "with --if-missing: several clients have the e-mail",
            ExitCode.ALREADY_EXISTS: "the e-mail, the reference or the identifier already exists",
            ExitCode.TEMPORARY_FAILURE: "with --activate: the client was created, but the mail server is unavailable"
            " or its answer was lost",
        },
    ),
    "client import": Contract(
        (Result((run.ImportResult,)),),
        {
            ExitCode.PARTLY_DONE: "rows were rejected; each is reported",
            ExitCode.INVALID_INPUT: "the table is invalid; with --strict, a row was rejected",
        },
    ),
    "client show": Contract((Result((ClientRecord, LimitRecord, ClientHistory)),), _NO_CLIENT),
    "client list": Contract(
        (Result((ClientRecord,), many=True),),
        _LISTING
        | {
            ExitCode.INVALID_INPUT: "a list or a date is invalid",
            ExitCode.UNKNOWN_CLIENT: "the client of --after is unknown",
        },
    ),
    "client export": Contract(
        (Result((ExportRecord,), many=True), Result((ExportRecordWithHash,), "--with-hashes", many=True)),
        _LISTING
        | {ExitCode.INVALID_INPUT: "a list or a date is invalid", ExitCode.ALREADY_EXISTS: "the file already exists"},
    ),
    "client update": Contract(
        (Result((ClientRecord,)),),
        {
            ExitCode.PARTLY_DONE: "the client was changed, but the notice to the previous address failed",
            ExitCode.INVALID_INPUT: "a field is invalid",
            **_NO_CLIENT,
            **_DECLINED,
            ExitCode.ALREADY_EXISTS: "the e-mail or the reference already exists",
            ExitCode.NOT_PERMITTED: "the client was erased, or --identifier was given",
        },
    ),
    "client disable": Contract(
        _CHANGED,
        _CHANGING
        | _ERASED
        | {
            ExitCode.TEMPORARY_FAILURE: "with --notify: the mail server is unavailable or a quota is used up",
        },
    ),
    "client enable": Contract(_CHANGED, _CHANGING | _ERASED),
    "client unblock": Contract(_CHANGED, _CHANGING | _ERASED),
    "client erase": Contract(
        _CHANGED,
        _CHANGING
        | {
            ExitCode.TEMPORARY_FAILURE: "a mail to the client is in progress, or copies of erased data remain on disk",
        },
    ),
    "activate": Contract(
        (
            Result((IssueResult,)),
            Result((IssueResult, ShownPassword), "--no-mail --show-password"),
            Result((RequestResult,), "--stdin"),
            Result((ActivationRecord,), "EMAIL, if several clients share it", many=True),
        ),
        _MAILING
        | _NO_CLIENT
        | _DECLINED
        | {
            ExitCode.PARTLY_DONE: "several clients share the e-mail, and some could not be mailed",
            ExitCode.NOT_PERMITTED: "the client is disabled, inactive or erased, or too many deliveries are in doubt",
        },
    ),
    "verify": Contract(
        (
            Result((verify.Verdict,)),
            Result((explain.Explanation,), "--explain"),
            Result((batch.LineVerdict,), "--batch", many=True),
        ),
        {
            ExitCode.REFUSED: "the login is refused",
            ExitCode.PARTLY_DONE: "with --batch: some logins are refused",
            ExitCode.INVALID_INPUT: "no login was given",
            ExitCode.UNKNOWN_CLIENT: "several clients match",
            ExitCode.TEMPORARY_FAILURE: "too many logins to the account are in progress: this one was not checked",
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
            ExitCode.REFUSED: "the operator did not confirm",
            ExitCode.INVALID_INPUT: "the name, the sentence or a list is invalid, or --expect does not match",
            ExitCode.ALREADY_EXISTS: "the run exists with different selectors or another sentence",
            ExitCode.NOT_PERMITTED: "the run was cancelled",
        },
    ),
    "reissue resume": Contract(
        (
            Result((RunRecord,)),
            Result((ItemRecord,), "--format jsonl, csv, ids", many=True),
            Result((PlannedRecord,), "--dry-run", many=True),
        ),
        _RUN | {ExitCode.INVALID_INPUT: "unknown run", ExitCode.NOT_PERMITTED: "the run was cancelled"},
    ),
    "reissue status": Contract(
        (
            Result((RunRecord,)),
            Result((RunRecord,), "without NAME", many=True),
            Result((ItemRecord,), "--failed, --items", many=True),
        ),
        {ExitCode.INVALID_INPUT: "unknown run"},
    ),
    "reissue retry": Contract(
        (
            Result((RunRecord,)),
            Result((ItemRecord,), "--format jsonl, csv, ids", many=True),
            Result((PlannedRecord,), "--dry-run", many=True),
        ),
        _RUN | {ExitCode.INVALID_INPUT: "unknown run", ExitCode.NOT_PERMITTED: "the run was cancelled"},
    ),
    "reissue cancel": Contract(
        (Result((RunRecord,)),),
        {**_DECLINED, ExitCode.INVALID_INPUT: "unknown run", ExitCode.NOT_PERMITTED: "the run is done"},
    ),
    "mail check": Contract(
        (Result((Finding,), many=True),),
        {
            ExitCode.PARTLY_DONE: "there are warnings",
            ExitCode.TEMPORARY_FAILURE: "only the mail server is unavailable",
            ExitCode.CONFIGURATION: "there are errors to fix",
        },
        _SETTINGS_ALONE,
    ),
    "mail preview": Contract(
        (),
        {
            ExitCode.INVALID_INPUT: "the language is invalid",
            ExitCode.UNKNOWN_CLIENT: "unknown client",
            ExitCode.ALREADY_EXISTS: "the file already exists",
        },
    ),
    "mail test": Contract((Result((mail.TestMailResult,)),), _MAILING, _SETTINGS_ALONE),
    "mail bounces": Contract(
        (Result((BounceRecord,), many=True),),
        {
            ExitCode.PARTLY_DONE: "some messages are not reports on mail of this installation",
            ExitCode.INVALID_INPUT: "no message found",
        },
    ),
    "password": Contract(
        (Result((GeneratedPassword,), many=True), Result((RatedPassword,), "--entropy", many=True)), {}, _SETTINGS_ALONE
    ),
    "audit list": Contract(
        (Result((EventRecord,), many=True),),
        {ExitCode.INVALID_INPUT: "unknown run", ExitCode.UNKNOWN_CLIENT: "the client of --client is unknown"},
    ),
    "audit prune": Contract((Result((events.PruneResult,)),), {ExitCode.REFUSED: "the operator did not confirm"}),
    "stats": Contract((Result((StatisticRecord,), many=True),), {}),
    "db status": Contract((Result((database.SchemaStatus,)),), {}),
    "db upgrade": Contract(
        (Result((database.UpgradeResult,)),),
        {ExitCode.TEMPORARY_FAILURE: "a worker is active on a run, or the database is busy"},
    ),
    "db backup": Contract((Result((database.BackupResult,)),), {ExitCode.ALREADY_EXISTS: "the file already exists"}),
    "db restore": Contract(
        (Result((database.RestoreResult,)),),
        _DECLINED
        | {
            ExitCode.INVALID_INPUT: "the file is not a backup, or it is the database itself",
            ExitCode.TEMPORARY_FAILURE: "another egec uses the database",
        },
    ),
    "doctor": Contract(
        (Result((Finding,), many=True),),
        {
            ExitCode.PARTLY_DONE: "there are warnings",
            ExitCode.TEMPORARY_FAILURE: "only the mail server or the database is unavailable",
            ExitCode.CONFIGURATION: "there are errors to fix",
        },
    ),
    "completion": Contract((), {}, ()),
    "help": Contract((), {}, ()),
}

# Each `code` of an error, with its exit code and its meaning.
ERRORS: Mapping[str, tuple[ExitCode, str]] = {
    "usage": (ExitCode.USAGE, "the command line is wrong"),
    "invalid_input": (ExitCode.INVALID_INPUT, "a value is invalid"),
    "invalid_origin": (ExitCode.INVALID_INPUT, "the origin of a request or a login is not an IP address"),
    "rejected": (ExitCode.INVALID_INPUT, "a row was rejected, so `--strict` imported none"),
    "unexpected_number": (ExitCode.INVALID_INPUT, "the number of clients differs from `--expect`"),
    "unknown_run": (ExitCode.INVALID_INPUT, "unknown run"),
    "mail_refused": (ExitCode.INVALID_INPUT, "the mail server refuses this address; correct it"),
    "smtputf8_not_offered": (ExitCode.INVALID_INPUT, "the mail server supports only ASCII addresses"),
    "unknown_client": (ExitCode.UNKNOWN_CLIENT, "unknown client"),
    "invalid_request": (ExitCode.UNKNOWN_CLIENT, "the request of a portal is not an e-mail address"),
    "ambiguous_client": (ExitCode.UNKNOWN_CLIENT, "several clients match; name one by its identifier"),
    "internal_error": (ExitCode.INTERNAL_ERROR, "internal error"),
    "already_exists": (ExitCode.ALREADY_EXISTS, "it already exists"),
    "identifier_reserved": (ExitCode.ALREADY_EXISTS, "the identifier is reserved for an erased client"),
    "run_exists": (ExitCode.ALREADY_EXISTS, "the run exists with different selectors or another sentence"),
    "file_system": (ExitCode.FILE_SYSTEM, "a file could not be read or written, or its file system is read-only"),
    "temporary_failure": (ExitCode.TEMPORARY_FAILURE, "temporary failure; try again later"),
    "database_busy": (ExitCode.TEMPORARY_FAILURE, "the database is busy or unavailable"),
    "mail_quota_reached": (
        ExitCode.TEMPORARY_FAILURE,
        "the mail quotas allow no mail for some time",
    ),
    "client_busy": (ExitCode.TEMPORARY_FAILURE, "a mail to the client is in progress"),
    "account_busy": (
        ExitCode.TEMPORARY_FAILURE,
        "too many logins to the account are in progress: this one was not checked and does not count as a failure",
    ),
    "copies_remain": (
        ExitCode.TEMPORARY_FAILURE,
        "the data was erased, but another process keeps copies of it in the database's files",
    ),
    "in_doubt": (ExitCode.TEMPORARY_FAILURE, "the mail server's answer was lost; the mail may have been sent"),
    "mail_deferred": (ExitCode.TEMPORARY_FAILURE, "the mail server deferred the mail"),
    "mail_throttled": (ExitCode.TEMPORARY_FAILURE, "the mail server accepts no more mail for now"),
    "too_many_connections": (ExitCode.TEMPORARY_FAILURE, "the mail server accepts no more connections for now"),
    "mail_server_unavailable": (ExitCode.TEMPORARY_FAILURE, "the mail server is unavailable"),
    "mail_server_refuses": (ExitCode.TEMPORARY_FAILURE, "the mail server refuses all mails; a run is paused"),
    "login_secret_unavailable": (
        ExitCode.TEMPORARY_FAILURE,
        "the program that prints the password or token for the mail server failed",
    ),
    "run_in_progress": (ExitCode.TEMPORARY_FAILURE, "a worker is active on a run"),
    "run_paused": (ExitCode.TEMPORARY_FAILURE, "another worker paused the run and reports the reason"),
    "run_deferred": (ExitCode.TEMPORARY_FAILURE, "the rest of the run is due later; continue it then"),
    "not_permitted": (ExitCode.NOT_PERMITTED, "this user lacks the permission"),
    "mail_blocked": (ExitCode.NOT_PERMITTED, "the mail server blocks our server, address or domain"),
    "client_disabled": (ExitCode.NOT_PERMITTED, "the client is disabled"),
    "client_erased": (ExitCode.NOT_PERMITTED, "the client was erased"),
    "client_inactive": (ExitCode.NOT_PERMITTED, "the day is outside the validity dates of the client"),
    "too_many_in_doubt": (ExitCode.NOT_PERMITTED, "too many deliveries to the client are in doubt; use `--revoke`"),
    "identifier_immutable": (ExitCode.NOT_PERMITTED, "an identifier never changes"),
    "run_cancelled": (ExitCode.NOT_PERMITTED, "the run was cancelled"),
    "run_done": (ExitCode.NOT_PERMITTED, "the run is done"),
    "configuration": (ExitCode.CONFIGURATION, "a setting is missing or wrong"),
    "mail_url_missing": (
        ExitCode.CONFIGURATION,
        "`EGEC_MAIL_URL` is not set, although this database used a mail server before",
    ),
    "email_shared": (
        ExitCode.CONFIGURATION,
        "clients share an e-mail, which `EGEC_SHARED_EMAIL=no` forbids; `egec doctor` lists them",
    ),
    "database_missing": (ExitCode.CONFIGURATION, "the database is missing; type `egec init`"),
    "database_older": (ExitCode.CONFIGURATION, "an older egec made the database; type `egec db upgrade`"),
    "database_newer": (ExitCode.CONFIGURATION, "a newer egec made the database"),
}
