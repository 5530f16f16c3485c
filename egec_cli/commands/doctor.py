"""`egec doctor`, and the display of findings that `egec mail check` shares."""

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple, NoReturn

import typer

from egec_cli.commands.options import OUTPUT, FieldsOption, OutputOption, split_fields
from egec_cli.commands.root import apply_verbosity, new_app
from egec_cli.doctor.examine import examine_installation
from egec_cli.doctor.findings import Finding, NotedFinding, Severity, exit_code
from egec_cli.output.cards import show_text
from egec_cli.output.formats import OutputFormat, is_at_terminal, is_hidden, render_all
from egec_cli.output.messages import is_verbose, to_text, warn
from egec_cli.output.screen import wrap_for
from egec_cli.output.terminal import text_for_people
from egec_cli.translation import Words, count_words, join_words

app = new_app()

VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Show every check at a terminal.",
        callback=apply_verbosity,
        rich_help_panel=OUTPUT,
    ),
]


@app.command("doctor", epilog=("egec doctor\negec doctor -v\negec doctor --format json"))
def doctor_command(
    verbose: VerboseOption = False, output: OutputOption = OutputFormat.TABLE, fields: FieldsOption = ""
) -> None:
    """Check the installation: settings, database, mail, passwords, runs.

    Nothing is changed. A terminal shows the problems, and one line for each group without problems.

    Exit codes: 0 all is well, 3 warnings, 75 only the mail server or the database is unavailable, 78 any other error.
    """
    show_findings(
        list(examine_installation()),
        output,
        split_fields(fields),
        verbose=verbose or is_verbose(),
        expected=[group.title for group in _GROUPS],
    )


def show_findings(
    found: Sequence[Finding],
    output: OutputFormat,
    fields: Sequence[str] = (),
    *,
    verbose: bool = False,
    expected: Sequence[str] = (),
) -> NoReturn:
    """Show findings and end with their exit code. With `--quiet`, warnings and errors go to stderr.

    Args:
        verbose: show every check at a terminal.
        expected: the titles of groups that a terminal names if they were not checked.

    Raises:
        typer.Exit: always, with the code of the worst finding.
        UsageError: a chosen field is unknown.
    """
    if output is OutputFormat.TABLE and is_at_terminal() and not fields and not is_hidden(output):
        _show_to_people(found, verbose, expected)
    else:
        render_all(found, Finding, output, fields)
    if is_hidden(output):
        for one in found:
            if one.verdict is not Severity.OK:
                warn("egec: {check}: {verdict}: {details}. {fix}", **one._asdict())
    raise typer.Exit(exit_code(found))


# Findings for people: problems first, then one line for each group without problems.


class _Group(NamedTuple):
    """Checks that a terminal shows together.

    Attributes:
        names: what the names of the checks begin with, in the order of their notes.
        counted: what the names of those begin with whose number is shown; empty for none.
    """

    title: Words
    names: tuple[str, ...]
    counted: str = ""


_MACHINE = _Group(Words("Machine"), ("clock", "hash_cost"))
_OF_DATABASE = (
    "database", "schema", "disk", "file_rights", "leftovers", "log", "integrity", "server_clock", "newest_entry",
    "shared_emails",
)  # fmt: skip
_GROUPS = (
    _Group(Words("Settings"), ("configuration_file", "environment", "EGEC_"), counted="EGEC_"),
    _Group(Words("Database"), _OF_DATABASE),
    _Group(Words("Deliveries and runs"), ("failed_items", "open_credentials", "paused_runs")),
    _Group(Words("Templates"), ("template",), counted="template"),
    _Group(Words("DKIM signature"), ("dkim",)),
    _Group(Words("Mail server"), ("mail_",)),
    _MACHINE,
)
_MARKS = {Severity.ERROR: "[✗]", Severity.WARNING: "[!]", Severity.OK: "[✓]"}
_NOT_CHECKED = "[-]"
_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.OK: "green"}
_STYLES = {rf"(?m)^{re.escape(mark)}": f"bold {_COLOURS[verdict]}" for verdict, mark in _MARKS.items()}
# Below a mark, and below a group.
_BELOW_MARK, _BELOW_GROUP = " " * 4, " " * 6
_WIDEST_NAME = 30


