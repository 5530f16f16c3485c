"""Break each promise of egec in several ways, in a copy: the tests that name the promise must fail.

    python -m tests.mutation.breaks [TEXT ...]     # all breaks, or those whose promise or change has one of the texts

`breaks.toml` lists the breaks. The exit code is 0 if every break is noticed.
"""

import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.mutation.trial import copies

BREAKS = Path(__file__).with_name("breaks.toml")


class Edit(NamedTuple):
    """A text of a module, which occurs there once, and what replaces it."""

    module: str
    before: str
    after: str


class Break(NamedTuple):
    """A change of the program that breaks a promise.

    Attributes:
        promise: what is broken: P1 to P4 as the architecture page of the manual numbers them, or a limit.
        change: what the program does wrong then.
        tests: the tests that must fail, all of them.
        edits: the changes of the source.
    """

    promise: str
    change: str
    tests: Sequence[str]
    edits: Sequence[Edit]

    def apply(self, read: Callable[[str], str]) -> dict[str, str]:
        """Return the changed text of each module.

        Args:
            read: returns the text of a module.

        Raises:
            ValueError: a module does not have exactly one place to change.
        """
        changed: dict[str, str] = {}
        for edit in self.edits:
            text = changed[edit.module] if edit.module in changed else read(edit.module)
            if (found := text.count(edit.before)) != 1:
                raise ValueError(f"{edit.module} has {found} places to change, not 1: {edit.before}")
            changed[edit.module] = text.replace(edit.before, edit.after)
        return changed


def load_breaks() -> list[Break]:
    """Return the breaks that are listed."""
    return [
        Break(one["promise"], one["change"], one["tests"], [Edit(**edit) for edit in one["edit"]])
        for one in tomllib.loads(BREAKS.read_text())["break"]
    ]


def main(texts: Sequence[str]) -> int:
    """Try the breaks that are meant, and return the exit code."""
    meant = [one for one in load_breaks() if not texts or any(text in f"{one.promise}: {one.change}" for text in texts)]
    if not meant:
        sys.exit("no break is meant")
    unnoticed = 0
    with copies(1) as [copy]:
        copy.require_pass(*dict.fromkeys(test for one in meant for test in one.tests))
        for one in meant:
            passed = copy.list_passed(one.apply(copy.read), one.tests)
            unnoticed += bool(passed)
            outcome = f"NOT NOTICED by {', '.join(passed)}" if passed else "noticed"
            print(f"{outcome}: {one.promise}: {one.change}", flush=True)
    print(f"{len(meant) - unnoticed} of {len(meant)} breaks are noticed")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
