"""The statistics as metrics for Prometheus.

What can fall is a gauge. What happened is counted from midnight UTC, so each counter starts again at 0 once a day, as
Prometheus expects of counters that restart. Totals of all time would fall when `egec audit prune` deletes events, and
Prometheus would take the remaining total for new events.

No label holds an e-mail, an identifier or the domain of a single person.
"""

import re
from collections import Counter
from collections.abc import Iterable

from egec_cli import __version__
from egec_cli.output.openmetrics import Kind, Metric, Sample
from egec_cli.stats.counts import PausedRun, Statistics

# A domain with fewer clients could be that of one person.
FEWEST_CLIENTS_OF_A_DOMAIN = 3
_OTHER = "other"
_PERSONAL = re.compile(r"@|[0-9]{10}")


def list_metrics(found: Statistics) -> list[Metric]:
    """Return all metrics; one without a value has no sample."""
    return [
        _metric("egec_info", "The version of egec.", [Sample({"version": __version__}, 1)]),
        _metric("egec_clients", "Clients by status, without erased ones.", _by("status", found.clients.items())),
        _metric(
            "egec_activations_total",
            "Passwords issued to single clients since midnight UTC, mailed or shown to an operator, by outcome.",
            _by("outcome", found.activations.items()),
        ),
        _metric(
            "egec_logins_total",
            "Logins since midnight UTC by outcome.",
            _by("outcome", {"accepted": found.logins, "refused": sum(found.refusals.values())}.items()),
        ),
        # A gauge: if a client is erased, the reasons of the client's refused logins are forgotten.
        _metric(
            "egec_refused_logins_today",
            "Refused logins since midnight UTC by reason.",
            _by("reason", found.refusals.items()),
        ),
        _metric(
            "egec_mails_total",
            "Mails handed to the mail server since midnight UTC, of runs too, by outcome.",
            _by("outcome", found.mails.items()),
        ),
        _metric(
            "egec_bounces_total",
            "Mails that came back, by delivery reports read since midnight UTC.",
            [Sample({}, found.bounces)],
        ),
        _metric(
            "egec_bouncing_clients",
            "Clients whose address has bounced a mail and has not worked since, by domain.",
            _by("domain", _frequent_domains(found).items()),
        ),
        _metric("egec_runs", "Runs by state; a run without a worker is paused.", _by("state", found.runs.items())),
        _metric(
            "egec_paused_run_clients",
            "Clients not mailed yet, by paused run.",
            _by("run", _sum((_run_label(one), one.remaining) for one in found.paused).items()),
        ),
        _metric(
            "egec_deliveries_in_doubt", "Mails whose answer by the mail server was lost.", [Sample({}, found.in_doubt)]
        ),
        _metric(
            "egec_last_accepted_mail_timestamp_seconds",
            "When the mail server last accepted a mail with a password.",
            [Sample({}, found.last_accepted.timestamp())] if found.last_accepted else [],
        ),
        _metric("egec_database_bytes", "Size of the database.", [Sample({}, found.database_bytes)]),
    ]


def _metric(name: str, help_text: str, samples: Iterable[Sample]) -> Metric:
    return Metric(name, Kind.COUNTER if name.endswith("_total") else Kind.GAUGE, help_text, tuple(samples))


def _by(label: str, numbers: Iterable[tuple[str, int]]) -> list[Sample]:
    return [Sample({label: value}, number) for value, number in numbers]


def _sum(pairs: Iterable[tuple[str, int]]) -> Counter[str]:
    numbers: Counter[str] = Counter()
    for label, number in pairs:
        numbers[label] += number
    return numbers


def _frequent_domains(found: Statistics) -> dict[str, int]:
    frequent = {one.domain: one.clients for one in found.domains if one.clients >= FEWEST_CLIENTS_OF_A_DOMAIN}
    return frequent | {_OTHER: found.bouncing - sum(frequent.values())}


def _run_label(run: PausedRun) -> str:
    """Return the name of a run, or its number if the name may hold an e-mail or an identifier."""
    return f"#{run.key}" if _PERSONAL.search(run.name) else run.name
