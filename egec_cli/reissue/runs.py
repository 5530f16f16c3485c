"""Re-issue runs: recorded under a name, found, looked at, cancelled. `reissue_worker` works through them."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

from egec_cli import clock
from egec_cli.audit.record import record_event
from egec_cli.clients import fields
from egec_cli.clients.select import SELECTED_LINE, Selected
from egec_cli.context import Context
from egec_cli.credentials import leases
from egec_cli.errors import AlreadyExists, InvalidInput, PermissionDenied, quoted
from egec_cli.reissue import items as reissue_items
from egec_cli.store import peewee
from egec_cli.store.models import Client, ItemState, ReissueItem, ReissueRun, RunState
from egec_cli.store.sql import fetch_tuples
from egec_cli.translation import Words


class RunRecord(NamedTuple):
    """A run as it is shown: how many clients it has, and what became of them. Times are RFC 3339 in UTC.

    Attributes:
        name: by which the same command is known again.
        state: how it stands; `paused` also where nobody works on it any more, as after a crash.
        total: how many clients it has.
        accepted: to how many of them the mail server has taken a mail.
        failed: how many of them could not be mailed.
        remaining: how many of them are still to be mailed.
        created_at: when it was begun.
        finished_at: when it was done.
    """

    name: str
    state: RunState
    total: int
    accepted: int
    failed: int
    remaining: int
    created_at: str
    finished_at: str | None


class RunOptions(NamedTuple):
    """What a run has of its own beside whom it mails.

    Attributes:
        rate: how many mails a second may leave at most; None where that is for EGEC_MAIL_RATE to say.
        sentence: of the organisation, in each mail; empty where that is for the templates to say.
    """

    rate: int | None = None
    sentence: str = ""

    @classmethod
    def of(cls, stored: str) -> Self:
        """Return the options that a run's row holds."""
        return cls(**json.loads(stored))

    def stored(self) -> str:
        """Return them as a run's row holds them."""
        return json.dumps(self._asdict())


def start_run(
    context: Context,
    name: str,
    selected: Selected,
    *,
    expect: int | None = None,
    rate: int | None = None,
    sentence: str = "",
) -> ReissueRun:
    """Record a run and its clients, or find the one that was begun by the same words.

    Args:
        context: where.
        name: the run's name, by which the same command is known again.
        selected: whom to mail.
        expect: the number of clients that the run must have: of those selected, or of an existing run in total.
        rate: how many mails a second may leave at most, where that is not for EGEC_MAIL_RATE to say.
        sentence: of the organisation, for each mail; empty for the one of the templates, or that the run has already.

    Raises:
        InvalidInput: the name or the sentence is none, or there are not as many clients as expected.
        AlreadyExists: the name was used for other selectors, or with another sentence.
    """
    checked_name = _checked(name)
    options = RunOptions(rate, fields.clean_sentence(sentence) if sentence else "")
    while True:
        # Lists are hashed and compared outside the transaction, for that takes as long as a password.
        run = ReissueRun.get_or_none(ReissueRun.name == checked_name)
        if run is not None:
            _require_same(run, selected, options, expect)
            return run
        selection = _stored_selection(context, selected)
        try:
            with context.database.atomic():
                return _record(context, checked_name, selection, selected, expect, options)
        except peewee.IntegrityError:
            # Another process has just taken the name.
            continue


def existing(
    name: str, selected: Selected, *, expect: int | None = None, rate: int | None = None, sentence: str = ""
) -> ReissueRun | None:
    """Return the run that `begin` would continue, or None if it would record a new one.

    Raises:
        InvalidInput: the name or the sentence is not valid, or the number of clients is not the expected one.
        AlreadyExists: the name was used with other selectors or with another sentence.
        PermissionDenied: the run was cancelled.
    """
    options = RunOptions(rate, fields.clean_sentence(sentence) if sentence else "")
    run: ReissueRun | None = ReissueRun.get_or_none(ReissueRun.name == _checked(name))
    if run is not None:
        _require_same(run, selected, options, expect)
        _require_not_cancelled(run)
    elif expect is not None:
        _require_expected(selected.count(), expect)
    return run


