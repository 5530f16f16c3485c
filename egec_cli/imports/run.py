"""Import the rows of a table as client records. A thread prepares rows while the database writes earlier ones."""

import os
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain, islice
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import NamedTuple, TypeVar

from egec_cli import clock
from egec_cli.audit import events as audit
from egec_cli.context import Context
from egec_cli.credentials import shared_emails, states
from egec_cli.errors import InvalidInput, TemporaryFailure
from egec_cli.imports.columns import Row
from egec_cli.imports.formats import OnConflict
from egec_cli.imports.merge import Batch, ClientChange, RowsTaken
from egec_cli.imports.rows import InvalidRow, RowChecker, ValidRow
from egec_cli.imports.tables import Table
from egec_cli.store import peewee
from egec_cli.store.models import Client, CredentialState
from egec_cli.store.sql import execute_many, fetch_tuples, in_list, insert_many, try_insert_all
from egec_cli.translation import count_words

# A commit writes most pages of the indexes, so one commit is shared by several batches.
_ROWS_AT_A_TIME = 500
_BATCHES_IN_A_TRANSACTION = 200
# Each retry means that another process has just taken a value that was free.
_TRIES = 5


class EmailChange(NamedTuple):
    """An e-mail replaced by a row that named its client by reference or identifier.

    Attributes:
        line: the first line of the row.
        identifier: the client's.
        previous_email: the previous e-mail.
        email: the new e-mail.
    """

    line: int
    identifier: str
    previous_email: str
    email: str


class ImportResult(NamedTuple):
    """The numbers of rows by result.

    Attributes:
        created: rows that created a client.
        updated: rows that changed a client.
        skipped: rows with nothing to do.
        rejected: rows that were rejected.
        email_changes: the clients whose e-mail was replaced.
    """

    created: int
    updated: int
    skipped: int
    rejected: int
    email_changes: list[EmailChange]


class RejectedRow(NamedTuple):
    """A rejected row, with the invalid field and its value; both are empty if the whole row is invalid."""

    line: int
    field: str
    value: str
    reason: str
    raw: str


def import_clients(
    context: Context,
    table: Table,
    report: Callable[[RejectedRow], None],
    *,
    on_conflict: OnConflict = OnConflict.FAIL,
    strict: bool = False,
    dry_run: bool = False,
    report_change: Callable[[EmailChange], None] = lambda _change: None,
    report_progress: Callable[[int], None] = lambda _number: None,
) -> ImportResult:
    """Import the rows of a table, and return the numbers of rows by result.

    Args:
        report: called with each rejected row, soon after it is read.
        on_conflict: what to do with a row whose client already exists with different data.
        strict: import all rows or none.
        dry_run: change nothing, but report and count the results.
        report_change: called with each replaced e-mail once the change is committed; in a dry run, without a commit.
        report_progress: called several times a second with the number of rows that were handled since the last call.

    Raises:
        InvalidInput: the e-mail column is missing; or, with `strict`, a row was rejected, so nothing was imported.
        ConfigError: clients share an e-mail although EGEC_SHARED_EMAIL is no.
        TemporaryFailure: other processes keep taking the same e-mails.
    """
    if "email" not in table.named:
        raise InvalidInput("the table has no e-mail column", "Name it: --map 'COLUMN=email'.")
    shared_emails.require_allowed(context)
    # A strict import may still be rolled back, so its changes are reported at the end.
    reports_late = strict and not dry_run
    work = _Import(context, table, report, on_conflict, None if reports_late else report_change, report_progress)
    with context.database.atomic() if strict or dry_run else nullcontext() as whole:
        work.import_all()
        if strict and work.counted["rejected"]:
            assert whole is not None
            whole.rollback()
            raise InvalidInput(
                count_words(
                    "0 rows were rejected, so nothing was imported",
                    "1 row was rejected, so nothing was imported",
                    "{number} rows were rejected, so nothing was imported",
                    work.counted["rejected"],
                ),
                "Correct these rows and try again, or omit --strict.",
                code="rejected",
            )
        if dry_run and whole is not None:
            whole.rollback()
    for change in work.email_changes if reports_late else ():
        report_change(change)
    return ImportResult(**work.counted, email_changes=work.email_changes)


