"""Metrics in the text format of Prometheus, which node exporter's textfile collector reads.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """The type of a metric: a counter only rises until it starts again at 0; a gauge may also fall."""

    COUNTER = "counter"
    GAUGE = "gauge"


class Sample(NamedTuple):
    """A value, with the labels that tell it from others of its metric."""

    labels: Mapping[str, str]
    value: float


class Metric(NamedTuple):
    """A metric and its samples; the name of a counter ends with `_total`."""

    name: str
    kind: Kind
    help: str
    samples: Sequence[Sample]


def format_metrics(metrics: Iterable[Metric]) -> Iterator[str]:
    """Yield the lines of the metrics, without line ends; a metric without samples has none."""
    for metric in metrics:
        if metric.samples:
            yield f"# HELP {metric.name} {_escape(metric.help)}"
            yield f"# TYPE {metric.name} {metric.kind}"
            yield from (f"{metric.name}{_format_labels(one.labels)} {one.value}" for one in metric.samples)


def _format_labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    inner = ",".join('{}="{}"'.format(name, _escape(value).replace('"', '\\"')) for name, value in labels.items())
    return f"{{{inner}}}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
