"""Selectors in words: as options of the command line."""

from collections.abc import Mapping
from typing import Any

from egec_cli.errors import quoted

# The selectors that are files.
LISTS = frozenset({"listed", "excluded"})
# The options of selectors that have another name than the selector.
_OPTIONS = {"everyone": "--all", "listed": "--from", "excluded": "--exclude"}


def describe_selectors(selectors: Mapping[str, Any]) -> str:
    """Return selectors by name, as a run stores them, as command-line options; the names of files are unknown."""
    typed = []
    for name, value in selectors.items():
        option = _OPTIONS.get(name) or f"--{name.replace('_', '-')}"
        if name in LISTS:
            typed.append(f"{option} FILE")
        else:
            typed.append(option if value is True else f"{option} {quoted(value)}")
    # One option serves both files.
    columns = {value["column"] for name, value in selectors.items() if name in LISTS and value["column"]}
    return " ".join([*typed, *(f"--column {quoted(column)}" for column in columns)])
