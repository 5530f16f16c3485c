"""`egec stats`."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import groupby
from typing import Annotated

import typer

from egec_cli.commands.root import new_app
from egec_cli.commands.session import open_context
from egec_cli.errors import UsageError
from egec_cli.output.formats import OutputFormat, is_at_terminal, is_hidden, print_line, render_all
from egec_cli.stats.counts import (
    BOUNCED,
    DEFAULT_PERIOD,
    StatisticRecord,
    Statistics,
    Subject,
    count_since,
    count_today,
    list_records,
)
from egec_cli.translation import Words, format_number

app = new_app()


class StatsFormat(StrEnum):
    """The format of statistics."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    OPENMETRICS = "openmetrics"


_TITLES = {
    Subject.CLIENTS: Words("Clients"),
    Subject.ACTIVATIONS: Words("Activations"),
    Subject.LOGINS: Words("Logins"),
    Subject.MAILS: Words("Mails"),
    Subject.BOUNCING: Words("Clients whose address bounces mails"),
    Subject.RUNS: Words("Runs"),
    Subject.PAUSED_RUNS: Words("Clients left in paused runs"),
    Subject.IN_DOUBT: Words("Deliveries in doubt"),
}


@app.command(
    "stats",
    epilog=(
        "egec stats\n"
        "egec stats --since 7d --format csv\n"
        "egec stats --format openmetrics > egec.prom.tmp && mv egec.prom.tmp egec.prom"
    ),
)
def stats_command(
    since: Annotated[
        str,
        typer.Option(
            "--since",
            metavar="DATE|30d",
            help=f"Count activations, logins and mails since this date or age (default: {DEFAULT_PERIOD}).",
        ),
    ] = "",
    output: Annotated[StatsFormat, typer.Option("--format", help="Output format.")] = StatsFormat.TABLE,
) -> None:
    """Count clients, activations, logins, mails, bounces and runs.

    With --format openmetrics, metrics for Prometheus: their counters start at midnight UTC.
    """
    if output is StatsFormat.OPENMETRICS:
        if since:
            raise UsageError(
                "--since and --format openmetrics contradict each other: counters start at midnight UTC",
                "Leave out --since; Prometheus adds up any period.",
            )
        _print_metrics()
        return
    with open_context(only_read=True) as context:
        found = count_since(context, since)
    if output is StatsFormat.TABLE and is_at_terminal():
        _show_bars(found)
    else:
        render_all(list_records(found), StatisticRecord, OutputFormat(output))


def _print_metrics() -> None:
    # Imported here, as below: each format needs its own.
    from egec_cli.output.openmetrics import format_metrics
    from egec_cli.stats.metrics import list_metrics

    with open_context(only_read=True) as context:
        found = count_today(context)
    for line in format_metrics(list_metrics(found)):
        print_line(line)


def _show_bars(found: Statistics) -> None:
    from egec_cli.output.terminal import Bar, Bars, show_bars, text_for_people

    def sections() -> Iterator[Bars]:
        for subject, group in groupby(list_records(found), key=lambda one: one.subject):
            if subject is Subject.DATABASE:
                continue
            records: Sequence[StatisticRecord] = list(group)
            # A mail that came back was accepted first.
            total = format_number(sum(one.number for one in records if one.name != BOUNCED))
            title = Words("{title}: {total}", title=_TITLES[subject], total=total)
            if since := records[0].since:
                title = Words("{title} since {moment}", title=title, moment=text_for_people(since))
            named = [Bar(one.reason or one.name, one.number, colour_of=one.name) for one in records if one.number]
            yield Bars(title, named if subject is not Subject.IN_DOUBT else ())

    if not is_hidden(OutputFormat.TABLE):
        show_bars(list(sections()))