class _Import:
    def __init__(
        self,
        context: Context,
        table: Table,
        report: Callable[[RejectedRow], None],
        on_conflict: OnConflict,
        report_change: Callable[[EmailChange], None] | None,
        report_progress: Callable[[int], None],
    ) -> None:
        self._context = context
        self._table = table
        self._report = report
        self._report_change = report_change
        self._report_progress = report_progress
        self._on_conflict = on_conflict
        # As long as all rows are new, as in a first import, they are inserted without looking for them first.
        self._all_were_new = True
        # Most tables have no dates, and each column takes time.
        self._columns = _COLUMNS if set(_DAYS).isdisjoint(table.fields) else (*_COLUMNS, *_DAYS)
        self._taken = RowsTaken()
        self._faulty: list[tuple[Row, InvalidRow]] = []
        self._unreported: list[EmailChange] = []
        self.counted = dict.fromkeys(("created", "updated", "skipped", "rejected"), 0)
        self.email_changes: list[EmailChange] = []

    def import_all(self) -> None:
        """Import all rows, and record the start (as the import may be killed) and the end."""
        with self._context.database.atomic():
            audit.record_event(self._context, "client.import", "started")
        with self._taken, prefetch(self._batches()) as batches:
            while some := list(islice(batches, 1)):
                with self._context.database.atomic():
                    for checked, faulty in chain(some, islice(batches, _BATCHES_IN_A_TRANSACTION - 1)):
                        self._faulty += faulty
                        left: Sequence[ValidRow] = checked
                        while left:
                            left = self._import_rows(left)
                        self._report_progress(len(checked) + len(faulty))
                # After the transaction, so that a slow reader of the output does not block the database.
                self._report_batch()
        with self._context.database.atomic():
            audit.record_event(self._context, "client.import", "done", rows=self.counted)

    def _batches(self) -> Iterator[tuple[Sequence[ValidRow], Sequence[tuple[Row, InvalidRow]]]]:
        """Yield batches of valid and invalid rows, without the database."""
        checker = RowChecker(self._table.fields, clock.to_rfc3339(self._context.clock()))
        rows = iter(self._table)
        while batch := list(islice(rows, _ROWS_AT_A_TIME)):
            valid: list[ValidRow] = []
            faulty: list[tuple[Row, InvalidRow]] = []
            for row in batch:
                try:
                    valid.append(checker.check(row))
                except InvalidRow as fault:
                    faulty.append((row, fault))
            yield valid, faulty

    def _report_batch(self) -> None:
        """Report rejected rows, in order, and replaced e-mails."""
        for row, faulty in sorted(self._faulty, key=lambda rejected: rejected[0].line):
            self._report(RejectedRow(row.line, faulty.field, faulty.value, faulty.reason, row.raw))
        self.counted["rejected"] += len(self._faulty)
        self._faulty = []
        if self._report_change is not None:
            for change in self._unreported:
                self._report_change(change)
        self.email_changes += self._unreported
        self._unreported = []

    def _import_rows(self, checked: Sequence[ValidRow]) -> Sequence[ValidRow]:
        """Import rows, and return those that can be compared only after these are written."""
        # The database refuses a taken e-mail only as long as all numbers of clients with the same e-mail are 0.
        if self._all_were_new and not shared_emails.have_numbers() and self._insert_all(checked):
            self.counted["created"] += len(checked)
            return ()
        for _ in range(_TRIES):
            batch = Batch(checked, self._on_conflict, self._taken, may_share=self._context.settings.shared_email)
            keys = self._write(batch.new, batch.changes)
            if keys is not None:
                break
        else:
            raise TemporaryFailure("other processes keep taking the same e-mails", "Try again.")
        self._record_taken(batch, keys)
        audit.record_updates(self._context, ((one.key, one.fields) for one in batch.changes), source="import")
        self.counted["created"] += len(batch.new)
        self.counted["updated"] += len(batch.changes)
        self.counted["skipped"] += batch.skipped
        self._faulty += batch.faulty
        self._unreported += [
            EmailChange(one.checked.row.line, one.identifier, one.previous_email, one.checked.email)
            for one in batch.changes
            if one.previous_email is not None
        ]
        self._all_were_new = len(batch.new) == len(checked)
        return batch.rest

    def _insert_all(self, new: Sequence[ValidRow]) -> bool:
        """Insert all rows; if any exists, insert nothing and return False."""
        keys = try_insert_all(
            self._context.database, "client", self._columns, self._rows_to_insert(new), constants=_AT_FIRST | _UNSHARED
        )
        if not keys:
            return False
        self._taken.add(keys, new)
        self._insert_hashes(_hashes(keys, new))
        return True

    def _record_taken(self, batch: Batch, keys: Sequence[int]) -> None:
        """Record the row of each client, so that no later row contradicts it; `keys` are those of the new clients."""
        self._taken.add([one.key for one in batch.changes], [one.checked for one in batch.changes])
        self._taken.add([key for key, _ in batch.unchanged], [one for _, one in batch.unchanged])
        self._taken.add(keys, batch.new)

    def _write(self, new: Sequence[ValidRow], changes: Sequence[ClientChange]) -> Sequence[int] | None:
        """Insert and update clients, and return the keys of the new ones; if another process was faster, do nothing."""
        try:
            with self._context.database.atomic():
                numbers = self._number(new, changes)
                keys = self._insert(new, numbers[: len(new)])
                self._update(changes, numbers[len(new) :])
                written = zip([*keys, *(one.key for one in changes)], numbers, strict=True)
                if further := [key for key, number in written if number]:
                    shared_emails.copy_marks(further)
        except peewee.IntegrityError:
            return None
        return keys

    def _number(self, new: Sequence[ValidRow], changes: Sequence[ClientChange]) -> Sequence[int]:
        """Return the `email_share` of each new client, then of each changed one; it counts if the e-mail changes."""
        if not self._context.settings.shared_email:
            # The database refuses an e-mail that another process has just taken.
            return [0] * (len(new) + len(changes))
        moved = [str(one.values[1]) for one in changes if one.previous_email is not None]
        numbers = shared_emails.next_numbers([*(one.email_key for one in new), *moved])
        rest = iter(numbers[len(new) :])
        return [*numbers[: len(new)], *(0 if one.previous_email is None else next(rest) for one in changes)]

    def _insert(self, new: Sequence[ValidRow], numbers: Sequence[int]) -> Sequence[int]:
        """Insert clients with these values of `email_share`, and return their keys."""
        left, left_numbers = new, numbers
        while left:
            rows = [(*row, number) for row, number in zip(self._rows_to_insert(left), left_numbers, strict=True)]
            columns = (*self._columns, "email_share")
            inserted = insert_many(
                self._context.database, "client", columns, rows, constants=_AT_FIRST, unless_taken="identifier"
            )
            if inserted == len(rows):
                break
            # A drawn identifier may be taken: those clients get another one.
            if any(one.identifier for one in left):
                # It may be the identifier of an existing client, with the same e-mail or another one.
                raise peewee.IntegrityError("an identifier of the table is taken")
            made = _find_keys(left)
            again = [
                (one, number)
                for one, number in zip(left, left_numbers, strict=True)
                if (one.email_key, number) not in made
            ]
            left, left_numbers = [one for one, _ in again], [number for _, number in again]
        if not new:
            return ()
        made = _find_keys(new)
        keys = [made[one.email_key, number] for one, number in zip(new, numbers, strict=True)]
        self._insert_hashes(_hashes(keys, new))
        return keys

    def _rows_to_insert(self, new: Sequence[ValidRow]) -> Sequence[Sequence[str | int | None]]:
        """Return the values of new clients; those without an identifier get a random one."""
        now = clock.to_rfc3339(self._context.clock())
        drawn = _draw_identifiers(len(new))
        identified = [(one.identifier or free, *one[2:11], now) for one, free in zip(new, drawn, strict=True)]
        if self._columns is _COLUMNS:
            return identified
        return [(*row, one.valid_from, one.valid_until) for row, one in zip(identified, new, strict=True)]

    def _insert_hashes(self, hashes: Mapping[int, str]) -> None:
        """Insert accepted and used credentials with these hashes, by the keys of their clients."""
        if not hashes:
            return
        states.raise_refusal_cost(hashes.values())
        now = clock.to_rfc3339(self._context.clock())
        insert_many(
            self._context.database,
            "credential",
            (
                "client_id", "sequence", "state", "password_hash", "created_at", "settled_at", "first_used_at",
                "issued_by",
            ),
            [
                (key, 1, CredentialState.ACCEPTED.value, one, now, now, now, self._context.actor.user)
                for key, one in hashes.items()
            ],
        )  # fmt: skip
        execute_many(
            self._context.database,
            "UPDATE client SET active_sequence = 1, last_sequence = 1 WHERE id = ?",
            [(key,) for key in hashes],
        )

    def _update(self, changes: Sequence[ClientChange], numbers: Sequence[int]) -> None:
        now = clock.to_rfc3339(self._context.clock())
        execute_many(
            self._context.database,
            "UPDATE client SET email = ?, email_key = ?, reference = ?, civility = ?, first_name = ?, last_name = ?, "
            "language = ?, valid_from = ?, valid_until = ?, updated_at = ?, "
            "email_share = CASE WHEN email_key = ? THEN email_share ELSE ? END, "
            "email_changed_at = CASE WHEN email_key = ? THEN email_changed_at ELSE ? END, "
            "email_bounced_at = CASE WHEN email_key = ? THEN email_bounced_at END WHERE id = ?",
            [
                (*c.values, now, c.values[1], number, c.values[1], now, c.values[1], c.key)
                for c, number in zip(changes, numbers, strict=True)
            ],
        )
        self._insert_hashes(
            {c.key: c.checked.password_hash for c in changes if c.checked.password_hash and not c.issued}
        )


