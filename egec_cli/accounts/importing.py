"""Client files from a table: each row is checked, made or brought up to date, or rejected with its reason.

Rows are taken in batches, of one transaction each: a batch is first put in as if all its clients were new, which at a
first import they are; only if the database objects is each row compared with what is there. An import that was killed
can be run again to the same end, for a row that says what its file says already has nothing left to do.
"""

import os
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain, islice
from typing import NamedTuple

from egec_cli import clock
from egec_cli.accounts import audit, hash_costs
from egec_cli.accounts.ahead import made_ahead
from egec_cli.accounts.egec import Egec
from egec_cli.accounts.import_batch import Batch, Change
from egec_cli.accounts.import_options import OnConflict
from egec_cli.accounts.import_rows import Checked, Checker, Faulty
from egec_cli.accounts.rows_taken import RowsTaken
from egec_cli.accounts.tables import Row, Table
from egec_cli.errors import BadInput, NotNow
from egec_cli.store import peewee
from egec_cli.store.database import among, execute_many, insert_many, inserted_all, tuples
from egec_cli.store.models import Client, CredentialState

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


class Imported(NamedTuple):
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


class Rejected(NamedTuple):
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


def run(
    egec: Egec,
    table: Table,
    report: Callable[[Rejected], None],
    *,
    on_conflict: OnConflict = OnConflict.FAIL,
    strict: bool = False,
    dry_run: bool = False,
    report_change: Callable[[EmailChange], None] = lambda _change: None,
) -> Imported:
    """Take the rows of a table into the client files, and return how many became what.

    Args:
        egec: where.
        table: the rows.
        report: is told of each row that is rejected, as soon as it is.
        on_conflict: what to do with a row whose client is there already, with other data.
        strict: take all rows or none.
        dry_run: take none, but count what would become of them.
        report_change: is told of each e-mail that changes, once the change is committed; in a dry run, that would.

    Raises:
        BadInput: there is no column for the e-mail; or, with `strict`, a row was rejected, so none was taken.
        NotNow: another process takes the same e-mails at the same time.
    """
    if "email" not in table.named:
        raise BadInput("the table has no column for the e-mail", "Say which it is: --map 'COLUMN=email'.")
    # A strict import may still be rolled back, so its changes are told at its end.
    told_late = strict and not dry_run
    work = _Import(egec, table, report, on_conflict, None if told_late else report_change)
    with egec.database.atomic() if strict or dry_run else nullcontext() as whole:
        work.take_all()
        if strict and work.counted["rejected"]:
            assert whole is not None
            whole.rollback()
            raise BadInput(
                "{rejected} rows were rejected, so none was taken",
                "Mend them and run the same again, or leave --strict out.",
                code="rejected",
                rejected=work.counted["rejected"],
            )
        if dry_run and whole is not None:
            whole.rollback()
    for change in work.email_changes if told_late else ():
        report_change(change)
    return Imported(**work.counted, email_changes=work.email_changes)


