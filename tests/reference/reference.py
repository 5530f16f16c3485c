"""The guide `reference`: every command with its options, output and exit codes, then codes and keys."""

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from egec_cli.commands.contract import CONTRACT, ERRORS, EVERY_COMMAND, READING, Contract, Result
from egec_cli.context import Act
from egec_cli.errors import ClientNotFound, ExitCode
from egec_cli.output.formats import OutputFormat
from egec_cli.output.messages import ErrorRecord
from tests.reference import command_tree, records
from tests.reference.command_tree import Described, Parameter

_WIDTH = 120
_BEGINNING = """\
# Reference

Every command with its options, the keys that scripts read, error codes and exit codes.

<!-- Generated from the program by `python -m tests.reference`: change the program instead. -->
"""
_FORMATS = {
    OutputFormat.TABLE: "for people; it may change in any release.",
    OutputFormat.JSON: "one object, or one list.",
    OutputFormat.JSONL: "one object per line, each as soon as it is known.",
    OutputFormat.CSV: "a header, then one row per record.",
    OutputFormat.IDS: "the first field only, one per line.",
    OutputFormat.COUNT: "the number of results of a list.",
}
_OUTPUT = f"""\
Results go to stdout, everything else to stderr. Output is UTF-8 in every locale. `--fields a,b` selects fields and
their order. With `json`, `jsonl`, `csv` or `ids`, an error is one JSON object on stderr:

`{{"error": {{"code": "{ClientNotFound.code}", "message": "...", "hint": "..."}}}}`

`--format` sets the format of the results:
"""
_PROMISE = f"""\
Scripts may rely on the names of commands and options, on the values of options, on keys with their types and order, on
codes such as `{ClientNotFound.code}`, and on exit codes. Tables, help texts, messages and hints may change. Any release
may add commands, options, codes, and keys after the existing ones. Scripts should ignore what they do not know.

Before a release removes one of these, an earlier release deprecates it. A deprecated option or command works for at
least one more year, and until the next major version. It prints a warning on stderr, also in a pipe:
`egec: warning: --old is deprecated and goes with 2.0. Use --new.` The changelog lists deprecated keys. Nothing is
deprecated now.
"""


def text() -> str:
    """Return the guide, as Markdown."""
    return _BEGINNING + "".join(f"{line}\n" for line in _lines())


def _lines() -> Iterator[str]:
    commands = list(command_tree.commands())
    yield from _section("## Commands", _table_of_commands(commands))
    yield from _section(
        "## Output", [*_wrapped(_OUTPUT), "", *_items((f"`{one}`", _FORMATS[one]) for one in OutputFormat)]
    )
    yield from _section("## What scripts may rely on", _wrapped(_PROMISE))
    yield from _section("## Exit codes", _exit_codes())
    yield from _section("## Error codes", _error_codes())
    yield from _section("## Options before the command", _parameters(command_tree.describe_root().options))
    for command in commands:
        yield from _section(f"## egec {command.path}", _command(command))
    yield from _section(
        "## Keys", _wrapped("All keys are always present, in this order. Times are text, RFC 3339 in UTC.")
    )
    for kind in records.all_kinds():
        yield from _section(f"### {records.name(kind)}", _keys(kind))


def _section(heading: str, lines: Iterable[str]) -> Iterator[str]:
    yield from ["", heading, ""]
    yield from lines


def _table_of_commands(commands: Iterable[Described]) -> Iterator[str]:
    yield "<!-- commands -->"
    rows = ([f"`{one.with_arguments}`", one.help[0]] for one in commands)
    yield from _table(["command", "what it does"], rows)
    yield "<!-- end -->"


def _exit_codes() -> Iterator[str]:
    yield from _table(["exit code", "meaning"], ([str(code.value), code.meaning] for code in ExitCode))
    yield ""
    everywhere = f"Every command may end with {_listed(EVERY_COMMAND)}"
    reading = (
        f"a command that reads the {what} also with "
        + " or ".join(f"{code.value} ({meaning})" for code, meaning in READING[what].items())
        for what in READING
    )
    yield from _wrapped(f"{everywhere}; {'; '.join(reading)}. The sections of the commands list further ones.")


def _error_codes() -> Iterator[str]:
    yield from _wrapped("The `code` of an error, and the `failure` of a client, may be:")
    yield ""
    rows = ([f"`{code}`", str(exit_code.value), meaning] for code, (exit_code, meaning) in ERRORS.items())
    yield from _table(["code", "exit code", "meaning"], rows)


def _command(command: Described) -> Iterator[str]:
    required = [one.typed for one in command.options if one.is_required]
    optional = ["[OPTIONS]"] if len(required) < len(command.options) else []
    yield from _wrapped(f"`{' '.join([command.with_arguments, *required, *optional])}`")
    yield ""
    yield from _wrapped("\n\n".join(command.help))
    if parameters := [*command.arguments, *command.options]:
        yield ""
        yield from _parameters(parameters)
    contract = CONTRACT[command.path]
    yield ""
    yield from _wrapped(" ".join([*_output(contract), _reads(contract)]))
    if contract.exits:
        yield ""
        yield "Exit codes of its own:"
        yield ""
        yield from _items((str(int(code)), meaning) for code, meaning in sorted(contract.exits.items()))
    yield ""
    yield from _wrapped(f"Example: `{command.example}`")


def _parameters(parameters: Iterable[Parameter]) -> Iterator[str]:
    for one in parameters:
        default = f" (default: {one.default})." if one.default else ""
        typed = " ".join(filter(None, [", ".join(one.names), one.value]))
        yield from _items([(f"`{typed}`", f"{one.help.removesuffix('.') if default else one.help}{default}")])


def _output(contract: Contract) -> Iterator[str]:
    if contract.results:
        yield f"Output: {'; '.join(map(_result, contract.results))}."


def _reads(contract: Contract) -> str:
    if "database" in contract.reads:
        return "It reads the settings and the database."
    return "It reads the settings, but no database." if contract.reads else "It reads neither settings nor database."


def _result(result: Result) -> str:
    parts = " and ".join(_link(part) for part in result.parts)
    when = f"with `{result.when}`, " if result.when.startswith("--") else f"{result.when}, " if result.when else ""
    return f"{when}{'a list of ' if result.many else ''}{parts}"


def _link(kind: type[Any]) -> str:
    name = records.name(kind)
    return f"[{name}](#{name.replace(' ', '-')})"


def _keys(kind: type[Any]) -> Iterator[str]:
    base, keys = records.keys_of_its_own(kind)
    if kind is ErrorRecord:
        yield from _wrapped("The object `error` on stderr.")
        yield ""
    if kind is Act:
        yield from _wrapped("A line of the log with `EGEC_LOG=json`.")
        yield ""
    if base:
        yield from _wrapped(f"The keys of {_link(base)}, and:")
        yield ""
    yield from _items((f"`{key.name}` ({key.type.replace('` `', '`, `')})", key.meaning) for key in keys)


def _items(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, meaning in items:
        yield from _wrap(f"- {name}: {meaning}", "  ")


def _wrapped(text: str) -> Iterator[str]:
    """Yield the lines of paragraphs."""
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            yield ""
        yield from _wrap(" ".join(paragraph.split()))


def _wrap(line: str, indent: str = "") -> list[str]:
    return textwrap.wrap(line, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _listed(codes: Iterable[int]) -> str:
    *first, last = [str(int(code)) for code in codes]
    return f"{', '.join(first)} or {last}"


def _table(header: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