def _require_same(run: ReissueRun, selected: Selected, options: RunOptions, expect: int | None) -> None:
    """Raise an error unless a run has these selectors, this sentence and this number of clients, if they are given."""
    if not _is_same_selection(json.loads(run.selection), selected):
        raise AlreadyExists(
            "the run {name} was started with different selectors: {selection}",
            "Use another name, or type `egec reissue resume {quoted}` to go on with that run.",
            code="run_exists",
            name=run.name,
            quoted=quoted(run.name),
            selection=_as_options(json.loads(run.selection)),
        )
    if options.sentence and options.sentence != RunOptions.of(run.options).sentence:
        raise AlreadyExists(
            "the run {name} was started with a different sentence",
            "Leave --sentence out to go on with that run, or use another name.",
            code="run_exists",
            name=run.name,
        )
    if expect is not None:
        total = ReissueItem.select().where(ReissueItem.run == run).count()
        if total != expect:
            raise InvalidInput(
                "the run {name} already exists with {total} clients, not {expect} as expected",
                "Nothing was mailed. Use another name, or --expect {total}.",
                code="unexpected_number",
                name=run.name,
                total=total,
                expect=expect,
            )


def _require_expected(found: int, expect: int) -> None:
    if found != expect:
        raise InvalidInput(
            "{found} clients are selected, not {expect} as expected",
            "Nothing was started. Correct the selectors, or expect another number.",
            code="unexpected_number",
            found=found,
            expect=expect,
        )


def _stored_selection(context: Context, selected: Selected) -> str:
    """Return the selectors as a run's row holds them: of each list, a salted hash that is as slow as a password's.

    A plain digest would tell whoever holds the database whether a list that they guess is the one, even when its
    clients have been erased.
    """
    # Imported here: most commands about runs hash nothing.
    from egec_cli.hashing import hash_text

    salted = {
        field: {"bcrypt": hash_text(one.sha256, context.settings.bcrypt_cost), "column": one.column}
        for field, one in selected.lists.items()
    }
    return json.dumps(selected.described | salted, sort_keys=True)


def _is_same_selection(stored: Mapping[str, Any], selected: Selected) -> bool:
    """Tell whether a run's row holds these selectors; versions before 0.1.0 stored digests without a salt."""
    from egec_cli.hashing import matches_hash

    others = {field: value for field, value in stored.items() if field not in _LISTS}
    return (
        others == selected.described
        and _LISTS & stored.keys() == selected.lists.keys()
        and all(
            stored[field]["column"] == one.column
            and (
                matches_hash(one.sha256, stored[field]["bcrypt"])
                if "bcrypt" in stored[field]
                else stored[field]["sha256"] == one.sha256
            )
            for field, one in selected.lists.items()
        )
    )


_LISTS = {"listed", "excluded"}


def _checked(name: str) -> str:
    checked_name = fields.clean_line(Words("name of the run"), name)
    if not checked_name:
        raise InvalidInput("the run has no name", "Name it, such as spring-2026.")
    return checked_name


def _record(
    context: Context, name: str, selection: str, selected: Selected, expect: int | None, options: RunOptions
) -> ReissueRun:
    run = ReissueRun.create(
        name=name,
        selection=selection,
        state=RunState.RUNNING,
        options=options.stored(),
        created_at=context.clock(),
    )
    # What is the same for all is read from the run's row, which gives it its type.
    since = ReissueRun.select(ReissueRun.created_at).where(ReissueRun.id == run.id)
    query = selected.query(
        peewee.SQL(str(run.id)), Client.id, peewee.SQL(f"'{ItemState.WAITING}'"), peewee.SQL("0"), since, SELECTED_LINE
    )
    columns = [
        ReissueItem.run,
        ReissueItem.client,
        ReissueItem.state,
        ReissueItem.attempts,
        ReissueItem.not_before,
        ReissueItem.line,
    ]
    found: int = ReissueItem.insert_from(query, columns).as_rowcount().execute()
    if expect is not None:
        _require_expected(found, expect)
    record_event(context, "reissue.start", "recorded", run=run, clients=found)
    return run


