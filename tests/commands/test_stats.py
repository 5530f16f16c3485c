"""`egec stats` as a process: at a terminal, in a pipe and for Prometheus; the scripts and rules of the guide."""

import csv
import io
import json
import os
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from egec_cli.output.openmetrics import Kind
from egec_cli.stats.metrics import list_metrics
from tests.conftest import Egec
from tests.manual.blocks import executed_by
from tests.manual.office import program
from tests.manual.terminal import type_in
from tests.screens.emulator import PROGRAM, see
from tests.stats.test_metrics import FULL

CHECK, RULES = executed_by("tests/commands/test_stats.py")
# Of node exporter itself: https://github.com/prometheus/node_exporter#textfile-collector
OF_NODE_EXPORTER = {"node_textfile_mtime_seconds"}


@pytest.fixture
def filled(egec: Egec) -> None:
    """Make a database with a client who has a password and one who has none."""
    for name in ("jeanne", "marc"):
        assert egec("client", "create", f"{name}@example.org").code == 0
    assert egec("activate", "jeanne@example.org").code == 0


def test_every_format_has_the_same_numbers(filled: None, egec: Egec) -> None:
    records = json.loads(egec("stats", "--format", "json").out)
    numbers = {(one["subject"], one["name"], one["reason"]): one["number"] for one in records}
    assert len(numbers) == len(records)
    assert numbers["clients", "new", ""] == numbers["clients", "active", ""] == numbers["mails", "accepted", ""] == 1
    assert {one["subject"] for one in records if one["since"]} == {"activations", "logins", "mails"}
    rows = list(csv.DictReader(io.StringIO(egec("stats", "--format", "csv").out)))
    assert [(one["subject"], one["name"], one["reason"], int(one["number"])) for one in rows] == [
        (*key, number) for key, number in numbers.items()
    ]
    lines = egec("stats").out.splitlines()
    assert len(lines) == 1 + len(records)
    assert not any("█" in line for line in lines)
    assert egec("--quiet", "stats").out == ""


def test_the_metrics_are_those_that_the_parser_reads(filled: None, egec: Egec) -> None:
    ended = egec("stats", "--format", "openmetrics")
    assert (ended.code, ended.err) == (0, "")
    families = {one.name: one for one in text_string_to_metric_families(ended.out)}
    assert {sample.labels["status"]: sample.value for sample in families["egec_clients"].samples}["new"] == 1
    assert families["egec_mails"].type == "counter"
    assert not re.search(r"@|example\.org|\b\d{10}\b", re.sub(r"(?m)^egec_last_accepted.*$", "", ended.out))


def test_a_period_and_metrics_contradict_each_other(filled: None, egec: Egec) -> None:
    ended = egec("stats", "--format", "openmetrics", "--since", "7d")
    assert (ended.code, ended.out) == (2, "")
    assert "counters start at midnight UTC" in ended.err
    assert egec("stats", "--since", "soon").code == 2


@pytest.mark.parametrize("columns", [30, 80, 140])
def test_bars_fit_the_terminal_and_need_no_colour(filled: None, columns: int) -> None:
    seen = see([*PROGRAM, "stats"], columns=columns, lines=50)
    assert (seen.code, seen.wrapped, seen.coloured) == (0, False, True)
    assert seen.lines[0] == "Clients: 2"
    bars = [line for line in seen.lines if line.startswith(("  new ", "  active "))]
    assert [line.split()[:2] for line in bars] == [["new", "1"], ["active", "1"]]
    assert len({line.count("█") for line in bars}) == 1
    plain = see([*PROGRAM, "stats"], columns=columns, lines=50, variables={"NO_COLOR": "1"})
    assert (plain.lines, plain.coloured) == (seen.lines, False)


def test_the_length_of_a_bar_is_its_share_of_the_largest(filled: None, egec: Egec, tmp_path: Path) -> None:
    rows = "".join(f"c{number}@example.org\n" for number in range(99))
    (tmp_path / "clients.csv").write_text(f"email\n{rows}")
    assert egec("client", "import", "clients.csv").code == 0
    seen = see([*PROGRAM, "stats"], lines=50)
    bars = {line.split()[0]: line.split()[-1] for line in seen.lines if line.startswith(("  new ", "  active "))}
    assert (len(bars["new"]), bars["active"]) == (50, "▌")


@pytest.mark.parametrize(
    ("code", "expected", "word"),
    [(0, 0, "OK"), (3, 1, "WARNING"), (75, 2, "CRITICAL"), (78, 2, "CRITICAL"), (77, 3, "UNKNOWN")],
)
def test_the_check_translates_each_exit_code(tmp_path: Path, code: int, expected: int, word: str) -> None:
    program(tmp_path / "bin/egec", f"exit {code}")
    ended = type_in(
        ["sh", "-c", CHECK.text], folder=tmp_path, variables={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    )
    assert ended.code == expected
    assert ended.out.startswith(f"EGEC {word}")


def test_the_check_says_what_egec_doctor_says(filled: None, tmp_path: Path) -> None:
    program(tmp_path / "bin/egec", f'exec {PROGRAM[0]} -m egec_cli "$@"')
    ended = type_in(
        ["sh", "-c", CHECK.text], folder=tmp_path, variables={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    )
    # The tests hash cheaply.
    assert ended.code == 1
    assert ended.out.startswith("EGEC WARNING: egec: ")


def expressions() -> list[str]:
    """Return the expressions of the rules."""
    found = re.findall(r"^ {8}expr: (.+)$", RULES.text, re.MULTILINE)
    assert len(found) == RULES.text.count("- alert: ")
    return found


@pytest.mark.parametrize("expression", expressions())
def test_the_rules_name_metrics_and_labels_that_exist(expression: str) -> None:
    metrics = {one.name: one for one in list_metrics(FULL)}
    named = re.findall(r"\b((?:egec|node)_\w+)(?:\{(\w+)=~?\"([^\"]*)\"\})?", expression)
    assert named
    for name, label, value in named:
        if name in OF_NODE_EXPORTER:
            continue
        assert not label or any(one.labels.get(label) == value for one in metrics[name].samples)
        assert ("increase(" in expression) == (metrics[name].kind is Kind.COUNTER)


def test_the_rules_have_the_form_of_rules() -> None:
    head, *rules = RULES.text.split("      - alert: ")
    assert head == "groups:\n  - name: egec\n    rules:\n"
    for rule in rules:
        form = r'Egec[A-Za-z]+\n( {8}(expr|for): \S.*\n)+ {8}annotations:\n {10}summary: "[^"\\]+"\n'
        assert re.fullmatch(form, rule), rule
