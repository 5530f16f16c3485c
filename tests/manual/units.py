"""The systemd units of the README, checked without systemd."""

import shlex
from typing import NamedTuple


class Unit(NamedTuple):
    """A unit: its directives in order, also repeated ones."""

    directives: list[tuple[str, str]]

    @classmethod
    def read(cls, text: str) -> "Unit":
        """Read the text of a unit."""
        lines = [line for line in text.splitlines() if line and not line.startswith(("#", ";", "["))]
        return cls([(name, value) for name, _, value in (line.partition("=") for line in lines)])

    def all(self, name: str) -> list[str]:
        """Return the values of the directives of this name."""
        return [value for one, value in self.directives if one == name]

    def one(self, name: str) -> str:
        """Return the value of the one directive of this name."""
        (value,) = self.all(name)
        return value

    def commands(self) -> list[list[str]]:
        """Return the commands that a service runs, one after the other."""
        return [shlex.split(command.replace("%%", "%")) for command in self.all("ExecStart")]

    def variables(self, credentials: str) -> dict[str, str]:
        """Return what the service sets in their environment.

        Args:
            credentials: the folder of its credentials, `%d`.
        """
        assigned = [one for line in self.all("Environment") for one in shlex.split(line.replace("%d", credentials))]
        return {name: value for name, _, value in (one.partition("=") for one in assigned)}
