"""The man page `egec.1`, in the language of groff's `man` macros."""

from collections.abc import Iterable, Iterator

from egec_cli import __version__
from egec_cli.commands.contract import CONTRACT, ERRORS, Result
from egec_cli.errors import ExitCode
from egec_cli.settings.variables import SETTINGS
from tests.reference import command_tree, records
from tests.reference.command_tree import Described, Parameter

_ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", '"': "\\(dq", "^": "\\(ha", "~": "\\(ti"}


def text() -> str:
    """Return the page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    root = command_tree.describe_root()
    yield '.\\" Generated from the program by: python -m tests.reference'
    yield f'.TH EGEC 1 "" "egec {__version__}" "User Commands"'
    yield from _section("NAME", ["egec \\- administers the accounts of eGEC: clients, passwords by mail, logins"])
    yield from _section("SYNOPSIS", [_bold("egec") + " [options] " + _bold("command") + " [options] [arguments]"])
    yield from _section("DESCRIPTION", [_plain(" ".join(root.help)), *_OUTPUT])
    yield from _section("OPTIONS", _parameters(root.options))
    yield from _section("COMMANDS", (line for command in command_tree.commands() for line in _command(command)))
    yield from _section("RECORDS", _records())
    exits = ((str(code.value), code.meaning) for code in ExitCode)
    yield from _section("EXIT STATUS", _entries(exits))
    yield from _section("ERRORS", _entries((code, f"{code_.value}: {what}") for code, (code_, what) in ERRORS.items()))
    settings = ((one.name, f"{one.meaning} Default: {one.default}.") for one in SETTINGS)
    yield from _section("ENVIRONMENT", _entries(settings))
    yield from _section("FILES", _entries(_FILES))


_OUTPUT = [
    ".PP",
    "Results go to standard output, everything else to standard error.",
    "With a format other than table, an error is one JSON object on standard error.",
    "CLIENT is an e\\-mail, an identifier or ref:REFERENCE; FILE|\\- is a file, or standard input.",
]
_FILES = (
    ("./.env", "Settings, unless --env-file or EGEC_ENV_FILE names another file."),
    ("~/.config/egec/egec.env", "Settings, if ./.env does not exist."),
    ("/etc/egec/egec.env", "Settings, if neither of these exists."),
    ("~/.local/share/egec/egec.db", "The embedded database, unless EGEC_DATABASE_URL names another one."),
)


def _command(command: Described) -> Iterator[str]:
    yield f'.SS "{_plain(f"egec {command.path}")}"'
    yield _plain(command.synopsis)
    for paragraph in command.help:
        yield ".PP"
        yield _plain(paragraph)
    yield from _parameters([*command.arguments, *command.options])
    contract = CONTRACT[command.path]
    for result in contract.results:
        yield ".PP"
        yield _plain(f"{_when(result)} {'a list of ' if result.many else ''}{', '.join(result.keys)}.")
    if contract.exits:
        yield ".PP"
        yield "Exit codes of its own:"
        yield from _entries((str(int(code)), meaning) for code, meaning in sorted(contract.exits.items()))
    yield ".PP"
    yield f"Example: {_bold(command.example)}"


def _when(result: Result) -> str:
    when = f"With {result.when}" if result.when.startswith("--") else result.when.capitalize()
    return f"{when or 'In machine formats'}:"


def _parameters(parameters: Iterable[Parameter]) -> Iterator[str]:
    for one in parameters:
        default = f" Default: {one.default}." if one.default else ""
        yield from _entries([(" ".join([", ".join(one.names), one.value]).strip(), f"{one.help}{default}")])


def _records() -> Iterator[str]:
    yield "Moments are text, RFC 3339 in UTC."
    for kind in records.all_kinds():
        yield f'.SS "{_plain(records.name(kind))}"'
        for key in records.keys(kind):
            yield from _entries([(key.name, f"{key.type}: {key.meaning}".replace("`", "").replace("*", ""))])


def _section(name: str, lines: Iterable[str]) -> Iterator[str]:
    yield f".SH {name}"
    yield from lines


def _entries(entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    for tag, meaning in entries:
        yield ".TP"
        yield _bold(tag)
        yield _plain(meaning)


def _bold(text: str) -> str:
    return f"\\fB{_plain(text)}\\fR"


def _plain(text: str) -> str:
    """Escape a text for groff."""
    escaped = "".join(_ESCAPES.get(c, c if c.isascii() else f"\\[u{ord(c):04X}]") for c in text)
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
