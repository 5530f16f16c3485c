"""A file that names clients, as a command is given it."""

from typing import BinaryIO, NamedTuple


class ClientList(NamedTuple):
    """A file that names clients, one on each line, or in one column of a table with a header.

    Attributes:
        name: of the file, for messages.
        stream: its bytes.
        column: the header of the column; empty where the whole line is the name.
    """

    name: str
    stream: BinaryIO
    column: str = ""
