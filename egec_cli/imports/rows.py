"""Check the rows of a table: known columns, valid fields, or the reason why a row is invalid."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple
from unicodedata import is_normalized

from egec_cli import clock, email_address, identifier
from egec_cli.clients import fields
from egec_cli.errors import InvalidInput
from egec_cli.imports.columns import Row
from egec_cli.imports.formats import STRAY_BYTES
from egec_cli.settings.types import LANGUAGES
from egec_cli.translation import Words

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-6])\$[./A-Za-z0-9]{53}")
_OTHER_HASHES = {
    "$2": Words("a bcrypt hash of a cost over 16, or a broken one"),
    "$1$": Words("an MD5-crypt hash"),
    "$5$": Words("a SHA-256-crypt hash"),
    "$6$": Words("a SHA-512-crypt hash"),
    "$y$": Words("a yescrypt hash"),
    "$apr1$": Words("an Apache MD5 hash"),
    "$argon2": Words("an Argon2 hash"),
    "$scrypt$": Words("an scrypt hash"),
    "{SSHA": Words("an LDAP SHA hash"),
    "{SHA": Words("an LDAP SHA hash"),
    "pbkdf2_": Words("a Django PBKDF2 hash"),
    "scrypt$": Words("a Django scrypt hash"),
    "bcrypt_sha256$": Words("a Django bcrypt-SHA-256 hash"),
    "argon2$": Words("a Django Argon2 hash"),
}


class ValidRow(NamedTuple):
    """A valid row; unknown fields are empty. Times are RFC 3339, days such as `2026-01-31`."""

    row: Row
    identifier: str | None
    email: str
    email_key: str
    reference: str | None
    civility: str
    first_name: str
    last_name: str
    language: str
    disabled_at: str | None
    created_at: str
    valid_from: str | None
    valid_until: str | None
    password_hash: str


class InvalidRow(Exception):
    """A row cannot be imported."""

    def __init__(self, reason: str, field: str = "", value: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field
        self.value = value


class RowChecker:
    """Checks the rows of one table.

    Most rows are plain: one look at the line rules out all faults of names. All others are checked cell by cell, with
    the same result.
    """

    def __init__(self, columns: Sequence[str], now: str) -> None:
        """Check rows with these columns; clients without `created_at` are created `now`."""
        self._columns = columns
        self._now = now
        self._places = itemgetter(*(columns.index(field) if field in columns else -1 for field in _IN_ORDER))

    def check(self, row: Row) -> ValidRow:
        """Return the valid fields of a row, or raise `InvalidRow`."""
        if row.fault:
            raise InvalidRow(row.fault)
        return self._check_plain(row) or self._check_cells(row)

    def _check_plain(self, row: Row) -> ValidRow | None:
        """Return a row that needs no change; None for any other."""
        raw, cells = row.raw, row.cells
        line = raw.rstrip("\r\n")
        if (
            not line.isprintable()
            # Double spaces collapse, quotes and apostrophes may belong to the table, and mail programs decode =?.
            or "  " in line
            or '"' in line
            or "'" in line
            or "=?" in line
            or (_BEYOND_LATIN.search(line) and not (is_normalized("NFC", line) and fields.INVISIBLE.isdisjoint(line)))
            or (len(line) > fields.MAX_NAME and max(map(len, cells)) > fields.MAX_NAME)
        ):
            return None
        (
            email, given, reference, civility, first_name, last_name, language, password_hash, disabled_at, created_at,
            valid_from, valid_until,
        ) = self._places((*cells, ""))  # fmt: skip
        key = email_address.plain_key(email)
        if (
            key is None
            or disabled_at
            or created_at
            or civility not in fields.CIVILITIES_OR_NONE
            or language not in fields.LANGUAGES_OR_NONE
            or (given and not identifier.is_identifier(given))
            or (password_hash and not _BCRYPT.fullmatch(password_hash))
            or first_name != first_name.strip()
            or last_name != last_name.strip()
            or reference != reference.strip()
            or ((valid_from or valid_until) and not _are_days_in_order(valid_from, valid_until))
        ):
            return None
        return ValidRow._make(
            (
                row, given or None, email, key, reference or None, civility, first_name, last_name, language, None,
                self._now, valid_from or None, valid_until or None, password_hash,
            )
        )  # fmt: skip

    def _check_cells(self, row: Row) -> ValidRow:
        cells = dict(zip(self._columns, row.cells, strict=True))
        get = cells.get
        if STRAY_BYTES.search(row.raw):
            raise InvalidRow(Words("it contains bytes that are invalid in the encoding of the file"))
        try:
            found = fields.parse_fields(
                cells["email"],
                given_identifier=get("identifier", ""),
                reference=get("reference", ""),
                civility=get("civility", ""),
                first_name=get("first_name", ""),
                last_name=get("last_name", ""),
                language=get("language", ""),
                valid_from=get("valid_from", ""),
                valid_until=get("valid_until", ""),
            )
        except InvalidInput as error:
            raise _locate_error(cells, error) from None
        return ValidRow(
            row,
            found.identifier,
            found.email.given,
            found.email.key,
            found.reference,
            found.civility,
            found.first_name,
            found.last_name,
            found.language,
            _parse_time("disabled_at", get("disabled_at", "")) or None,
            _parse_time("created_at", get("created_at", "")) or self._now,
            found.valid_from,
            found.valid_until,
            _parse_hash(get("password_hash", "")),
        )


_IN_ORDER = (
    "email", "identifier", "reference", "civility", "first_name", "last_name", "language", "password_hash",
    "disabled_at", "created_at", "valid_from", "valid_until",
)  # fmt: skip
_DAYS = ("valid_from", "valid_until")
_KNOWN_VALUES: Mapping[str, Sequence[str]] = {"civility": fields.CIVILITIES, "language": LANGUAGES}
# All printable characters below are in NFC.
_BEYOND_LATIN = re.compile("[\u0300-\U0010ffff]")


def _locate_error(cells: Mapping[str, str], error: InvalidInput) -> InvalidRow:
    """Return the error with its cell: the first one that is refused alone."""
    checks: dict[str, Callable[[str], Any]] = {
        "email": fields.parse_fields,
        "identifier": lambda text: text and identifier.parse_identifier(text),
        "civility": fields.parse_civility,
        "language": fields.parse_language,
        "valid_from": fields.parse_day,
        "valid_until": partial(_parse_last_day, cells),
        **{
            name: partial(fields.clean_line, name.replace("_", " "))
            for name in ("reference", "first_name", "last_name")
        },
    }
    for field, check in checks.items():
        try:
            check(cells.get(field, ""))
        except InvalidInput as found:
            known = _KNOWN_VALUES.get(field)
            if field in _DAYS and not fields.is_day(cells[field].strip()):
                return InvalidRow(Words("invalid date; write it as 2026-01-31"), field, cells[field])
            if known is None:
                return InvalidRow(found.message, field, cells[field])
            # A row is reported on one line, so the hint goes there.
            reason = Words("{message} (use one of {known})", message=found.message, known=", ".join(known))
            return InvalidRow(reason, field, cells[field])
    return InvalidRow(error.message)


def _parse_last_day(cells: Mapping[str, str], text: str) -> None:
    fields.require_order(fields.parse_day(cells.get("valid_from", "")), fields.parse_day(text))


def _are_days_in_order(valid_from: str, valid_until: str) -> bool:
    return all(not day or fields.is_day(day) for day in (valid_from, valid_until)) and not (
        valid_from and valid_until and valid_from > valid_until
    )


def _parse_hash(text: str) -> str:
    text = text.strip()
    if not text or _BCRYPT.fullmatch(text):
        return text
    kind = next((kind for start, kind in _OTHER_HASHES.items() if text.startswith(start)), Words("not a known hash"))
    # The value is not shown: it may be a password.
    raise InvalidRow(
        Words("it is {kind}; only bcrypt hashes ($2a$, $2b$, $2y$) can be imported", kind=kind), "password_hash", "…"
    )


def _parse_time(field: str, text: str) -> str:
    if not text:
        return ""
    try:
        return clock.to_rfc3339(clock.parse_time(text))
    except ValueError:
        raise InvalidRow(Words("invalid time; write it as 2026-11-24T03:30:00Z"), field, text) from None
