"""The guide `reference`: what each command takes and writes, how it may end, and what the keys mean."""

from collections.abc import Iterable, Iterator

from egec_cli.commands.contract import CONTRACT, ERRORS, EVERY_COMMAND, READING, Contract, Result
from egec_cli.output.formats import OutputFormat
from egec_cli.output.messages import ErrorRecord
from tests.reference import command_tree, records

BEGIN, END = "<!-- reference -->", "<!-- end -->"


def in_guide(guide: str) -> str:
    """Return the guide with the reference as it is now between its marks."""
    before, mark, rest = guide.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    assert mark
    assert end
    return f"{before}{mark}{section()}{end}{after}"


def section() -> str:
    """Return the reference, as Markdown."""
    return "\n".join([*_commands(), "", *_records(), "", *_errors(), ""])


def _commands() -> Iterator[str]:
    yield f"FORMAT is {', '.join(OutputFormat)}. An option or argument in brackets may be left out."
    yield f"Every command may end with {_listed(EVERY_COMMAND)}; {_also()}. Beside these:"
    yield ""
    yield from _table(["command", "writes", "exit codes of its own"], map(_command, command_tree.commands()))


def _also() -> str:
    return "; ".join(
        f"one that reads the {what} also with "
        + ", ".join(f"{code.value} ({meaning})" for code, meaning in READING[what].items())
        for what in READING
    )


def _command(command: command_tree.Described) -> list[str]:
    contract = CONTRACT[command.path]
    exits = "; ".join(f"{int(code)}: {meaning}" for code, meaning in sorted(contract.exits.items()))
    return [f"`{command.synopsis}`", "; ".join(map(_result, contract.results)), f"{_reads(contract)}{exits}"]


def _reads(contract: Contract) -> str:
    return "" if "database" in contract.reads else "(no database) " if contract.reads else "(nothing is read) "


def _result(result: Result) -> str:
    parts = " + ".join(f"*{records.name(part)}*" for part in result.parts)
    when = f"`{result.when}`: " if result.when.startswith("--") else f"{result.when}: " if result.when else ""
    return f"{when}{'list of ' if result.many else ''}{parts}"


def _records() -> Iterator[str]:
    rows = []
    for kind in records.all_kinds():
        base, keys = records.keys_of_its_own(kind)
        first = f"*{records.name(kind)}*" + (f" (*{records.name(base)}* and)" if base else "")
        rows += [[first if key is keys[0] else "", f"`{key.name}`", key.type, key.meaning] for key in keys]
    yield "What they write, key by key. All keys are always there, in this order; moments are text, RFC 3339 in UTC."
    yield f"*{records.name(ErrorRecord)}* is `error` of the object on stderr, *act* a line of `EGEC_LOG=json`:"
    yield ""
    yield from _table(["what", "key", "type", "meaning"], rows)


def _errors() -> Iterator[str]:
    yield "What `code` of an error, and `failure` of a client, may be:"
    yield ""
    yield from _table(
        ["code", "exit", "meaning"],
        ([f"`{code}`", str(exit_code.value), meaning] for code, (exit_code, meaning) in ERRORS.items()),
    )


def _listed(codes: Iterable[int]) -> str:
    *first, last = [str(int(code)) for code in codes]
    return f"{', '.join(first)} and {last}"


def _table(header: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
