"""What `egec reissue` would mail: the plan that `--dry-run` shows and that the question before a start sums up."""

import sys
from typing import TYPE_CHECKING, NamedTuple, Self

import typer

from egec_cli.clients.select import Selected
from egec_cli.commands.client_selectors import report_unmatched
from egec_cli.commands.options import CLIENT_IN_TABLE, CLIENT_OPTIONAL, confirm, count_clients
from egec_cli.context import Context
from egec_cli.errors import ExitCode
from egec_cli.output.formats import OutputFormat, render_all
from egec_cli.output.messages import is_quiet, note
from egec_cli.reissue import report
from egec_cli.reissue.runs import RunOptions
from egec_cli.settings.types import Rate
from egec_cli.store.models import ReissueRun
from egec_cli.translation import Words

if TYPE_CHECKING:
    from egec_cli.reissue.preview import RunPreview


class Plan(NamedTuple):
    """What a command would mail.

    Attributes:
        name: the name of the run.
        wanted: the clients: those selected, or those left of an existing run.
        selected: the selection, whose lists may name unknown clients; None without one.
        existing: the run, if it exists.
        rate: the quotas of mails; None for those of EGEC_MAIL_RATE.
        sentence: the organisation's sentence in each mail.
    """

    name: str
    wanted: Selected
    selected: Selected | None
    existing: ReissueRun | None
    rate: Rate | None
    sentence: str

    @classmethod
    def for_start(
        cls, name: str, selected: Selected, existing: ReissueRun | None, rate: Rate | None, sentence: str
    ) -> Self:
        """Return the plan of `start`; `existing` is the run of this name, if there is one."""
        if existing is None:
            return cls(name, selected, selected, None, rate, sentence)
        return cls.for_rest(existing, rate)._replace(selected=selected)

    @classmethod
    def for_rest(cls, run: ReissueRun, rate: Rate | None, *, with_failed: bool = False) -> Self:
        """Return the plan for the rest of a run, which may include the clients whose mail failed."""
        from egec_cli.reissue import preview

        options = RunOptions.parse(run.options)
        rest = preview.RemainingClients(run, with_failed=with_failed)
        return cls(run.name, rest, None, run, options.rate if rate is None else rate, options.sentence)

    def preview(self, context: Context) -> "RunPreview":
        """Count and measure."""
        from egec_cli.mail.transports import choose
        from egec_cli.reissue import preview

        transport = choose.open_transport(context.settings)
        return preview.preview_run(context, self.wanted, transport, rate=self.rate, sentence=self.sentence)


def confirm_start(context: Context, plan: Plan) -> bool:
    """Show the numbers and ask the operator, unless the run exists and has no client left to mail."""
    from egec_cli.commands import reissue_texts
    from egec_cli.output.cards import show_lines

    total, first = plan.wanted.count(), plan.wanted.count_without_password()
    if plan.existing is not None and not total:
        return True
    if not is_quiet():
        existing = None if plan.existing is None else report.load_run(context, plan.existing)
        lines = reissue_texts.preview_lines(plan.name, plan.preview(context), context.settings, existing=existing)
        show_lines(lines, sys.stderr)
    if not first:
        question = Words("Mail new passwords to {clients}?", clients=count_clients(total))
    elif first == total:
        question = Words("Mail first passwords to {clients}?", clients=count_clients(total))
    else:
        question = Words(
            "Mail first passwords to {clients} and new passwords to {others}?",
            clients=count_clients(first),
            others=total - first,
        )
    return confirm(question)


def show_dry_run(context: Context, plan: Plan, output: OutputFormat, *, with_list: bool) -> None:
    """Show what would be mailed: a sample and the numbers; in a machine format, or with --list, also the clients."""
    from egec_cli.commands import reissue_texts
    from egec_cli.output.cards import show_lines
    from egec_cli.reissue import preview

    is_listed = with_list or output is not OutputFormat.TABLE
    if is_listed:
        in_table = (*CLIENT_IN_TABLE, "mail")
        planned = preview.list_planned_clients(context, plan.wanted)
        render_all(planned, preview.PlannedRecord, output, in_table=in_table, optional=CLIENT_OPTIONAL)
    unmatched = report_unmatched(plan.selected) if plan.selected else 0
    found = plan.preview(context)
    existing = None if plan.existing is None else report.load_run(context, plan.existing)
    lines = [
        *reissue_texts.sample_lines(found),
        *reissue_texts.preview_lines(plan.name, found, context.settings, existing=existing, unmatched=unmatched),
    ]
    if not is_quiet():
        show_lines(lines, sys.stderr if is_listed else sys.stdout)
        note("egec: nothing was started")
    if unmatched:
        raise typer.Exit(ExitCode.PARTLY_DONE)
