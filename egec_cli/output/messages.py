"""Messages to stderr: notes, warnings, errors and the log, subject to --quiet and --verbose."""

import json
import sys
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Any, NamedTuple

from egec_cli.errors import EgecError, UsageError
from egec_cli.settings.types import LogStyle
from egec_cli.translation import Words, translate


class _Verbosity(Enum):
    """How much is shown besides the requested data."""

    QUIET = "quiet"
    USUAL = "usual"
    VERBOSE = "verbose"


_verbosity = _Verbosity.USUAL


def set_verbosity(*, quiet: bool, verbose: bool) -> None:
    """Set how much this process shows.

    Args:
        quiet: show errors, warnings and requested data only: no notes, progress, log or results in a table.
        verbose: show a line for each act.

    Raises:
        UsageError: both are true.
    """
    global _verbosity
    if quiet and verbose:
        raise UsageError("--quiet and --verbose contradict each other", "Give only one of them.")
    _verbosity = _Verbosity.QUIET if quiet else _Verbosity.VERBOSE if verbose else _Verbosity.USUAL


def is_quiet() -> bool:
    """Return whether --quiet was given."""
    return _verbosity is _Verbosity.QUIET


def is_verbose() -> bool:
    """Return whether --verbose was given."""
    return _verbosity is _Verbosity.VERBOSE


def note(text: str, /, **values: object) -> None:
    """Write a line to stderr unless --quiet was given; arguments as for `warn`."""
    if _verbosity is not _Verbosity.QUIET:
        _write(Words(text, **values), "")


def warn(text: str, /, **values: object) -> None:
    """Write a line to stderr. A terminal gets it wrapped at words.

    Args:
        text: a template such as `egec: {file} was left out`; it may have line breaks.
        values: the values by name; a line break in one of them becomes `?`.
    """
    _write(Words(text, **values), "yellow")


def report_end(words: Words) -> None:
    """Write words to stderr when a signal ends the program: as `warn`, but without loading what shows colours."""
    _write(words, None)


def _write(words: Words, colour: str | None) -> None:
    """Write words to stderr.

    Args:
        colour: that of `egec:` at a terminal; empty for none, None for no bold words either.
    """
    text = _message_text(words)
    if sys.stderr.isatty():
        # Imported here, for terminals only.
        from egec_cli.output.screen import message_for_people

        text = message_for_people(text, colour)
    # A message that cannot be written, as in `2>&1 | head` or on a full disk, must not stop the command half-way.
    with suppress(OSError):
        print(text, file=sys.stderr)


def format_message(text: str, /, **values: object) -> str:
    """Return what `warn` writes, in the language of the operator, as one line for each of its lines."""
    return _message_text(Words(text, **values))


def _message_text(words: Words) -> str:
    return to_text(_with_plain_values(words), keep_lines=True)


def _with_plain_values(words: str) -> str:
    if not isinstance(words, Words):
        return words
    return Words(
        words.template,
        **{
            name: _with_plain_values(value) if isinstance(value, Words) else _PlainValue(value)
            for name, value in words.values.items()
        },
    )


class _PlainValue:
    """A value that cannot control a terminal or add a line."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __format__(self, specification: str) -> str:
        return to_text(format(self._value, specification))

    def __repr__(self) -> str:
        return repr(self._value)

    def __str__(self) -> str:
        return to_text(self._value)


class ErrorRecord(NamedTuple):
    """An expected error, as `error` of the JSON object on stderr.

    Attributes:
        code: a stable word for scripts.
        message: what is wrong.
        hint: what to do next; may be empty.
    """

    code: str
    message: str
    hint: str


def render_error(error: EgecError, *, machine: bool, topic: str = "") -> None:
    """Show an expected error on stderr: a JSON object for machines, or message and hint for people.

    Args:
        machine: show the JSON object.
        topic: what people may type after `egec help` to read more; may be empty.
    """
    if machine:
        record = ErrorRecord(error.code, error.message, error.hint)
        print(json.dumps({"error": record._asdict()}, ensure_ascii=False), file=sys.stderr)
        return
    _write(Words("egec: {message}", message=error.message), "red")
    if error.hint:
        _write(Words("      {hint}", hint=error.hint), "")
    if topic and f"egec help {topic}" not in error.hint:
        _write(Words("      {see}", see=Words("See: egec help {topic}", topic=topic)), "")


def log_writer(style: LogStyle | None) -> Callable[[NamedTuple], None] | None:
    """Return a function that writes an act to stderr as a line of the log; None if no log is wanted.

    Args:
        style: the setting; if it is None, `--verbose` logs as text. `--quiet` disables the log.
    """
    if _verbosity is _Verbosity.QUIET or (style is None and _verbosity is not _Verbosity.VERBOSE):
        return None
    line = as_json if style is LogStyle.JSON else _log_text

    def write(act: NamedTuple) -> None:
        # A log that cannot be written, as in `2>&1 | head`, must not stop the command: the act is done.
        with suppress(OSError):
            print(line(act._asdict()), file=sys.stderr, flush=True)

    return write


def _log_text(act: dict[str, Any]) -> str:
    """Return an act in words: `2026-11-25T04:30:00.000Z login refused 1234567890 reason=wrong by root, 312 ms`."""
    words = [act["at"], act["action"], act["outcome"], act["client"]]
    words += [f"{name}={_in_a_word(value)}" for name, value in {"run": act["run"], **act["details"]}.items()]
    text = " ".join(word for word in words if word and not word.endswith("=null"))
    return to_text(f"{text} by {act['actor']} on {act['host']}, {act['ms']} ms")


def _in_a_word(value: Any) -> str:
    return value if isinstance(value, str) and value and not set(value) & set(' "=') else as_json(value)


def to_text(value: Any, *, keep_lines: bool = False) -> str:
    """Return a value as text for people, in their language.

    Control and direction characters, which could control a terminal, become `?`.
    """
    if isinstance(value, dict):
        value = ", ".join(f"{name}: {as_json(one) if isinstance(one, list) else one}" for name, one in value.items())
    text = "" if value is None else as_json(value) if isinstance(value, list) else translate(value)
    if text.isascii() and text.isprintable():
        return text
    kept = "\n" if keep_lines else ""
    return "".join(
        "?" if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c not in kept else c for c in text
    )


def as_json(value: Any) -> str:
    """Return a value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)