def _as_options(selection: Mapping[str, Any]) -> str:
    """Return the selectors of a run as they are typed; the names of files are not known."""
    typed = []
    for name, value in selection.items():
        option = _OPTIONS.get(name) or f"--{name.replace('_', '-')}"
        if name in _LISTS:
            typed.append(f"{option} FILE")
        else:
            typed.append(option if value is True else f"{option} {quoted(value)}")
    # It is one option for both files.
    columns = {value["column"] for name, value in selection.items() if name in _LISTS and value["column"]}
    return " ".join([*typed, *(f"--column {quoted(column)}" for column in columns)])


# The options of selectors that have another name than the selector.
_OPTIONS = {"everyone": "--all", "listed": "--from", "excluded": "--exclude"}


def find_run(name: str) -> ReissueRun:
    """Return the run of this name.

    Raises:
        InvalidInput: there is none.
    """
    run = ReissueRun.get_or_none(ReissueRun.name == _checked(name))
    if run is None:
        raise InvalidInput(
            "there is no run {name!r}", "Type `egec reissue status` to see all.", code="no_such_run", name=name
        )
    return run


def load_run(context: Context, run: ReissueRun) -> RunRecord:
    """Return the run as it stands at this moment."""
    return next(_records(context, ReissueRun.id == run.id))


def list_runs(context: Context) -> Iterator[RunRecord]:
    """Return all runs, in the order in which they were begun."""
    return _records(context, None)


def _records(context: Context, condition: Any) -> Iterator[RunRecord]:
    numbers = {
        state: peewee.fn.COUNT(peewee.Case(None, [(ReissueItem.state == state, 1)]))
        for state in (ItemState.ACCEPTED, ItemState.FAILED)
    }
    query = (
        ReissueRun.select(ReissueRun, peewee.fn.COUNT(ReissueItem.id), *numbers.values())
        .join(ReissueItem, peewee.JOIN.LEFT_OUTER)
        .where(condition if condition is not None else peewee.SQL("1 = 1"))
        .group_by(ReissueRun.id)
        .order_by(ReissueRun.id)
    )
    columns = [field.name for field in ReissueRun._meta.sorted_fields]
    for row in fetch_tuples(query):
        run, (total, accepted, failed) = dict(zip(columns, row[: len(columns)], strict=True)), row[len(columns) :]
        yield RunRecord(
            name=run["name"],
            state=_state(run, context.clock()),
            total=total,
            accepted=accepted,
            failed=failed,
            remaining=total - accepted - failed,
            created_at=clock.to_rfc3339(run["created_at"]),
            finished_at=clock.to_rfc3339_or_none(run["finished_at"]),
        )


def _state(run: dict[str, Any], moment: datetime) -> RunState:
    state = RunState(run["state"])
    is_left_alone = state is RunState.RUNNING and not is_worked_on(run["worked_until"], moment)
    return RunState.PAUSED if is_left_alone else state


def resume_run(context: Context, run: ReissueRun, *, rate: int | None = None) -> None:
    """Let a run go on that was paused; one that is done stays so.

    Args:
        context: where.
        run: the run.
        rate: how many mails a second may leave at most from now on.

    Raises:
        PermissionDenied: it was cancelled.
    """
    with context.database.atomic():
        _require_not_cancelled(run)
        is_news = _was_left(ReissueRun.get_by_id(run.id), context.clock())
        before = load_standing(context, run).rate
        if rate is not None:
            options = RunOptions.of(run.options)._replace(rate=rate)
            ReissueRun.update(options=options.stored()).where(ReissueRun.id == run.id).execute()
        after = load_standing(context, run).rate
        if _change(run, RunState.PAUSED, RunState.RUNNING) or is_news or after != before:
            record_event(context, "reissue.resume", "resumed", run=run, rate=after)


def is_left_alone(context: Context, run: ReissueRun) -> bool:
    """Tell whether a run is not at its end and nobody works on it, as far as is known.

    A worker of this machine that was killed is known at once; others have until their heartbeat is overdue.
    """
    found = ReissueRun.get_by_id(run.id)
    if found.state == RunState.RUNNING and is_worked_on(found.worked_until, context.clock()):
        return reissue_items.holders_are_gone(run)
    return found.state in {RunState.RUNNING, RunState.PAUSED}


