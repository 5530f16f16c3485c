"""How an import is asked for: what its table is like, and what becomes of a client who is there already."""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import BinaryIO, NamedTuple

from egec_cli.errors import InvalidInput
from egec_cli.translation import Words


class TableKind(StrEnum):
    """How a table is written."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"


class TableOptions(NamedTuple):
    """What the caller says of a table; what is empty is found by looking at it.

    Attributes:
        encoding: as Python names it.
        delimiter: the character between two cells.
        columns: the names of fields by those of the columns, beside those that are known anyway.
    """

    kind: TableKind | None = None
    encoding: str = ""
    delimiter: str = ""
    columns: Mapping[str, str] = {}


class OnConflict(StrEnum):
    """What becomes of a row whose client is there already, with other data."""

    FAIL = "fail"
    SKIP = "skip"
    UPDATE = "update"


AS_A_SPREADSHEET_SAVES_IT = Words(
    "Open it in the spreadsheet program, choose “Save as” and then “CSV UTF-8” (or “Text CSV”)."
)
_EXPORT_IT = Words(
    "Export the clients as CSV from the program that keeps them; a spreadsheet saves them as “CSV UTF-8”."
)
_SAMPLE = 1 << 16
_CHUNK = 1 << 17
# What files of other kinds begin with, and what to do about it.
_OTHER_KINDS = {
    b"PK\x03\x04": (
        Words("a spreadsheet file such as .xlsx or .ods (or a ZIP archive)"),
        AS_A_SPREADSHEET_SAVES_IT,
    ),
    b"\xd0\xcf\x11\xe0": (Words("an old Excel file such as .xls, or one with a password"), AS_A_SPREADSHEET_SAVES_IT),
    b"<": (Words("a web page or XML"), AS_A_SPREADSHEET_SAVES_IT),
    b"{\\rtf": (Words("a document with formatting (RTF)"), AS_A_SPREADSHEET_SAVES_IT),
    b"%PDF": ("a PDF", _EXPORT_IT),
    b"\x1f\x8b": (Words("a gzip archive"), Words("Unpack it first.")),
    b"7z\xbc\xaf": (Words("a 7z archive"), Words("Unpack it first.")),
    b"Rar!": (Words("a RAR archive"), Words("Unpack it first.")),
    b"\x7fELF": (Words("a program"), _EXPORT_IT),
    b"\x89PNG": (Words("a picture"), _EXPORT_IT),
    b"\xff\xd8\xff": (Words("a picture"), _EXPORT_IT),
    b"SQLite format 3": (Words("an SQLite database"), _EXPORT_IT),
}
_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
# Names of encodings that write a mark of their own at the beginning; tables keep the one that a file has.
_WITHOUT_MARK = {"utf-8-sig": "utf-8", "utf8-sig": "utf-8", "utf-16": "utf-16-le", "utf16": "utf-16-le"}
# A file with more control characters than one in so many bytes is no text; NUL and those of layout do not count.
_BYTES_FOR_ONE_CONTROL = 20
_CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\r\n\0\x1b\f")
_BEYOND_ASCII = bytes(range(0x80, 0x100))
STRAY_BYTES = re.compile("[\udc80-\udcff]")

# The encodings of spreadsheets and of old programs in the West, the usual one first: it wins where two are as likely.
_WESTERN = ("cp1252", "cp850", "mac_roman", "iso8859-15")
_STRANGE = re.compile(r"[^\x00-\x7f]")
# How much a letter speaks for an encoding that makes it: the more, the more often it is in French names.
_LETTERS = {
    **dict.fromkeys("é", 4),
    **dict.fromkeys("èÉ", 3),
    **dict.fromkeys("êëàâçùûôîïœÈÊËÀÂÇÙÛÔÎÏŒ", 2),
    **dict.fromkeys("äöüñáíóúßãÄÖÜÑÁÍÓÚ", 1),
}
_APOSTROPHE = "\u2019"
_SIGNS = frozenset("«»“”\u2018\u2013—…€°\xa0")
_NO_SIGN_OF_NAMES = -3
_OUT_OF_PLACE = -2


def detect_encoding(stream: BinaryIO, name: str, given: str = "") -> str:
    """Return the encoding of a seekable stream, which is looked through to its end; a mark at its beginning is kept.

    Args:
        stream: the bytes.
        name: of the file, for messages.
        given: the encoding, where it is known.

    Raises:
        InvalidInput: it is no text.
    """
    start = stream.read(_SAMPLE)
    _require_text(start, name)
    marked = next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), "")
    plain = given.lower().replace("_", "-")
    if plain in _WITHOUT_MARK:
        return marked or _WITHOUT_MARK[plain]
    return given or marked or _unmarked(stream, start)


def _require_text(start: bytes, name: str) -> None:
    for beginning, (kind, hint) in _OTHER_KINDS.items():
        if start.startswith(beginning):
            raise InvalidInput("{name} is {kind}, which egec does not read", hint, name=name, kind=kind)
    controls = len(start) - len(start.translate(None, _CONTROLS))
    if controls * _BYTES_FOR_ONE_CONTROL > len(start):
        raise InvalidInput("{name} is no text", _EXPORT_IT, name=name)


def _unmarked(stream: BinaryIO, start: bytes) -> str:
    """Return the encoding of a stream by its bytes, or by what makes words of them."""
    for encoding, halves in {"utf-16-le": start[1::2], "utf-16-be": start[::2]}.items():
        if halves.count(0) * 2 > len(halves):
            return encoding
    broken, whole, strangers = 0, 0, b""
    for chunk in _line_by_line_chunks(stream):
        beyond_ascii = len(chunk) - len(chunk.translate(None, _BEYOND_ASCII))
        if not beyond_ascii:
            continue
        bad = _broken(chunk)
        broken += bad
        # A letter beyond ASCII is at least two bytes of UTF-8.
        whole += (beyond_ascii - bad) // 2
        if bad and len(strangers) < _SAMPLE:
            strangers += b"".join(line for line in chunk.splitlines(keepends=True) if not line.isascii())[:_SAMPLE]
    # A few bad bytes among good ones are bad rows, not another encoding.
    return _western(strangers) if broken > whole else "utf-8"


def _broken(chunk: bytes) -> int:
    """Return how many bytes of a chunk are not of UTF-8."""
    try:
        chunk.decode("utf-8")
    except UnicodeDecodeError:
        return len(STRAY_BYTES.findall(chunk.decode("utf-8", errors="surrogateescape")))
    return 0


def _line_by_line_chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the bytes of a stream in large pieces that end with lines, so that no character is cut in two."""
    stream.seek(0)
    while chunk := stream.read(_CHUNK):
        yield chunk + stream.readline(_CHUNK)


def _western(sample: bytes) -> str:
    """Return the encoding in which a sample is most like French names."""
    return max(_WESTERN, key=lambda encoding: _likeness(sample.decode(encoding, errors="replace")))


def _likeness(text: str) -> int:
    """Return how much a text is like names: by its letters beyond ASCII, and whether they are where these stand."""
    return sum(
        _likeness_of(text[max(at.start() - 1, 0) : at.start()], at[0], text[at.end() : at.end() + 1])
        for at in _STRANGE.finditer(text)
    )


def _likeness_of(before: str, character: str, after: str) -> int:
    is_within = before.isalpha() and after.isalpha()
    if character == _APOSTROPHE:
        return 1 if is_within else _OUT_OF_PLACE
    if character in _SIGNS:
        return _OUT_OF_PLACE if is_within else 1
    if character not in _LETTERS:
        return _NO_SIGN_OF_NAMES
    if character.isupper():
        return _OUT_OF_PLACE if before.islower() else _LETTERS[character]
    if after.isupper() or (before.isupper() and not after.islower()):
        return _OUT_OF_PLACE
    return _LETTERS[character] if before.isalpha() else 1
