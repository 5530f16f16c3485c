"""What a worker tells while it works."""

from datetime import UTC, datetime, timedelta

from egec_cli.reissue.messages import UNTOLD_WAIT, Notes
from egec_cli.translation import Words


def test_a_wait_is_told_if_it_is_long_and_again_only_if_it_becomes_longer() -> None:
    told: list[Words] = []
    notes = Notes(told.append)
    now, moment = datetime(2026, 11, 3, tzinfo=UTC), timedelta(milliseconds=1)
    for wait, expected in [
        (UNTOLD_WAIT, 0),
        (UNTOLD_WAIT + moment, 1),
        (2 * UNTOLD_WAIT + moment, 1),
        (2 * UNTOLD_WAIT + 2 * moment, 2),
    ]:
        notes.tell_of_wait(now + wait, now)
        assert len(told) == expected
