"""The options of an import, and the text of its file: encoding and lines."""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from io import TextIOWrapper
from typing import BinaryIO, NamedTuple

from egec_cli.errors import InvalidInput
from egec_cli.translation import Words


class TableKind(StrEnum):
    """The format of a table."""

    CSV = "csv"
    TSV = "tsv"
    JSON = "json"
    JSONL = "jsonl"


class TableOptions(NamedTuple):
    """The known properties of a table; empty ones are detected.

    Attributes:
        encoding: the name in Python.
        delimiter: the character between two cells.
        columns: fields by column name, in addition to the known columns.
    """

    kind: TableKind | None = None
    encoding: str = ""
    delimiter: str = ""
    columns: Mapping[str, str] = {}


class OnConflict(StrEnum):
    """What to do with a row whose client already exists with different data."""

    FAIL = "fail"
    SKIP = "skip"
    UPDATE = "update"


SAVE_AS_CSV = Words("Open it in the spreadsheet program, choose “Save as” and then “CSV UTF-8” (or “Text CSV”).")
_EXPORT_IT = Words(
    "Export the clients as CSV from the program that keeps them; a spreadsheet saves them as “CSV UTF-8”."
)
_SAMPLE = 1 << 16
_CHUNK = 1 << 17
# The first bytes of other kinds of files, with a name and a hint.
_OTHER_KINDS = {
    b"PK\x03\x04": (Words("a spreadsheet file such as .xlsx or .ods (or a ZIP archive)"), SAVE_AS_CSV),
    b"\xd0\xcf\x11\xe0": (Words("an old Excel file such as .xls, or one with a password"), SAVE_AS_CSV),
    b"<": (Words("a web page or XML"), SAVE_AS_CSV),
    b"{\\rtf": (Words("a document with formatting (RTF)"), SAVE_AS_CSV),
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
# Encodings of which Python writes its own byte order mark; tables keep the mark of the file instead.
_WITHOUT_MARK = {"utf-8-sig": "utf-8", "utf8-sig": "utf-8", "utf-16": "utf-16-le", "utf16": "utf-16-le"}
# With more control characters than one in this many bytes, a file is binary; NUL and layout do not count.
_BYTES_PER_CONTROL = 20
_CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\r\n\0\x1b\f")
_BEYOND_ASCII = bytes(range(0x80, 0x100))
STRAY_BYTES = re.compile("[\udc80-\udcff]")

# The encodings of Western spreadsheets and old programs. The usual one is first, because it wins a tie.
_WESTERN = ("cp1252", "cp850", "mac_roman", "iso8859-15")
_BEYOND_ASCII_CHARACTER = re.compile(r"[^\x00-\x7f]")
# Scores of letters: the more frequent in French names, the higher.
_LETTER_SCORES = {
    **dict.fromkeys("é", 4),
    **dict.fromkeys("èÉ", 3),
    **dict.fromkeys("êëàâçùûôîïœÈÊËÀÂÇÙÛÔÎÏŒ", 2),
    **dict.fromkeys("äöüñáíóúßãÄÖÜÑÁÍÓÚ", 1),
}
_APOSTROPHE = "\u2019"
_SIGNS = frozenset("«»“”\u2018\u2013—…€°\xa0")
_UNUSUAL = -3
_OUT_OF_PLACE = -2

# In characters; the longest cell that the csv module accepts.
LONGEST_LINE = 131_072
_KEPT_OF_LONG_LINE = 200


def detect_encoding(stream: BinaryIO, name: str, given: str = "") -> str:
    """Return the encoding of a seekable stream, which is read to its end. A byte order mark stays in the text.

    Args:
        name: of the file, for messages.
        given: the encoding, if known.

    Raises:
        InvalidInput: the file is not text.
    """
    start = stream.read(_SAMPLE)
    _require_text(start, name)
    marked = next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), "")
    plain = given.lower().replace("_", "-")
    if plain in _WITHOUT_MARK:
        return marked or _WITHOUT_MARK[plain]
    return given or marked or _guess_encoding(stream, start)


def _require_text(start: bytes, name: str) -> None:
    for beginning, (kind, hint) in _OTHER_KINDS.items():
        if start.startswith(beginning):
            raise InvalidInput("{name} is {kind}, which egec does not read", hint, name=name, kind=kind)
    controls = len(start) - len(start.translate(None, _CONTROLS))
    if controls * _BYTES_PER_CONTROL > len(start):
        raise InvalidInput("{name} is not a text file", _EXPORT_IT, name=name)


