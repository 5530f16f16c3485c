"""`egec client`: create, show, list."""

import json

import pytest

from tests.conftest import Egec

JEANNE = ("client", "create", "jeanne@example.org", "--civility", "Mme", "--last-name", "Dupont")


def test_create_makes_the_embedded_database_and_shows_the_file(egec: Egec) -> None:
    created = egec(*JEANNE, "--format", "json")
    assert created.code == 0
    record = json.loads(created.out)
    assert list(record) == [
        "identifier", "email", "reference", "civility", "first_name", "last_name", "language", "status",
        "last_sequence", "last_login_at", "created_at",
    ]  # fmt: skip
    assert record["status"] == "new"
    assert "made the database" in created.err
    assert json.loads(egec("client", "show", "jeanne@example.org", "--format", "json").out) == record
