"""Metrics as the parser of Prometheus' client library reads them."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from egec_cli.output.openmetrics import Kind, Metric, Sample, format_metrics

# Any text but what UTF-8 cannot hold; with the characters that need care more often.
TEXTS = st.text(st.characters(codec="utf-8")) | st.text('a\\"\n{}=,# ')


def parsed(*metrics: Metric) -> list[Metric]:
    """Return the metrics as the parser reads them."""
    text = "".join(f"{line}\n" for line in format_metrics(metrics))
    found = []
    for family in text_string_to_metric_families(text):
        samples = [Sample(one.labels, one.value) for one in family.samples]
        [name] = {one.name for one in family.samples}
        found.append(Metric(name, Kind(family.type), family.documentation, samples))
    return found


@given(st.lists(TEXTS, min_size=1, unique=True), TEXTS)
def test_any_label_is_read_as_it_was_written(labels: list[str], other: str) -> None:
    samples = [Sample({"run": label, "other": other}, number) for number, label in enumerate(labels)]
    metric = Metric("egec_runs", Kind.GAUGE, "Runs.", samples)
    assert parsed(metric) == [metric]


@given(TEXTS.map(str.strip))
def test_any_help_is_on_one_line(text: str) -> None:
    lines = list(format_metrics([Metric("egec_runs", Kind.GAUGE, text, [Sample({}, 1)])]))
    assert [line.partition(" egec_runs")[0] for line in lines] == ["# HELP", "# TYPE", "egec_runs 1"]
    assert not any("\n" in line for line in lines)


@given(st.integers(-(2**53), 2**53) | st.floats(allow_nan=False))
def test_numbers_are_read_as_they_were_written(number: float) -> None:
    for kind, name in ((Kind.GAUGE, "egec_size"), (Kind.COUNTER, "egec_size_total")):
        metric = Metric(name, kind, "Size.", [Sample({}, number)])
        assert parsed(metric) == [metric]


def test_a_metric_without_samples_is_left_out() -> None:
    assert list(format_metrics([Metric("egec_size", Kind.GAUGE, "Size.", [])])) == []