def _guess_encoding(stream: BinaryIO, start: bytes) -> str:
    """Return the encoding of a stream without a mark: by its bytes, or by the most plausible names."""
    for encoding, halves in {"utf-16-le": start[1::2], "utf-16-be": start[::2]}.items():
        if halves.count(0) * 2 > len(halves):
            return encoding
    broken, whole, suspects = 0, 0, b""
    for chunk in _read_chunks(stream):
        beyond_ascii = len(chunk) - len(chunk.translate(None, _BEYOND_ASCII))
        if not beyond_ascii:
            continue
        bad = _count_invalid_utf8(chunk)
        broken += bad
        # A character beyond ASCII has at least two bytes in UTF-8.
        whole += (beyond_ascii - bad) // 2
        if bad and len(suspects) < _SAMPLE:
            suspects += b"".join(line for line in chunk.splitlines(keepends=True) if not line.isascii())[:_SAMPLE]
    # A few invalid bytes among valid ones mean bad rows, not another encoding.
    if broken <= whole:
        return "utf-8"
    # The encoding in which the sample looks most like French names.
    return max(_WESTERN, key=lambda encoding: _score_text(suspects.decode(encoding, errors="replace")))


def _count_invalid_utf8(chunk: bytes) -> int:
    try:
        chunk.decode("utf-8")
    except UnicodeDecodeError:
        return len(STRAY_BYTES.findall(chunk.decode("utf-8", errors="surrogateescape")))
    return 0


def _read_chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield large chunks of whole lines, so that no character is split."""
    stream.seek(0)
    while chunk := stream.read(_CHUNK):
        yield chunk + stream.readline(_CHUNK)


def _score_text(text: str) -> int:
    """Score the characters beyond ASCII by how plausible they are in names, and in their places."""
    return sum(
        _score_character(text[max(at.start() - 1, 0) : at.start()], at[0], text[at.end() : at.end() + 1])
        for at in _BEYOND_ASCII_CHARACTER.finditer(text)
    )


def _score_character(before: str, character: str, after: str) -> int:
    is_within = before.isalpha() and after.isalpha()
    if character == _APOSTROPHE:
        return 1 if is_within else _OUT_OF_PLACE
    if character in _SIGNS:
        return _OUT_OF_PLACE if is_within else 1
    if character not in _LETTER_SCORES:
        return _UNUSUAL
    if character.isupper():
        return _OUT_OF_PLACE if before.islower() else _LETTER_SCORES[character]
    if after.isupper() or (before.isupper() and not after.islower()):
        return _OUT_OF_PLACE
    return _LETTER_SCORES[character] if before.isalpha() else 1


def open_text(stream: BinaryIO, encoding: str) -> TextIOWrapper:
    """Return the text of a stream; its lines may end with CR alone, as on an old Mac."""
    start = stream.read(_SAMPLE)
    stream.seek(0)
    newline = "\r" if b"\r" in start and b"\n" not in start else "\n"
    # Invalid bytes are kept, so that a rejected row is written unchanged; UTF-16 and UTF-32 do not allow that.
    errors = "replace" if encoding.lower().startswith(("utf-16", "utf-32")) else "surrogateescape"
    try:
        return TextIOWrapper(stream, encoding=encoding, errors=errors, newline=newline)
    except LookupError:
        raise InvalidInput(
            "unknown encoding: {encoding!r}", "Name it as in --encoding windows-1252.", encoding=encoding
        ) from None


def not_in_encoding(name: str, encoding: str) -> InvalidInput:
    """Return the error for a file with bytes that are invalid in its encoding."""
    return InvalidInput(
        "{name} is not text in {encoding}", "Name its encoding, as in --encoding utf-8.", name=name, encoding=encoding
    )


class LineTooLong(Exception):
    """A line is longer than `LONGEST_LINE`."""


class Lines:
    """The lines of a text, counted. Those of the current row are remembered in `raw`, and can be read again."""

    def __init__(self, text: TextIOWrapper, name: str) -> None:
        self._text = text
        self._name = name
        self._again: list[str] = []
        self.number = 0
        self.raw: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else self._read()
        if not line:
            raise StopIteration
        self.number += 1
        self.raw.append(line)
        if len(line) > LONGEST_LINE:
            raise LineTooLong
        return line

    def _read(self) -> str:
        """Return the next line; of one that is too long, only its beginning."""
        try:
            line = rest = self._text.readline(LONGEST_LINE + 1)
            while len(rest) > LONGEST_LINE and rest[-1] not in "\r\n":
                rest = self._text.readline(LONGEST_LINE + 1)
        except UnicodeError:
            raise not_in_encoding(self._name, self._text.encoding) from None
        return line

    def start_row(self) -> None:
        """Forget the lines of the previous row."""
        self.raw.clear()

    def read_again(self, *, but: int = 0) -> None:
        """Return all lines of this row, except the first `but` ones, to be read again."""
        again = self.raw[but:]
        self.number -= len(again)
        self._again += reversed(again)
        del self.raw[but:]

    def raw_line(self) -> str:
        """Return the first line of this row to report it; of one that is too long, only its beginning."""
        line = self.raw[0]
        return line if len(line) <= LONGEST_LINE else line[:_KEPT_OF_LONG_LINE]
