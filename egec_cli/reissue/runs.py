"""Runs: record, find, resume, retry, pause and cancel them, and what each was started with. `worker` works on them."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

from egec_cli import clock
from egec_cli.audit.events import record_event
from egec_cli.clients import fields
from egec_cli.clients.select import LISTS, SELECTED_LINE, Selected, describe_selectors, require_expected
from egec_cli.context import Context
from egec_cli.credentials import leases, shared_emails
from egec_cli.errors import AlreadyExists, InvalidInput, PermissionDenied, quoted
from egec_cli.reissue import backoff, items
from egec_cli.reissue.backoff import Throttle
from egec_cli.settings.parsing import format_rate, parse_rate
from egec_cli.settings.types import Rate
from egec_cli.store import peewee
from egec_cli.store.models import Client, ItemState, ReissueItem, ReissueRun, RunState
from egec_cli.store.sql import fetch_tuples, lock_rows
from egec_cli.translation import Words, count_words

_NOT_STARTED = Words("Nothing was started. Correct the selectors or --expect.")


class RunOptions(NamedTuple):
    """The settings of one run.

    Attributes:
        rate: the quotas of mails; None for those of EGEC_MAIL_RATE.
        sentence: the organisation's sentence in each mail; empty for the sentence of the templates.
    """

    rate: Rate | None = None
    sentence: str = ""

    @classmethod
    def parse(cls, stored: str) -> Self:
        """Parse the options that a run's row stores."""
        options = json.loads(stored)
        rate = options.get("rate")
        # Versions before 0.1.0 stored a number of mails per second.
        return cls(None if rate is None else parse_rate(str(rate)), options.get("sentence", ""))

    def to_json(self) -> str:
        """Return the options as a run's row stores them."""
        return json.dumps({"rate": None if self.rate is None else format_rate(self.rate), "sentence": self.sentence})


def start_run(
    context: Context,
    name: str,
    selected: Selected,
    *,
    expect: int | None = None,
    rate: Rate | None = None,
    sentence: str = "",
) -> ReissueRun:
    """Record a run and its clients, or return the run of this name that was started with the same selectors.

    Args:
        expect: the number of clients that the run must have: the selected ones, or all of an existing run.
        rate: the quotas of mails; None for those of EGEC_MAIL_RATE.
        sentence: the organisation's sentence in each mail; empty for that of the templates or of the existing run.

    Raises:
        InvalidInput: the name or the sentence is invalid, or the number of clients is not the expected one.
        AlreadyExists: the name was used with different selectors or with a different sentence.
        ConfigError: clients share an e-mail although EGEC_SHARED_EMAIL is no.
    """
    clean_name, options = _clean_name(name), _clean_options(rate, sentence)
    shared_emails.require_allowed(context)
    while True:
        # Lists are hashed and compared outside the transaction: that takes as long as hashing a password.
        run = ReissueRun.get_or_none(ReissueRun.name == clean_name)
        if run is not None:
            _require_same(run, selected, options, expect)
            return run
        selection = _stored_selection(context, selected)
        try:
            with context.database.atomic():
                return _record_run(context, clean_name, selection, selected, expect, options)
        except peewee.IntegrityError:
            # Another process has just taken the name.
            continue


def find_existing_run(
    name: str, selected: Selected, *, expect: int | None = None, rate: Rate | None = None, sentence: str = ""
) -> ReissueRun | None:
    """Return the run that `start_run` would continue, or None if it would record a new one.

    Raises:
        InvalidInput: the name or the sentence is invalid, or the number of clients is not the expected one.
        AlreadyExists: the name was used with different selectors or with a different sentence.
        PermissionDenied: the run was cancelled.
    """
    options = _clean_options(rate, sentence)
    run: ReissueRun | None = ReissueRun.get_or_none(ReissueRun.name == _clean_name(name))
    if run is not None:
        _require_same(run, selected, options, expect)
        require_not_cancelled(run)
    elif expect is not None:
        require_expected(selected.count(), expect, _NOT_STARTED)
    return run


