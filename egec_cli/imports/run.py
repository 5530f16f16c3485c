"""Work done ahead on a thread of its own, while the caller's waits for the database."""

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
from egec_cli.audit import record as audit
from egec_cli.context import Context
from egec_cli.credentials import hash_costs
from egec_cli.errors import InvalidInput, TemporaryFailure
from egec_cli.imports.formats import OnConflict
from egec_cli.imports.merge import Batch, ClientChange, RowsTaken
from egec_cli.imports.rows import InvalidRow, RowChecker, ValidRow
from egec_cli.imports.tables import Row, Table
from egec_cli.store import peewee
from egec_cli.store.models import Client, CredentialState
from egec_cli.store.sql import execute_many, fetch_tuples, in_list, insert_many, try_insert_all

_Piece = TypeVar("_Piece")

# How long a thread that computes keeps the interpreter from the others, in seconds; Python's own is ten times as long.
_TURN = 0.0005
_DEPTH = 1
_LOOK = 0.1


class _End:
    """The pieces came to their end, or to an error."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


@contextmanager
def prefetch(pieces: Iterator[_Piece]) -> Iterator[Iterator[_Piece]]:
    """Let pieces be made on another thread while the block uses those before them; at most a few are waiting.

    What making one raises is raised where it would have been used. After the block, no more are made.
    """
    waiting: Queue[_Piece | _End] = Queue(_DEPTH)
    stop = Event()

    def put(piece: _Piece | _End) -> None:
        while not stop.is_set():
            try:
                waiting.put(piece, timeout=_LOOK)
            except Full:
                continue
            return

    def make() -> None:
        try:
            for piece in pieces:
                put(piece)
                if stop.is_set():
                    return
            put(_End())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the piece is used
            put(_End(error))

    def used() -> Iterator[_Piece]:
        while True:
            try:
                # Not for ever, so that a signal is heeded.
                piece = waiting.get(timeout=_LOOK)
            except Empty:
                continue
            if isinstance(piece, _End):
                if piece.error is not None:
                    raise piece.error
                return
            yield piece

    former = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    maker = Thread(target=make, name="ahead", daemon=True)
    maker.start()
    try:
        yield used()
    finally:
        stop.set()
        maker.join()
        sys.setswitchinterval(former)


# So many rows are in memory; so many times as many share a commit, each of which writes most pages of the indexes.
_ROWS_AT_A_TIME = 500
_BATCHES_IN_A_TRANSACTION = 200
# Another process may take what was free when it was looked at.
_TRIES = 5


class EmailChange(NamedTuple):
    """An e-mail that a row replaced; the row named its client by the reference or the identifier.

    Attributes:
        line: where the row begins.
        identifier: the client's.
        former_email: the one before.
        email: the present one.
    """

    line: int
    identifier: str
    former_email: str
    email: str


class ImportResult(NamedTuple):
    """What became of the rows of a table.

    Attributes:
        created: how many made a client's file.
        updated: how many changed one.
        skipped: how many had nothing to do.
        rejected: how many were not taken.
        email_changes: the clients whose e-mail another one replaced.
    """

    created: int
    updated: int
    skipped: int
    rejected: int
    email_changes: list[EmailChange]


class RejectedRow(NamedTuple):
    """A row that was not taken.

    Attributes:
        field: which of its fields is at fault; empty where it is the row.
        value: what the field says.
    """

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
) -> ImportResult:
    """Take the rows of a table into the client files, and return how many became what.

    Args:
        context: where.
        table: the rows.
        report: is told of each row that is rejected, as soon as it is.
        on_conflict: what to do with a row whose client is there already, with other data.
        strict: take all rows or none.
        dry_run: take none, but count what would become of them.
        report_change: is told of each e-mail that changes, once the change is committed; in a dry run, that would.

    Raises:
        InvalidInput: there is no column for the e-mail; or, with `strict`, a row was rejected, so none was taken.
        TemporaryFailure: another process takes the same e-mails at the same time.
    """
    if "email" not in table.named:
        raise InvalidInput("the table has no column for the e-mail", "Say which it is: --map 'COLUMN=email'.")
    # A strict import may still be rolled back, so its changes are told at its end.
    told_late = strict and not dry_run
    work = _Import(context, table, report, on_conflict, None if told_late else report_change)
    with context.database.atomic() if strict or dry_run else nullcontext() as whole:
        work.take_all()
        if strict and work.counted["rejected"]:
            assert whole is not None
            whole.rollback()
            raise InvalidInput(
                "{rejected} rows were rejected, so none was taken",
                "Mend them and run the same again, or leave --strict out.",
                code="rejected",
                rejected=work.counted["rejected"],
            )
        if dry_run and whole is not None:
            whole.rollback()
    for change in work.email_changes if told_late else ():
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
    ) -> None:
        self._context = context
        self._table = table
        self._report = report
        self._report_change = report_change
        self._on_conflict = on_conflict
        # Where the rows of a first import are all new, none is looked for before it is put in.
        self._all_were_new = True
        self._taken = RowsTaken()
        self._faulty: list[tuple[Row, InvalidRow]] = []
        self._untold: list[EmailChange] = []
        self.counted = dict.fromkeys(("created", "updated", "skipped", "rejected"), 0)
        self.email_changes: list[EmailChange] = []

    def take_all(self) -> None:
        """Take all rows, and put the import on record: that it has begun, for it may be killed, and what it came to."""
        with self._context.database.atomic():
            audit.record_event(self._context, "client.import", "begun")
        with self._taken, prefetch(self._batches()) as batches:
            while some := list(islice(batches, 1)):
                with self._context.database.atomic():
                    for checked, faulty in chain(some, islice(batches, _BATCHES_IN_A_TRANSACTION - 1)):
                        self._faulty += faulty
                        left: Sequence[ValidRow] = checked
                        while left:
                            left = self._take(left)
                # Not before: whoever reads slowly keeps nobody from the database.
                self._tell()
        with self._context.database.atomic():
            audit.record_event(self._context, "client.import", "done", rows=self.counted)

    def _batches(self) -> Iterator[tuple[Sequence[ValidRow], Sequence[tuple[Row, InvalidRow]]]]:
        """Yield the rows in batches: those whose fields are valid, and those that are faulty. It asks no database."""
        checker = RowChecker(self._table.fields, clock.to_rfc3339(self._context.clock()))
        rows = iter(self._table)
        while batch := list(islice(rows, _ROWS_AT_A_TIME)):
            valid: list[ValidRow] = []
            faulty: list[tuple[Row, InvalidRow]] = []
            for row in batch:
                try:
                    valid.append(checker.checked(row))
                except InvalidRow as fault:
                    faulty.append((row, fault))
            yield valid, faulty

    def _tell(self) -> None:
        """Tell of the rows of a batch that were rejected, in their order, and of the e-mails that changed."""
        for row, faulty in sorted(self._faulty, key=lambda told: told[0].line):
            self._report(RejectedRow(row.line, faulty.field, faulty.value, faulty.reason, row.raw))
        self.counted["rejected"] += len(self._faulty)
        self._faulty = []
        if self._report_change is not None:
            for change in self._untold:
                self._report_change(change)
        self.email_changes += self._untold
        self._untold = []

    def _take(self, checked: Sequence[ValidRow]) -> Sequence[ValidRow]:
        """Take rows in one transaction, and return those that can only be taken after it."""
        if self._all_were_new and self._all_made(checked):
            self.counted["created"] += len(checked)
            return ()
        for _ in range(_TRIES):
            batch = Batch(checked, self._on_conflict, self._taken)
            if self._written(batch.new, batch.changes):
                break
        else:
            raise TemporaryFailure("other processes take the same e-mails all the time", "Run the same again.")
        self._note_taken(batch)
        audit.record_updates(self._context, ((one.key, one.fields) for one in batch.changes), source="import")
        self.counted["created"] += len(batch.new)
        self.counted["updated"] += len(batch.changes)
        self.counted["skipped"] += batch.skipped
        self._faulty += batch.faulty
        self._untold += [
            EmailChange(one.checked.row.line, one.identifier, one.former_email, one.checked.email)
            for one in batch.changes
            if one.former_email is not None
        ]
        self._all_were_new = len(batch.new) == len(checked)
        return batch.rest

    def _all_made(self, new: Sequence[ValidRow]) -> bool:
        """Make a file of each row; tell whether the database had none of them, else nothing is done."""
        keys = try_insert_all(self._context.database, "client", _COLUMNS, self._drawn_for(new), constants=_AT_FIRST)
        if not keys:
            return False
        self._taken.add(keys, new)
        self._insert_hashes(_hashes(new))
        return True

    def _note_taken(self, batch: Batch) -> None:
        """Note which rows of a batch were taken for which clients, so that no later row contradicts them."""
        self._taken.add([one.key for one in batch.changes], [one.checked for one in batch.changes])
        self._taken.add([key for key, _ in batch.unchanged], [one for _, one in batch.unchanged])
        if batch.new:
            made = Client.select(Client.email_key, Client.id).where(
                in_list(Client.email_key, [one.email_key for one in batch.new])
            )
            keys = dict(fetch_tuples(made))
            self._taken.add([keys[one.email_key] for one in batch.new], batch.new)

    def _written(self, new: Sequence[ValidRow], changes: Sequence[ClientChange]) -> bool:
        """Make and change files; tell whether nobody else was in the way, else nothing is done."""
        try:
            with self._context.database.atomic():
                self._insert(new)
                self._update(changes)
        except peewee.IntegrityError:
            return False
        return True

    def _insert(self, new: Sequence[ValidRow]) -> None:
        hashes = _hashes(new)
        while new:
            rows = self._drawn_for(new)
            inserted = insert_many(
                self._context.database, "client", _COLUMNS, rows, constants=_AT_FIRST, unless_taken="identifier"
            )
            # Of many identifiers that are drawn, one may be taken: those clients get another.
            new = [] if inserted == len(rows) else self._without_file(new)
        self._insert_hashes(hashes)

    def _drawn_for(self, new: Sequence[ValidRow]) -> Sequence[Sequence[str | None]]:
        """Return the values of new files; identifiers are drawn for those that have none."""
        now = clock.to_rfc3339(self._context.clock())
        drawn = _identifiers(len(new))
        return [(one.identifier or free, *one[2:11], now) for one, free in zip(new, drawn, strict=True)]

    def _without_file(self, new: Sequence[ValidRow]) -> Sequence[ValidRow]:
        if any(one.identifier for one in new):
            # It may be the identifier of a file that is there, with the same e-mail or another one.
            raise peewee.IntegrityError("an identifier of the table is taken")
        made = Client.select(Client.email_key).where(in_list(Client.email_key, [one.email_key for one in new]))
        keys = {key for (key,) in fetch_tuples(made)}
        return [one for one in new if one.email_key not in keys]

    def _insert_hashes(self, hashes: Mapping[str, str]) -> None:
        """Let the passwords of these hashes, by the keys of e-mails, open the accounts; they count as used."""
        if not hashes:
            return
        hash_costs.raise_refusal_cost(hashes.values())
        now = clock.to_rfc3339(self._context.clock())
        found = Client.select(Client.id, Client.email_key).where(in_list(Client.email_key, hashes))
        keys = {email_key: key for key, email_key in fetch_tuples(found)}
        insert_many(
            self._context.database,
            "credential",
            (
                "client_id", "sequence", "state", "password_hash", "created_at", "settled_at", "first_used_at",
                "issued_by",
            ),
            [
                (keys[email_key], 1, CredentialState.ACCEPTED.value, one, now, now, now, self._context.actor.user)
                for email_key, one in hashes.items()
            ],
        )  # fmt: skip
        execute_many(
            self._context.database,
            "UPDATE client SET active_sequence = 1, last_sequence = 1 WHERE id = ?",
            [(key,) for key in keys.values()],
        )

    def _update(self, changes: Sequence[ClientChange]) -> None:
        now = clock.to_rfc3339(self._context.clock())
        execute_many(
            self._context.database,
            "UPDATE client SET email = ?, email_key = ?, reference = ?, civility = ?, first_name = ?, last_name = ?, "
            "language = ?, updated_at = ?, "
            "email_changed_at = CASE WHEN email_key = ? THEN email_changed_at ELSE ? END, "
            "email_bounced_at = CASE WHEN email_key = ? THEN email_bounced_at END WHERE id = ?",
            [(*c.values, now, c.values[1], now, c.values[1], c.key) for c in changes],
        )
        self._insert_hashes(
            {c.values[1] or "": c.checked.password_hash for c in changes if c.checked.password_hash and not c.issued}
        )


_COLUMNS = (
    "identifier", "email", "email_key", "reference", "civility", "first_name", "last_name", "language", "disabled_at",
    "created_at", "updated_at",
)  # fmt: skip
_AT_FIRST = {"active_sequence": 0, "revoked_below": 0, "last_sequence": 0, "failed_logins": 0}


def _hashes(new: Sequence[ValidRow]) -> Mapping[str, str]:
    """Return the hashes of the passwords that come along, by the keys of the e-mails."""
    return {one.email_key: one.password_hash for one in new if one.password_hash}


def _identifiers(number: int) -> list[str]:
    """Return so many random identifiers, drawn together, each as likely as any other."""
    found: list[str] = []
    while len(found) < number:
        drawn = array("Q", os.urandom(8 * (number - len(found))))
        found += [str(10**9 + value % _IDENTIFIERS) for value in drawn if value < _FAIR]
    return found


_IDENTIFIERS = 9 * 10**9
# Beyond this, of 64 bits, the first identifiers would be likelier.
_FAIR = 2**64 // _IDENTIFIERS * _IDENTIFIERS