_COLUMNS = (
    "identifier", "email", "email_key", "reference", "civility", "first_name", "last_name", "language", "disabled_at",
    "created_at", "updated_at",
)  # fmt: skip
_DAYS = ("valid_from", "valid_until")
_UNSHARED = {"email_share": 0}
_AT_FIRST = {"active_sequence": 0, "revoked_below": 0, "last_sequence": 0, "failed_logins": 0}


def _hashes(keys: Sequence[int], new: Sequence[ValidRow]) -> Mapping[int, str]:
    """Return the imported hashes of new clients by their keys."""
    return {key: one.password_hash for key, one in zip(keys, new, strict=True) if one.password_hash}


def _find_keys(rows: Sequence[ValidRow]) -> Mapping[tuple[str, int], int]:
    """Return the keys of the clients with the e-mails of these rows, by e-mail and `email_share`."""
    query = Client.select(Client.email_key, Client.email_share, Client.id)
    found = fetch_tuples(query.where(in_list(Client.email_key, [one.email_key for one in rows])))
    return {(email_key, number): key for email_key, number, key in found}


def _draw_identifiers(number: int) -> list[str]:
    """Return this number of random identifiers, all equally likely."""
    found: list[str] = []
    while len(found) < number:
        drawn = array("Q", os.urandom(8 * (number - len(found))))
        found += [str(10**9 + value % _IDENTIFIERS) for value in drawn if value < _FAIR]
    return found