def _require_same(run: ReissueRun, selected: Selected, options: RunOptions, expect: int | None) -> None:
    """Raise an error if a run has other selectors, or not the sentence or number of clients given."""
    if not _is_same_selection(json.loads(run.selection), selected):
        raise AlreadyExists(
            "the run {name} was started with different selectors: {selection}",
            "Use another name, or type `egec reissue resume {quoted}` to continue that run.",
            code="run_exists",
            name=run.name,
            quoted=quoted(run.name),
            selection=describe_selectors(json.loads(run.selection)),
        )
    if options.sentence and options.sentence != RunOptions.parse(run.options).sentence:
        raise AlreadyExists(
            "the run {name} was started with a different sentence",
            "Leave out --sentence to continue that run, or use another name.",
            code="run_exists",
            name=run.name,
        )
    if expect is not None:
        total = ReissueItem.select().where(ReissueItem.run == run).count()
        if total != expect:
            raise InvalidInput(
                "the run {name} already exists with {clients}, not {expect} as expected",
                "Nothing was mailed. Use another name, or --expect {total}.",
                code="unexpected_number",
                name=run.name,
                clients=count_words("0 clients", "1 client", "{number} clients", total),
                total=total,
                expect=expect,
            )


def _clean_name(name: str) -> str:
    clean_name = fields.clean_line(Words("name of the run"), name)
    if not clean_name:
        raise InvalidInput("the name of the run is empty", "Name it, for example spring-2026.")
    return clean_name


def _clean_options(rate: Rate | None, sentence: str) -> RunOptions:
    return RunOptions(rate, fields.clean_sentence(sentence) if sentence else "")


def _record_run(
    context: Context, name: str, selection: str, selected: Selected, expect: int | None, options: RunOptions
) -> ReissueRun:
    run = ReissueRun.create(
        name=name, selection=selection, state=RunState.RUNNING, options=options.to_json(), created_at=context.clock()
    )
    # Read from the run's row, so that PostgreSQL knows the type.
    since = ReissueRun.select(ReissueRun.created_at).where(ReissueRun.id == run.id)
    query = selected.query(
        peewee.SQL(str(run.id)), Client.id, peewee.SQL(f"'{ItemState.WAITING}'"), peewee.SQL("0"), since, SELECTED_LINE
    )
    item = ReissueItem
    columns = [item.run, item.client, item.state, item.attempts, item.not_before, item.line]
    found: int = ReissueItem.insert_from(query, columns).as_rowcount().execute()
    if expect is not None:
        require_expected(found, expect, _NOT_STARTED)
    record_event(
        context, "reissue.start", "recorded", run=run, clients=found, selection=describe_selectors(selected.selectors())
    )
    return run


def _stored_selection(context: Context, selected: Selected) -> str:
    """Return the selectors as a run's row stores them: a list as a salted hash that is as slow as a password's.

    With a plain digest, someone who holds the database could test guessed lists, even after their clients were erased.
    """
    # Imported here: most commands about runs hash nothing.
    from egec_cli.hashing import hash_text

    salted = {
        field: {"bcrypt": hash_text(one.sha256, context.settings.bcrypt_cost), "column": one.column}
        for field, one in selected.lists.items()
    }
    return json.dumps(selected.described | salted, sort_keys=True)


