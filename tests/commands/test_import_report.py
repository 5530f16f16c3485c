"""The reasons of rejected rows, counted without the values that differ from row to row."""

import pytest

from egec_cli.commands import client_import
from egec_cli.commands.client_import import CountedReason, RejectionReasons
from egec_cli.imports.run import RejectedRow
from egec_cli.translation import Words


def counted(*rejected: tuple[str, str]) -> list[CountedReason]:
    """Return the counted reasons of rows that were rejected for a field and a reason."""
    found = RejectionReasons()
    for line, (field, reason) in enumerate(rejected, 2):
        found.add(RejectedRow(line, field, "value", reason, "raw"))
    return list(found.list_by_number())


def test_rows_with_the_same_kind_of_fault_are_counted_together_the_most_frequent_first() -> None:
    conflict = "already used by client {identifier} with different data: {fields}"
    assert counted(
        ("email", Words(conflict, identifier="1111111111", fields="last_name")),
        ("email", Words(conflict, identifier="2222222222", fields="civility")),
        ("email", Words(conflict, identifier="3333333333", fields="civility")),
        ("", Words("it has {number} cells", number=7)),
        ("reference", Words(conflict, identifier="4444444444", fields="civility")),
    ) == [
        ("email: already used by client … with different data: civility", 2),
        ("email: already used by client … with different data: last_name", 1),
        ("it has … cells", 1),
        ("reference: already used by client … with different data: civility", 1),
    ]


def test_quoted_and_formatted_values_are_left_out_and_words_within_words_stay() -> None:
    inner = Words("unknown civility: {text!r}", text="Sir")
    assert counted(
        ("", Words("{message} (use one of {known})", message=inner, known="M., Mme")),
        ("", Words("over {most:,} characters", most=131_072)),
        ("", "plain text"),
    ) == [("unknown civility: … (use one of M., Mme)", 1), ("over … characters", 1), ("plain text", 1)]


def test_reasons_without_end_are_counted_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_import, "_MOST_REASONS", 2)
    assert counted(*(("", f"reason {number}") for number in (1, 2, 3, 4, 1))) == [
        ("reason 1", 2), ("other reasons", 2), ("reason 2", 1),
    ]  # fmt: skip
