"""The log of what is done: one entry for each act, told once it is committed, never of one that is rolled back."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from egec_cli.store import peewee


class Act(NamedTuple):
    """Something that was done. Its keys are those of `egec audit list`, but for the last.

    Attributes:
        at: when, as RFC 3339 in UTC.
        action: what was done, such as `client.create` or `login`.
        outcome: how it ended, a stable word.
        client: the identifier of whom it is about.
        run: the name of the re-issue run that it belongs to.
        actor: the user of the operating system, and who or what is behind.
        host: of the process.
        details: more of it; no secret, and no personal data, which nobody could take out of a log again.
        ms: how many milliseconds after the command began it was committed.
    """

    at: str
    action: str
    outcome: str
    client: str | None
    run: str | None
    actor: str
    host: str
    details: dict[str, Any]
    ms: int


class Log:
    """Tells of acts, by `write`, from the moment on when it is made."""

    def __init__(self, write: Callable[[Act], None]) -> None:
        self._write = write
        self._began = time.monotonic()

    def tell(self, database: peewee.Database, acts: Sequence[Act]) -> None:
        """Tell of acts when the transaction under way is committed, or at once where there is none."""

        def told() -> None:
            ms = round((time.monotonic() - self._began) * 1000)
            for act in acts:
                self._write(act._replace(ms=ms))

        database.after_commit(told)
