"""Type the commands of a README dialogue, and compare their output with it."""

import re

from tests.conftest import Ended
from tests.readme.office import Office
from tests.readme.terminal import type_in

IDENTIFIER = r"\b[1-9]\d{9}\b"
# What differs from one run to the next, and what stands for it on both sides.
VARIABLE = {
    r"/\S*/mail/new/\S+": "a mail",
    r"/\S*/\.env\b": "the settings file",
    r"\d{4}-\d\d-\d\dT[\d:.]+Z": "a moment",
    r"by .+ on \S+,": "by somebody,",
    r'"(actor|host)": "[^"]*"': "somebody",
    r'\d+ ms$|"ms": \d+': "some time",
}


class Dialogue:
    """Commands typed one after another, whose output the README shows.

    Attributes:
        identifiers: those that clients really got, by those that the README shows.
    """

    def __init__(self, where: Office) -> None:
        self._office = where
        self._last = 0
        self.identifiers: dict[str, str] = {}

    def type(self, command: str) -> Ended:
        """Run a command, with the real identifiers of the clients."""
        for shown, real in self.identifiers.items():
            command = command.replace(shown, real)
        ended = type_in(
            ["bash", "-c", f"(exit {self._last}); {command}"],
            folder=self._office.folder,
            variables=self._office.variables,
            answers=self._office.answers,
        )
        self._last = ended.code
        return ended

    def require(self, shown: list[str], ended: Ended) -> None:
        """Require that the lines shown are those of both streams, each in its order; `...` stands for the others."""
        streams = [[plain(line) for line in stream.splitlines() if line] for stream in (ended.out, ended.err)]
        for line in shown:
            if line == "...":
                streams[0].clear()
                continue
            heads = [stream for stream in streams if stream and self._is(line, stream[0])]
            assert heads, f"the README shows {line!r}, but there is {streams}"
            heads[0].pop(0)
        assert streams == [[], []], "the README does not show this"

    def _is(self, shown: str, real: str) -> bool:
        expected = plain(shown)
        # Whom the README names for the first time, this run has given another number.
        here = dict(zip(re.findall(IDENTIFIER, expected), re.findall(IDENTIFIER, real), strict=False))
        known = here | self.identifiers
        for one in here:
            expected = expected.replace(one, known[one])
        if expected != real:
            return False
        self.identifiers = known
        return True


def plain(line: str) -> str:
    """Return the line without the parts that differ between runs."""
    for pattern, stand_in in VARIABLE.items():
        line = re.sub(pattern, stand_in, line)
    return line.rstrip()
