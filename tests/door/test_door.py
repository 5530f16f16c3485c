"""The attacks of `python -m tests.door` with few requests.

`tests/requests` and `tests/logins` have floods and sprays on both databases, within one process.
"""

from collections.abc import Iterator

import pytest

from tests.door import attacks
from tests.door.attacks import Door


@pytest.fixture(params=["sqlite", "postgresql"])
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    url = request.getfixturevalue("postgresql")() if request.param == "postgresql" else ""
    with attacks.installed(url) as made:
        yield made


def test_hostile_requests_end_with_words_and_a_documented_code(door: Door) -> None:
    assert attacks.attack_by_hostile_requests(door, 25, seed=7) == []


ON_SQLITE = pytest.mark.parametrize("door", ["sqlite"], indirect=True)


@ON_SQLITE
def test_a_flood_sends_one_mail(door: Door) -> None:
    assert attacks.attack_by_flood(door, 20) == []


@ON_SQLITE
def test_a_spray_compares_thirty_hashes(door: Door) -> None:
    assert attacks.attack_by_spray(door, 35, 30) == []


@ON_SQLITE
def test_the_attacks_see_a_fault(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    door.environ["EGEC_FAILURES_PER_ORIGIN"] = "0"
    assert attacks.attack_by_spray(door, 32, 30) == ["32 hashes were compared"]
    door.environ["EGEC_REQUESTS_PER_CLIENT"] = "0"
    assert attacks.attack_by_flood(door, 2) == ["2 mails were sent"]
    monkeypatch.setattr(attacks, "ANSWERS", {})
    assert len(attacks.attack_by_hostile_requests(door, 2, seed=7)) == 2