def _is_same_selection(stored: Mapping[str, Any], selected: Selected) -> bool:
    """Return whether a run's row stores these selectors; versions before 0.1.0 stored digests without a salt."""
    from egec_cli.hashing import matches_hash

    return (
        {field: value for field, value in stored.items() if field not in LISTS} == selected.described
        and LISTS & stored.keys() == selected.lists.keys()
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


def find_run(name: str) -> ReissueRun:
    """Return the run of this name.

    Raises:
        InvalidInput: the run does not exist.
    """
    run = ReissueRun.get_or_none(ReissueRun.name == _clean_name(name))
    if run is None:
        raise InvalidInput(
            "unknown run {name!r}", "Type `egec reissue status` to list all runs.", code="unknown_run", name=name
        )
    return run


def resume_run(context: Context, run: ReissueRun, *, rate: Rate | None = None, now: bool = False) -> None:
    """Continue a paused run, from now on with these quotas of mails. A finished run stays finished.

    After a refusal of the mail server, it continues at the time of its next attempt.

    Args:
        now: go on immediately, also with the clients whose mail was deferred.

    Raises:
        PermissionDenied: the run was cancelled.
    """
    with context.database.atomic():
        require_not_cancelled(run)
        was_left = _was_left_by_workers(ReissueRun.get_by_id(run.id), context.clock())
        before = load_orders(context, run).rate
        if rate is not None:
            options = RunOptions.parse(run.options)._replace(rate=rate)
            ReissueRun.update(options=options.to_json()).where(ReissueRun.id == run.id).execute()
        if now:
            items.make_due(run, context.clock())
            ReissueRun.update(paused_until=None).where(ReissueRun.id == run.id).execute()
        after = load_orders(context, run).rate
        if _change_state(run, RunState.PAUSED, RunState.RUNNING) or was_left or after != before:
            record_event(context, "reissue.resume", "resumed", run=run, rate=format_rate(after))


def has_no_worker(context: Context, run: ReissueRun) -> bool:
    """Return whether an unfinished run has no worker, as far as is known.

    If a worker was killed, its own machine knows immediately; others know when its heartbeat is overdue.
    """
    found = ReissueRun.get_by_id(run.id)
    if found.state == RunState.RUNNING and is_worked_on(found.worked_until, context.clock()):
        return items.all_owners_are_gone(run)
    return found.state in {RunState.RUNNING, RunState.PAUSED}


def _was_left_by_workers(run: ReissueRun, moment: datetime) -> bool:
    has_had_workers = run.state == RunState.RUNNING and run.worked_until is not None
    return has_had_workers and not is_worked_on(run.worked_until, moment)


def retry_run(context: Context, run: ReissueRun) -> int:
    """Make the failed clients of a run due again, and return their number.

    Raises:
        PermissionDenied: the run was cancelled.
    """
    with context.database.atomic():
        require_not_cancelled(run)
        number: int = (
            ReissueItem.update(
                state=ItemState.WAITING,
                attempts=0,
                tried_since=None,
                not_before=context.clock(),
                failure=None,
                details=None,
            )
            .where((ReissueItem.run == run) & (ReissueItem.state == ItemState.FAILED))
            .execute()
        )
        if number:
            ReissueRun.update(state=RunState.RUNNING, finished_at=None).where(ReissueRun.id == run.id).execute()
            record_event(context, "reissue.retry", "recorded", run=run, clients=number)
        return number


def cancel_run(context: Context, run: ReissueRun) -> None:
    """End a run for good: its workers stop, and clients not mailed yet keep their password.

    Raises:
        PermissionDenied: the run is finished.
    """
    with context.database.atomic():
        now = context.clock()
        if any(
            _change_state(run, before, RunState.CANCELLED, finished_at=now)
            for before in (RunState.RUNNING, RunState.PAUSED)
        ):
            record_event(context, "reissue.cancel", "cancelled", run=run)
        elif ReissueRun.get_by_id(run.id).state == RunState.DONE:
            raise PermissionDenied(
                "the run {name} is done", "There is nothing left to cancel.", code="run_done", name=run.name
            )


def require_not_cancelled(run: ReissueRun) -> None:
    """Raise an error if the run was cancelled.

    Raises:
        PermissionDenied: it was.
    """
    if ReissueRun.get_by_id(run.id).state == RunState.CANCELLED:
        raise cancelled_error(run)


def cancelled_error(run: ReissueRun) -> PermissionDenied:
    """Return the error about a cancelled run."""
    return PermissionDenied(
        "the run {name} was cancelled", "Start a new run under another name.", code="run_cancelled", name=run.name
    )


def _change_state(run: ReissueRun, before: RunState, after: RunState, **new: datetime) -> bool:
    """Change the state, and other columns with it; return False if the state before was another one."""
    changed: int = (
        ReissueRun.update(state=after, **new).where((ReissueRun.id == run.id) & (ReissueRun.state == before)).execute()
    )
    return bool(changed)


# How long a run counts as being worked on after the last heartbeat of its workers.
HEARTBEAT_LIFETIME = leases.LEASE


def is_worked_on(worked_until: datetime | None, moment: datetime) -> bool:
    """Return whether a run with this `worked_until` has a worker at this moment."""
    return clock.lies_ahead(worked_until, moment, at_most=HEARTBEAT_LIFETIME)


def displayed_state(stored: str, worked_until: datetime | None, moment: datetime) -> RunState:
    """Return the state of a run as people see it: a running one that has no worker is paused."""
    state = RunState(stored)
    is_running = state is RunState.RUNNING
    return RunState.PAUSED if is_running and not is_worked_on(worked_until, moment) else state


class Orders(NamedTuple):
    """What a worker reads at every turn.

    Attributes:
        state: the state of the run.
        rate: the quotas of its mails.
        paused_until: the run waits until then, as the mail server refused all mails.
        pauses: how often it has paused to wait since the last accepted mail.
        throttle: the slower rate that the mail server has forced; None at the normal rate.
    """

    state: RunState
    rate: Rate
    paused_until: datetime | None
    pauses: int
    throttle: Throttle | None


def load_orders(context: Context, run: ReissueRun) -> Orders:
    """Return what a worker has to obey at present: other processes may have changed it."""
    found = ReissueRun.get_by_id(run.id)
    # A time further ahead was stored before the clock was set back.
    is_paused = clock.lies_ahead(found.paused_until, context.clock(), at_most=backoff.longest_pause())
    return Orders(
        state=RunState(found.state),
        rate=run_rate(context, found),
        paused_until=found.paused_until if is_paused else None,
        pauses=found.pauses,
        throttle=Throttle.parse(found.throttle),
    )


def run_rate(context: Context, run: ReissueRun) -> Rate:
    """Return the quotas of a run's mails: its own, or those of EGEC_MAIL_RATE."""
    rate = RunOptions.parse(run.options).rate
    return context.settings.mail_rate if rate is None else rate


def change_throttle(run: ReissueRun, change: Callable[[Throttle | None], Throttle | None]) -> Throttle | None:
    """Change the slower rate of a run, in one transaction with other workers, and return it."""
    query = lock_rows(ReissueRun.select(ReissueRun.throttle).where(ReissueRun.id == run.id))
    (stored,) = next(fetch_tuples(query))
    new = change(Throttle.parse(stored))
    ReissueRun.update(throttle=None if new is None else new.to_json()).where(ReissueRun.id == run.id).execute()
    return new


def mark_alive(context: Context, run: ReissueRun, *, alive: bool = True) -> None:
    """Record that a worker is working on the run, or that one has left."""
    # One that has left does not count at the present moment either.
    until = context.clock() + (HEARTBEAT_LIFETIME if alive else timedelta(milliseconds=-1))
    ReissueRun.update(worked_until=until).where(ReissueRun.id == run.id).execute()


def pause_run(context: Context, run: ReissueRun, reason: str, *, reply: str = "", waits: bool = False) -> None:
    """Stop all workers of a run until it is resumed.

    Args:
        reason: an error code.
        reply: the words of the mail server.
        waits: whether waiting may help; each pause without an accepted mail since the one before is longer.
    """
    if _change_state(run, RunState.RUNNING, RunState.PAUSED):
        (pauses,) = next(fetch_tuples(ReissueRun.select(ReissueRun.pauses).where(ReissueRun.id == run.id)))
        until = backoff.next_try_of_run(pauses + 1, context.clock()) if waits else None
        # After a pause, the first mails show again at which rate the server accepts them.
        new = {"pauses": pauses + waits, "paused_until": until, "throttle": None}
        ReissueRun.update(**new).where(ReissueRun.id == run.id).execute()
        record_event(context, "reissue.pause", reason, run=run, reply=reply)


def forget_pauses(run: ReissueRun) -> None:
    """Note that the mail server accepts mail again, unless another worker has just paused the run."""
    ReissueRun.update(pauses=0, paused_until=None).where(
        (ReissueRun.id == run.id) & (ReissueRun.state == RunState.RUNNING) & (ReissueRun.pauses > 0)
    ).execute()


def finish_if_done(context: Context, run: ReissueRun) -> bool:
    """Mark a run as done if all its items are finished. Return whether they are."""
    if items.has_items_left(run):
        return False
    if _change_state(run, RunState.RUNNING, RunState.DONE, finished_at=context.clock()):
        record_event(context, "reissue.finish", "done", run=run)
    return True
