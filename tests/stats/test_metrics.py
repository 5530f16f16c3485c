"""The metrics of `egec stats`: their types, and no personal data in their labels."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from egec_cli.clients.records import ClientStatus
from egec_cli.output.openmetrics import Kind
from egec_cli.stats.counts import BouncingDomain, MailOutcome, PausedRun, Statistics
from egec_cli.stats.metrics import list_metrics
from egec_cli.store.models import RunState
from tests.output.test_openmetrics import parsed
from tests.test_docs import table

MOMENT = datetime(2026, 7, 11, 12, tzinfo=UTC)
FULL = Statistics(
    since=MOMENT,
    clients=dict(zip(ClientStatus, range(1, 20), strict=False)),
    activations=dict.fromkeys(MailOutcome, 2),
    mails=dict.fromkeys(MailOutcome, 3),
    bounces=4,
    logins=5,
    refusals={"wrong_password": 6, "blocked": 1},
    bouncing=20,
    domains=[BouncingDomain("example.org", 12), BouncingDomain("dupont.example", 2)],
    runs=dict.fromkeys(RunState, 1),
    paused=[PausedRun(7, "spring", 8)],
    in_doubt=9,
    last_accepted=MOMENT,
    database_bytes=10,
)


def labelled(found: Statistics, name: str) -> dict[str, float]:
    """Return the values of a metric by their only label."""
    [metric] = [one for one in list_metrics(found) if one.name == name]
    return {next(iter(sample.labels.values()), ""): sample.value for sample in metric.samples}


def test_the_parser_reads_each_metric_with_its_type_and_help() -> None:
    assert parsed(*list_metrics(FULL)) == [one._replace(samples=list(one.samples)) for one in list_metrics(FULL)]


def test_what_only_rises_is_a_counter_and_what_may_fall_is_a_gauge() -> None:
    counters = [one.name for one in list_metrics(FULL) if one.kind is Kind.COUNTER]
    assert counters == ["egec_activations_total", "egec_logins_total", "egec_mails_total", "egec_bounces_total"]
    assert all(one.name.startswith("egec_") and one.help.endswith(".") for one in list_metrics(FULL))


def test_the_values_are_those_of_the_statistics() -> None:
    assert labelled(FULL, "egec_clients")["new"] == 1
    assert labelled(FULL, "egec_logins_total") == {"accepted": 5, "refused": 7}
    assert labelled(FULL, "egec_refused_logins_today") == {"wrong_password": 6, "blocked": 1}
    assert labelled(FULL, "egec_last_accepted_mail_timestamp_seconds") == {"": MOMENT.timestamp()}
    never = FULL._replace(last_accepted=None)
    assert labelled(never, "egec_last_accepted_mail_timestamp_seconds") == {}


def test_a_domain_of_few_clients_is_not_named() -> None:
    assert labelled(FULL, "egec_bouncing_clients") == {"example.org": 12, "other": 8}


def test_the_name_of_a_run_that_may_name_a_client_is_replaced_by_its_number() -> None:
    runs = [PausedRun(1, "for jeanne@example.org", 2), PausedRun(2, "only 1234567890", 3), PausedRun(3, "#1", 4)]
    assert labelled(FULL._replace(paused=runs), "egec_paused_run_clients") == {"#1": 6, "#2": 3}


@given(
    st.lists(st.text(st.characters(codec="utf-8"), min_size=1) | st.from_regex(r"[a-z ]*[0-9@]+[a-z]*"), unique=True)
)
def test_whatever_the_names_of_runs_no_series_comes_twice_and_none_has_an_address(names: list[str]) -> None:
    paused = [PausedRun(number, name, 1) for number, name in enumerate(names, 1)]
    [metric] = [one for one in list_metrics(FULL._replace(paused=paused)) if one.name == "egec_paused_run_clients"]
    labels = [sample.labels["run"] for sample in metric.samples]
    assert len(labels) == len(set(labels))
    assert not any("@" in label for label in labels)
    assert sum(sample.value for sample in metric.samples) == len(names)


def test_the_guide_lists_each_metric_with_its_type_label_and_meaning() -> None:
    expected = []
    for one in list_metrics(FULL):
        label = next(iter(one.samples[0].labels), "")
        expected.append([f"`{one.name}`", str(one.kind), f"`{label}`" if label else "", one.help])
    assert table("metrics") == expected