def _show_to_people(found: Sequence[Finding], verbose: bool, expected: Sequence[str]) -> None:
    groups: dict[_Group, list[Finding]] = {group: [] for group in _GROUPS}
    for one in found:
        groups[next((group for group in _GROUPS if one.check.startswith(group.names)), _MACHINE)].append(one)
    problems = [
        (group, one)
        for verdict in (Severity.ERROR, Severity.WARNING)
        for group, members in groups.items()
        for one in members
        if one.verdict is verdict
    ]
    lines = [line for group, one in problems for line in _describe_problem(group, one)]
    for group, members in groups.items():
        lines += _describe_group(group, members, verbose)
    lines += _describe_unchecked([group.title for group in _GROUPS if group.title in expected and not groups[group]])
    typed = {rf"(?m)^{_BELOW_MARK}{re.escape(one.fix)}$": "bold" for _, one in problems if _is_command(one.fix)}
    show_text("".join(f"{line}\n" for line in lines), {**_STYLES, **typed})
    worst = problems[0][1].verdict if problems else Severity.OK
    verdict = to_text(_describe_verdict(found, verbose))
    show_text(f"{verdict}\n", {".+": f"bold {_COLOURS[worst]}"})


def _is_command(fix: str) -> bool:
    """Return whether a fix is a command to type. All other texts are translated."""
    return bool(fix) and not isinstance(fix, Words)


def _describe_problem(group: _Group, one: Finding) -> Iterator[str]:
    what = Words("{group}: {details}", group=group.title, details=one.details)
    yield from wrap_for(sys.stdout, to_text(what), f"{_MARKS[one.verdict]} ")
    if _is_command(one.fix):
        # Whole, so that it can be copied.
        yield f"{_BELOW_MARK}{to_text(one.fix)}"
    elif one.fix:
        yield from wrap_for(sys.stdout, to_text(one.fix), _BELOW_MARK)


def _describe_unchecked(titles: Sequence[str]) -> Iterator[str]:
    if titles:
        words = Words("Not checked because of the errors: {groups}", groups=join_words(", ", titles))
        yield from wrap_for(sys.stdout, to_text(words), f"{_NOT_CHECKED} ")


def _describe_group(group: _Group, members: Sequence[Finding], verbose: bool) -> Iterator[str]:
    """Yield the lines of a group: none for one with problems, which stand above, unless all checks are wanted."""
    if not members:
        return
    passed = [one for one in members if one.verdict is Severity.OK]
    worst = max((one.verdict for one in members), key=list(Severity).index)
    if worst is Severity.OK:
        number = len([one for one in passed if one.check.startswith(group.counted)]) if group.counted else 0
        title = Words("{group} ({number})", group=group.title, number=number) if number else group.title
        noted = [one for one in passed if isinstance(one, NotedFinding)]
        noted.sort(key=lambda one: [not one.check.startswith(name) for name in group.names])
        notes = ", ".join(text_for_people(one.note) for one in noted)
        words = Words("{group}: {details}", group=title, details=notes) if notes else title
        yield from wrap_for(sys.stdout, to_text(words), f"{_MARKS[worst]} ")
    elif verbose and passed:
        yield f"{_MARKS[worst]} {to_text(group.title)}"
    if verbose:
        width = min(max((len(one.check) for one in passed), default=0), _WIDEST_NAME)
        for one in passed:
            first = f"{_BELOW_GROUP}{one.check:{width}}  "
            yield from wrap_for(sys.stdout, text_for_people(one.details), first, " " * (len(_BELOW_GROUP) + width + 2))


def _describe_verdict(found: Sequence[Finding], verbose: bool) -> Words:
    warnings, errors = (sum(one.verdict is verdict for one in found) for verdict in (Severity.WARNING, Severity.ERROR))
    if not warnings and not errors:
        verdict = Words("No problems found")
    else:
        verdict = join_words(
            ", ",
            [
                count_words("0 warnings", "1 warning", "{number} warnings", warnings),
                count_words("0 errors", "1 error", "{number} errors", errors),
            ],
        )
    if verbose:
        return Words("{verdict} ({number:,} checks)", verdict=verdict, number=len(found))
    return Words("{verdict} ({number:,} checks; -v shows all)", verdict=verdict, number=len(found))