_IDENTIFIERS = 9 * 10**9
# Above this 64-bit value, the first identifiers would be more likely.
_FAIR = 2**64 // _IDENTIFIERS * _IDENTIFIERS


_Piece = TypeVar("_Piece")

# In seconds, a tenth of Python's default, so that the computing thread does not keep the other one waiting.
_SWITCH_INTERVAL = 0.0005
_QUEUE_SIZE = 1
_QUEUE_TIMEOUT = 0.1


class _End:
    """The end of the pieces, or the error that ended them."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


@contextmanager
def prefetch(pieces: Iterator[_Piece]) -> Iterator[Iterator[_Piece]]:
    """Produce pieces on another thread while the block uses earlier ones.

    An error of the producer is raised in the block, at its place. The thread ends with the block.
    """
    waiting: Queue[_Piece | _End] = Queue(_QUEUE_SIZE)
    stop = Event()

    def put(piece: _Piece | _End) -> None:
        while not stop.is_set():
            try:
                waiting.put(piece, timeout=_QUEUE_TIMEOUT)
            except Full:
                continue
            return

    def produce() -> None:
        try:
            for piece in pieces:
                put(piece)
                if stop.is_set():
                    return
            put(_End())
        except BaseException as error:  # noqa: BLE001 - raised again in the block
            put(_End(error))

    def consume() -> Iterator[_Piece]:
        while True:
            try:
                # With a timeout, so that signals are handled.
                piece = waiting.get(timeout=_QUEUE_TIMEOUT)
            except Empty:
                continue
            if isinstance(piece, _End):
                if piece.error is not None:
                    raise piece.error
                return
            yield piece

    interval = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    producer = Thread(target=produce, name="ahead", daemon=True)
    producer.start()
    try:
        yield consume()
    finally:
        stop.set()
        producer.join()
        sys.setswitchinterval(interval)