class _Import:
    def __init__(
        self,
        egec: Egec,
        table: Table,
        report: Callable[[Rejected], None],
        on_conflict: OnConflict,
        report_change: Callable[[EmailChange], None] | None,
    ) -> None:
        self._egec = egec
        self._table = table
        self._report = report
        self._report_change = report_change
        self._on_conflict = on_conflict
        # Where the rows of a first import are all new, none is looked for before it is put in.
        self._all_were_new = True
        self._taken = RowsTaken()
        self._faulty: list[tuple[Row, Faulty]] = []
        self._untold: list[EmailChange] = []
        self.counted = dict.fromkeys(("created", "updated", "skipped", "rejected"), 0)
        self.email_changes: list[EmailChange] = []

    def take_all(self) -> None:
        """Take all rows, and put the import on record: that it has begun, for it may be killed, and what it came to."""
        with self._egec.database.atomic():
            audit.record(self._egec, "client.import", "begun")
        with self._taken, made_ahead(self._batches()) as batches:
            while some := list(islice(batches, 1)):
                with self._egec.database.atomic():
                    for checked, faulty in chain(some, islice(batches, _BATCHES_IN_A_TRANSACTION - 1)):
                        self._faulty += faulty
                        left: Sequence[Checked] = checked
                        while left:
                            left = self._take(left)
                # Not before: whoever reads slowly keeps nobody from the database.
                self._tell()
        with self._egec.database.atomic():
            audit.record(self._egec, "client.import", "done", rows=self.counted)

    def _batches(self) -> Iterator[tuple[Sequence[Checked], Sequence[tuple[Row, Faulty]]]]:
        """Yield the rows in batches: those whose fields are valid, and those that are faulty. It asks no database."""
        checker = Checker(self._table.fields, clock.rfc3339(self._egec.clock()))
        rows = iter(self._table)
        while batch := list(islice(rows, _ROWS_AT_A_TIME)):
            valid: list[Checked] = []
            faulty: list[tuple[Row, Faulty]] = []
            for row in batch:
                try:
                    valid.append(checker.checked(row))
                except Faulty as fault:
                    faulty.append((row, fault))
            yield valid, faulty

    def _tell(self) -> None:
        """Tell of the rows of a batch that were rejected, in their order, and of the e-mails that changed."""
        for row, faulty in sorted(self._faulty, key=lambda told: told[0].line):
            self._report(Rejected(row.line, faulty.field, faulty.value, faulty.reason, row.raw))
        self.counted["rejected"] += len(self._faulty)
        self._faulty = []
        if self._report_change is not None:
            for change in self._untold:
                self._report_change(change)
        self.email_changes += self._untold
        self._untold = []

    def _take(self, checked: Sequence[Checked]) -> Sequence[Checked]:
        """Take rows in one transaction, and return those that can only be taken after it."""
        if self._all_were_new and self._all_made(checked):
            self.counted["created"] += len(checked)
            return ()
        for _ in range(_TRIES):
            batch = Batch(checked, self._on_conflict, self._taken)
            if self._written(batch.new, batch.changes):
                break
        else:
            raise NotNow("other processes take the same e-mails all the time", "Run the same again.")
        self._note_taken(batch)
        audit.record_updates(self._egec, ((one.key, one.fields) for one in batch.changes), source="import")
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

    def _all_made(self, new: Sequence[Checked]) -> bool:
        """Make a file of each row; tell whether the database had none of them, else nothing is done."""
        keys = inserted_all(self._egec.database, "client", _COLUMNS, self._drawn_for(new), constants=_AT_FIRST)
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
                among(Client.email_key, [one.email_key for one in batch.new])
            )
            keys = dict(tuples(made))
            self._taken.add([keys[one.email_key] for one in batch.new], batch.new)

    def _written(self, new: Sequence[Checked], changes: Sequence[Change]) -> bool:
        """Make and change files; tell whether nobody else was in the way, else nothing is done."""
        try:
            with self._egec.database.atomic():
                self._insert(new)
                self._update(changes)
        except peewee.IntegrityError:
            return False
        return True

    def _insert(self, new: Sequence[Checked]) -> None:
        hashes = _hashes(new)
        while new:
            rows = self._drawn_for(new)
            inserted = insert_many(
                self._egec.database, "client", _COLUMNS, rows, constants=_AT_FIRST, unless_taken="identifier"
            )
            # Of many identifiers that are drawn, one may be taken: those clients get another.
            new = [] if inserted == len(rows) else self._without_file(new)
        self._insert_hashes(hashes)

    def _drawn_for(self, new: Sequence[Checked]) -> Sequence[Sequence[str | None]]:
        """Return the values of new files; identifiers are drawn for those that have none."""
        now = clock.rfc3339(self._egec.clock())
        drawn = _identifiers(len(new))
        return [(one.identifier or free, *one[2:11], now) for one, free in zip(new, drawn, strict=True)]

    def _without_file(self, new: Sequence[Checked]) -> Sequence[Checked]:
        if any(one.identifier for one in new):
            # It may be the identifier of a file that is there, with the same e-mail or another one.
            raise peewee.IntegrityError("an identifier of the table is taken")
        made = Client.select(Client.email_key).where(among(Client.email_key, [one.email_key for one in new]))
        keys = {key for (key,) in tuples(made)}
        return [one for one in new if one.email_key not in keys]

    def _insert_hashes(self, hashes: Mapping[str, str]) -> None:
        """Let the passwords of these hashes, by the keys of e-mails, open the accounts; they count as used."""
        if not hashes:
            return
        hash_costs.note(hashes.values())
        now = clock.rfc3339(self._egec.clock())
        found = Client.select(Client.id, Client.email_key).where(among(Client.email_key, hashes))
        keys = {email_key: key for key, email_key in tuples(found)}
        insert_many(
            self._egec.database,
            "credential",
            (
                "client_id", "sequence", "state", "password_hash", "created_at", "settled_at", "first_used_at",
                "issued_by",
            ),
            [
                (keys[email_key], 1, CredentialState.ACCEPTED.value, one, now, now, now, self._egec.actor.user)
                for email_key, one in hashes.items()
            ],
        )  # fmt: skip
        execute_many(
            self._egec.database,
            "UPDATE client SET active_sequence = 1, last_sequence = 1 WHERE id = ?",
            [(key,) for key in keys.values()],
        )

    def _update(self, changes: Sequence[Change]) -> None:
        now = clock.rfc3339(self._egec.clock())
        execute_many(
            self._egec.database,
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


def _hashes(new: Sequence[Checked]) -> Mapping[str, str]:
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
