"""Type the commands of a README dialogue, and compare their output with it."""

import re

from egec_cli.context import detect_actor
from tests.conftest import Ended
from tests.manual.office import Office
from tests.manual.terminal import type_in

IDENTIFIER = r"\b[1-9]\d{9}\b"
# The actor in the examples; the real one has a column of another width.
ACTOR = "egec (marie)"
# What differs from one run to the next, and what stands for it on both sides.
VARIABLE = {
    r"\x1b\[[\d;]*m": "",
    r"/\S*/mail/new/\S+": "a mail",
    r"/\S*/\.env\b": "the settings file",
    r"(?:127\.0\.0\.1|smtp\.example\.org):\d+": "a server",
    r"\d{4}-\d\d-\d\dT[\d:.]+Z": "a moment",
    r"by .+ on \S+,": "by somebody,",
    r'"(actor|host)": "[^"]*"': "somebody",
    rf"(?<=  )(?:{'|'.join(map(re.escape, (ACTOR, detect_actor().user)))})(?: +|$)": "somebody ",
    r"\b(by|actor) +details$": r"\1 details",
    r'\d+ ms$|"ms": \d+': "some time",
    r"(less than a second|about \d+ s) \(a hash takes \d+ ms\)": "some time",
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
            answers=self._office.answers | self._password(command),
        )
        self._last = ended.code
        return ended

    def _password(self, command: str) -> dict[str, str]:
        """Return the answer to the question for the password, if the command names a client."""
        typed = [password for client, password in self._office.passwords.items() if client in command]
        return {"Password:": typed[0]} if typed else {}

    def require(self, shown: list[str], ended: Ended) -> None:
        """Require that the lines shown are those of both streams, each in its order.

        A line `...` stands for lines of standard output up to the next one that is shown, and `(...)` for lines of
        standard error up to the end. `...` at the end of a line stands for the rest of it.
        """
        streams = [[line for line in map(plain, stream.splitlines()) if line] for stream in (ended.out, ended.err)]
        some_are_left_out = False
        for line in filter(None, shown):
            if line == "...":
                some_are_left_out = True
                continue
            if line == "(...)":
                streams[1].clear()
                continue
            while some_are_left_out and streams[0] and not any(self._is(line, one[0]) for one in streams if one):
                streams[0].pop(0)
            heads = [stream for stream in streams if stream and self._is(line, stream[0])]
            assert heads, f"the manual shows {line!r}, but there is {streams}"
            heads[0].pop(0)
            some_are_left_out &= heads[0] is not streams[0]
        if some_are_left_out:
            streams[0].clear()
        assert streams == [[], []], "the manual does not show this"

    def _is(self, shown: str, real: str) -> bool:
        expected = plain(shown)
        if expected.endswith("..."):
            expected = expected.removesuffix("...").rstrip()
            real = real[: len(expected)]
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
