"""Change many clients, from a list or by selectors: preview, question, progress and summary."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, NamedTuple, Protocol

import typer

from egec_cli.clients import bulk, change
from egec_cli.clients.bulk import Changing, PlannedChange
from egec_cli.clients.change import ChangeOutcome, ChangeRecord, Guard
from egec_cli.clients.name_files import NamedClients
from egec_cli.clients.select import (
    Selected,
    Selection,
    check_selection,
    explain_selectors,
    require_expected,
    require_selector,
)
from egec_cli.commands.client_selectors import Selectors, open_selection, report_unmatched
from egec_cli.commands.options import can_ask, confirm, count_clients
from egec_cli.commands.session import open_context
from egec_cli.context import Context
from egec_cli.errors import ExitCode, UsageError
from egec_cli.output.formats import OutputFormat, is_hidden, render_all
from egec_cli.output.messages import note, to_text, warn
from egec_cli.output.progress import ProgressLine, can_show_progress
from egec_cli.translation import Words, count_words, join_words

DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Show which clients would be changed, and why, without changing anything (not with CLIENT)."
    ),
]
ExpectOption = Annotated[
    int | None,
    typer.Option(
        "--expect",
        metavar="N",
        min=0,
        help="Change the clients only if exactly this number would be changed (not with CLIENT).",
    ),
]
YesToAllOption = Annotated[
    bool,
    typer.Option("--yes", help="Do not ask for confirmation (without a terminal, this or --expect is required)."),
]

# The clients that a table of --dry-run shows.
_SAMPLE = 10


def _skip(_context: Context, _identifier: str | None) -> None:
    """Do nothing after a change."""


class Kind(NamedTuple):
    """A kind of change.

    Attributes:
        outcome: the outcome for a client who is changed.
        change: changes those of the clients with these keys that pass a guard; returns the results by key.
        name: what is being done, for the progress.
        question: the question before a change, with the number of clients.
        of_list: the question before a change of all clients in a list; empty for none.
        finish: runs once at the end, also if nothing was left to change: an earlier command may have been interrupted
            there. It gets the identifier of one of the clients, if there is one.
    """

    outcome: ChangeOutcome
    change: Callable[[Context, Sequence[int], Guard], Mapping[int, ChangeRecord]]
    name: Words
    question: Words
    of_list: str = ""
    finish: Callable[[Context, str | None], None] = _skip


class Request(NamedTuple):
    """The options of a change of many clients."""

    selectors: Selectors
    dry_run: bool
    expect: int | None
    yes: bool

    @property
    def is_plain_list(self) -> bool:
        """Whether the clients are those of a list, each line of which gets a result."""
        selectors = self.selectors
        alone = Selectors(from_file=selectors.from_file, column=selectors.column)
        return bool(selectors.from_file) and selectors == alone and not self.dry_run and self.expect is None


def require_one_target(client: str, request: Request) -> None:
    """Require either a client or a way to select many.

    Raises:
        UsageError: both or neither is given, or an option does not go with a single client.
    """
    is_selected = request.selectors != Selectors()
    if client and is_selected:
        raise UsageError(
            "CLIENT and selectors contradict each other", "Give one CLIENT, or --from FILE or other selectors."
        )
    if client and (request.dry_run or request.expect is not None):
        raise UsageError(
            "--dry-run and --expect are for many clients", "Omit them, or select clients by --from or another selector."
        )
    if not (client or is_selected):
        raise UsageError(
            "no client is selected",
            "Give one CLIENT, or --from FILE, --status or another selector; nothing was changed.",
        )


def change_many(kind: Kind, request: Request, output: OutputFormat) -> None:
    """Change the clients, show the outcome of each, and end with the right exit code."""
    with open_selection(request.selectors) as selection, open_context(only_read=request.dry_run) as context:
        if request.is_plain_list:
            failed = _change_list(context, kind, request, selection, output)
        else:
            selected = select_clients(context, kind, request, selection)
            changing = Changing(selected, kind.outcome)
            if request.dry_run:
                failed = show_dry_run(context, changing, selected, request, output)
            else:
                failed = change_selected(context, kind, request, selected, changing, output)
                failed += report_unmatched(selected)
    if failed:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def select_clients(context: Context, kind: Kind, request: Request, selection: Selection) -> Selected:
    """Check the selectors, and only then that the question can be asked.

    Raises:
        UsageError: as `Selected` and `require_confirmation` say.
        InvalidInput: a list is invalid.
    """
    require_selector(selection)
    check_selection(context, selection, to_mail=False)
    if "-" in _files(request.selectors):
        # Before a list is typed that could not be used.
        require_confirmation(kind, request)
    selected = Selected(context, selection, to_mail=False)
    require_confirmation(kind, request)
    return selected


def require_confirmation(kind: Kind, request: Request) -> None:
    """Require what a change without a question needs.

    Raises:
        UsageError: there is no terminal for the question, or standard input is a list.
    """
    if request.dry_run:
        return
    if _needs_confirmation(kind, request) and ("-" in _files(request.selectors) or not can_ask()):
        raise UsageError("confirmation needs a terminal", "Add --yes or --expect N to skip it; nothing was changed.")


def _needs_confirmation(kind: Kind, request: Request) -> bool:
    """Return whether to ask: about all but lists, and about lists if the change is for good."""
    return not request.yes and request.expect is None and bool(kind.of_list or not request.selectors.from_file)


def _files(selectors: Selectors) -> set[str]:
    return {selectors.from_file, selectors.exclude}


def _confirm(question: Words) -> None:
    if not confirm(question):
        note("egec: nothing was changed")
        raise typer.Exit(ExitCode.REFUSED)


def _change_list(context: Context, kind: Kind, request: Request, selection: Selection, output: OutputFormat) -> int:
    """Change the clients that a list names, one result for each line; return the number of those that failed."""
    if "-" in _files(request.selectors):
        # As in `select_clients`.
        require_confirmation(kind, request)
    named = NamedClients(context, {"listed": selection.listed})
    require_confirmation(kind, request)
    if _needs_confirmation(kind, request):
        _confirm(Words(kind.of_list, from_file=to_text(request.selectors.from_file)))
    with ProgressLine(kind.name, Words("clients"), total=named.count_lines()) as line:
        summary = _Summary(line)
        records = change.change_each(named, lambda keys: kind.change(context, keys, change.NO_GUARD))
        render_all(summary.count(records, output), ChangeRecord, output, flush=True, are_outcomes=True)
    summary.report(lambda: Words("the list is empty"))
    kind.finish(context, summary.identifier)
    return summary.failed


class Walk(Protocol):
    """Changes the selected clients one after the other."""

    def change(self, at_most: int | None) -> Iterator[ChangeRecord]:
        """Change at most this number of clients and yield the results, without those who are left for later."""

    def count_postponed(self) -> int:
        """Return the number of clients who are left for later."""


def change_selected(
    context: Context,
    kind: Kind,
    request: Request,
    selected: Selected,
    changing: Changing,
    output: OutputFormat,
    *,
    walk: Walk | None = None,
    ask: Callable[[], Words] | None = None,
) -> int:
    """Change the selected clients; return the number of those that failed.

    Args:
        walk: changes them (default: in batches, as the kind says).
        ask: returns the question before the change (default: that of the kind).
    """
    agreed: int | None = None
    needs_confirmation = _needs_confirmation(kind, request)
    if needs_confirmation or request.expect is not None or can_show_progress():
        agreed = changing.count()
    _require_expected(request, agreed)
    if needs_confirmation and agreed:
        _note_selection(selected)
        _confirm(ask() if ask else Words(kind.question.template, clients=count_clients(agreed)))
    with ProgressLine(kind.name, Words("clients"), total=agreed) as line:
        summary = _Summary(line)
        # Clients who match only since the number was agreed wait for the next command.
        at_most = agreed if needs_confirmation or request.expect is not None else None
        if walk is None:
            # A pipe sees the results of a batch before the next one begins.
            records = bulk.change_selected(
                context, changing, kind.change, at_most=at_most, before_batch=lambda: sys.stdout.flush()
            )
        else:
            records = walk.change(at_most)
        render_all(summary.count(records, output), ChangeRecord, output, flush=walk is not None, are_outcomes=True)
    if walk is not None:
        # One number: they may be thousands.
        summary.add(ChangeOutcome.POSTPONED, walk.count_postponed())
    summary.report(lambda: _explain_nothing(selected))
    kind.finish(context, summary.identifier)
    return summary.failed


def _require_expected(request: Request, number: int | None) -> None:
    if request.expect is not None:
        require_expected(
            number or 0,
            request.expect,
            Words("Nothing was changed. Correct the selectors or --expect; --dry-run shows the clients."),
        )


def _note_selection(selected: Selected) -> None:
    note("egec: selected: {selectors}", selectors=explain_selectors(selected.selectors()))


def _explain_nothing(selected: Selected) -> Words:
    """Return why no client was changed: perhaps a selector is mistyped, or the change was made before."""
    if selected.matches_any():
        return Words("no client to change")
    return Words("no client matches: {selectors}", selectors=explain_selectors(selected.selectors()))


_IN_TABLE = ("identifier", "email", "last_name", "status", "why")
_OPTIONAL = ("status", "last_name")


def show_dry_run(
    context: Context,
    changing: Changing,
    selected: Selected,
    request: Request,
    output: OutputFormat,
    *,
    count_effects: Callable[[], Words] | None = None,
) -> int:
    """Show the clients who would be changed, in a table only a sample; return the number of unknown lines.

    Args:
        count_effects: return what would be done to how many clients (default: that they would be changed).

    Raises:
        InvalidInput: the number is not the expected one.
    """
    is_table = output is OutputFormat.TABLE
    number = changing.count() if is_table or request.expect is not None else None
    _require_expected(request, number)
    planned = changing.preview(context, at_most=_SAMPLE if is_table else None)
    render_all(planned, PlannedChange, output, in_table=_IN_TABLE, optional=_OPTIONAL, empty=Words("No such clients."))
    sys.stdout.flush()
    _note_selection(selected)
    unmatched = report_unmatched(selected)
    if not (number or selected.matches_any()):
        note("egec: no client matches; nothing was changed")
    elif count_effects is not None:
        note("egec: {effects}; nothing was changed", effects=count_effects())
    elif number is not None:
        note(
            "egec: {clients} would be changed; nothing was changed",
            clients=count_clients(number),
        )
    else:
        note("egec: nothing was changed")
    return unmatched


def _warn_of(record: ChangeRecord) -> None:
    """Report a failure that no table shows, or a notice that counts although it may not have arrived."""
    client, details = record.identifier, record.details or ""
    if record.outcome is ChangeOutcome.NOTIFIED:
        warn("egec: the notice to client {client} may not have arrived: {details}", client=client, details=details)
        return
    # The answers of mail servers do not name the client.
    is_named = client is None or client in details
    what = details if is_named else Words("client {client}: {details}", client=client, details=details)
    if record.line is None:
        warn("egec: {details}", details=what)
    else:
        warn("egec: line {line}: {details}", line=record.line, details=what)


_COUNTED = {
    ChangeOutcome.DISABLED: (Words("0 disabled"), Words("1 disabled"), Words("{number} disabled")),
    ChangeOutcome.ENABLED: (Words("0 enabled"), Words("1 enabled"), Words("{number} enabled")),
    ChangeOutcome.UNBLOCKED: (Words("0 unblocked"), Words("1 unblocked"), Words("{number} unblocked")),
    ChangeOutcome.ERASED: (Words("0 erased"), Words("1 erased"), Words("{number} erased")),
    ChangeOutcome.NOTIFIED: (Words("0 notified"), Words("1 notified"), Words("{number} notified")),
    ChangeOutcome.POSTPONED: (Words("0 postponed"), Words("1 postponed"), Words("{number} postponed")),
    ChangeOutcome.UNCHANGED: (Words("0 unchanged"), Words("1 unchanged"), Words("{number} unchanged")),
    ChangeOutcome.FAILED: (Words("0 failed"), Words("1 failed"), Words("{number} failed")),
}


class _Summary:
    """The outcomes of a change of many clients, counted, also on a progress line."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line
        self._numbers = Counter[ChangeOutcome]()
        # One client whose change did not fail.
        self.identifier: str | None = None

    @property
    def failed(self) -> int:
        """The number of changes that failed."""
        return self._numbers[ChangeOutcome.FAILED]

    def count(self, records: Iterator[ChangeRecord], output: OutputFormat) -> Iterator[ChangeRecord]:
        """Count the records and pass them on."""
        # A local count of equal outcomes in a row: counting each in the table takes as long as changing it.
        last, number = ChangeOutcome.UNCHANGED, 0
        for record in records:
            yield record
            if record.outcome is not last:
                self._numbers[last] += number
                last, number = record.outcome, 0
            number += 1
            self._line.done += 1
            if last is not ChangeOutcome.FAILED:
                self.identifier = record.identifier
            if record.failure is not None and is_hidden(output):
                _warn_of(record)
        self._numbers[last] += number

    def add(self, outcome: ChangeOutcome, number: int) -> None:
        """Count clients without records."""
        self._numbers[outcome] += number

    def report(self, explain_nothing: Callable[[], Words]) -> None:
        """Show the numbers on stderr, or why there was nothing to do."""
        show = warn if self.failed else note
        counts = [count_words(*_COUNTED[outcome], number) for outcome, number in self._numbers.items() if number]
        show("egec: {summary}", summary=join_words(", ", counts) if counts else explain_nothing())
