"""Selectors by name, as a run stores them, in words: as options of the command line, and for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from egec_cli.errors import quoted
from egec_cli.translation import Words, count_words, join_words

# The selectors that are files.
LISTS = frozenset({"listed", "excluded"})
# The options of selectors that have another name than the selector.
_OPTIONS = {"everyone": "--all", "listed": "--from", "excluded": "--exclude"}


def describe_selectors(selectors: Mapping[str, Any]) -> str:
    """Return selectors as options; the names of files are unknown."""
    typed = []
    for name, value in sorted(selectors.items()):
        option = _OPTIONS.get(name) or f"--{name.replace('_', '-')}"
        if name in LISTS:
            typed.append(f"{option} FILE")
        else:
            typed.append(option if value is True else f"{option} {quoted(value)}")
    # One option serves both files.
    columns = {value["column"] for name, value in selectors.items() if name in LISTS and value["column"]}
    return " ".join([*typed, *(f"--column {quoted(column)}" for column in columns)])


def explain_selectors(selectors: Mapping[str, Any], separator: str = "; ") -> Words:
    """Return selectors in the words of people."""
    return join_words(separator, _explain(selectors))


# Selectors without a value.
_FLAGS = {
    "everyone": Words("all clients"),
    "never_logged_in": Words("never logged in"),
    "last_mail_failed": Words("last mail refused or bounced"),
    "weak_hash": Words("weak password hash"),
    "listed": Words("in the list"),
    "excluded": Words("except those in a list"),
}
# Selectors by a date, and by an age.
_TIMES = {
    "last_login_before": (Words("last login before {date}"), Words("last login more than {age} ago")),
    "created_before": (Words("created before {date}"), Words("created more than {age} ago")),
    "created_after": (Words("created on {date} or later"), Words("created within the last {age}")),
    "issued_before": (Words("password from before {date}"), Words("password older than {age}")),
}
_UNITS = {
    "min": (Words("0 minutes"), Words("1 minute"), Words("{number} minutes")),
    "h": (Words("0 hours"), Words("1 hour"), Words("{number} hours")),
    "d": (Words("0 days"), Words("1 day"), Words("{number} days")),
    "w": (Words("0 weeks"), Words("1 week"), Words("{number} weeks")),
    "m": (Words("0 months"), Words("1 month"), Words("{number} months")),
    "y": (Words("0 years"), Words("1 year"), Words("{number} years")),
}
_VALUES = {
    "status": Words("status {value}"),
    "email_domain": Words("e-mail at {value}"),
    "limit": Words("at most {value}"),
}


def _explain(selectors: Mapping[str, Any]) -> Iterator[Words]:
    for name, value in sorted(selectors.items()):
        if name in _FLAGS:
            yield _FLAGS[name]
        elif name in _TIMES:
            yield _explain_time(*_TIMES[name], value)
        else:
            yield Words(_VALUES[name].template, value=value)


def _explain_time(of_date: Words, of_age: Words, text: str) -> Words:
    unit = text.lstrip("0123456789")
    if unit not in _UNITS:
        return Words(of_date.template, date=text)
    return Words(of_age.template, age=count_words(*_UNITS[unit], int(text.removesuffix(unit))))