def _was_left(run: ReissueRun, moment: datetime) -> bool:
    """Tell whether a run is not done and its workers have left, in order or by a crash."""
    has_had_workers = run.state == RunState.RUNNING and run.worked_until is not None
    return has_had_workers and not is_worked_on(run.worked_until, moment)


def retry_run(context: Context, run: ReissueRun) -> int:
    """Let a run try again those that have failed, and return how many they are.

    Raises:
        PermissionDenied: it was cancelled.
    """
    with context.database.atomic():
        _require_not_cancelled(run)
        number: int = (
            ReissueItem.update(
                state=ItemState.WAITING, attempts=0, not_before=context.clock(), failure=None, details=None
            )
            .where((ReissueItem.run == run) & (ReissueItem.state == ItemState.FAILED))
            .execute()
        )
        if number:
            ReissueRun.update(state=RunState.RUNNING, finished_at=None).where(ReissueRun.id == run.id).execute()
            record_event(context, "reissue.retry", "recorded", run=run, clients=number)
        return number


def cancel_run(context: Context, run: ReissueRun) -> None:
    """End a run for good: who works on it stops, and whom it has not mailed keeps the former password.

    Raises:
        PermissionDenied: it is done.
    """
    with context.database.atomic():
        if _change(run, RunState.RUNNING, RunState.CANCELLED) or _change(run, RunState.PAUSED, RunState.CANCELLED):
            ReissueRun.update(finished_at=context.clock()).where(ReissueRun.id == run.id).execute()
            record_event(context, "reissue.cancel", "cancelled", run=run)
        elif ReissueRun.get_by_id(run.id).state == RunState.DONE:
            raise PermissionDenied(
                "the run {name} is done", "There is nothing left to cancel.", code="run_done", name=run.name
            )


def _require_not_cancelled(run: ReissueRun) -> None:
    if ReissueRun.get_by_id(run.id).state == RunState.CANCELLED:
        raise PermissionDenied(
            "the run {name} was cancelled", "Start another one under another name.", code="run_cancelled", name=run.name
        )


def _change(run: ReissueRun, before: RunState, after: RunState) -> bool:
    changed: int = (
        ReissueRun.update(state=after).where((ReissueRun.id == run.id) & (ReissueRun.state == before)).execute()
    )
    return bool(changed)


# How long a run counts as being worked on after the last heartbeat of its workers.
HEARD_OF_FOR = leases.LEASE


def is_worked_on(worked_until: datetime | None, moment: datetime) -> bool:
    """Tell whether a run with this `worked_until` has a worker at this moment."""
    return clock.lies_ahead(worked_until, moment, at_most=HEARD_OF_FOR)


class Standing(NamedTuple):
    """What a worker is to know of its run from turn to turn: its state, and how many mails may leave in a second."""

    state: RunState
    rate: int


def load_standing(context: Context, run: ReissueRun) -> Standing:
    """Return how the run stands, as others may have changed it; a rate of 0 is no limit."""
    state, options = next(
        fetch_tuples(ReissueRun.select(ReissueRun.state, ReissueRun.options).where(ReissueRun.id == run.id))
    )
    rate = RunOptions.of(options).rate
    return Standing(RunState(state), context.settings.mail_rate if rate is None else rate)


def mark_alive(context: Context, run: ReissueRun, *, alive: bool = True) -> None:
    """Record that a worker is working on the run, or that one has left."""
    until = context.clock() + (HEARD_OF_FOR if alive else timedelta())
    ReissueRun.update(worked_until=until).where(ReissueRun.id == run.id).execute()


def pause_run(context: Context, run: ReissueRun, reason: str) -> None:
    """Stop all who work on the run until it is resumed. `reason` is a stable word."""
    if _change(run, RunState.RUNNING, RunState.PAUSED):
        record_event(context, "reissue.pause", reason, run=run)


def finish_if_done(context: Context, run: ReissueRun) -> bool:
    """Mark the run as done where every client of it was dealt with. Return whether that is so."""
    if reissue_items.has_items_left(run):
        return False
    if _change(run, RunState.RUNNING, RunState.DONE):
        ReissueRun.update(finished_at=context.clock()).where(ReissueRun.id == run.id).execute()
        record_event(context, "reissue.finish", "done", run=run)
    return True
