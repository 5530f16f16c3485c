"""The report of a run: failures by reason, who works on it, and when it will be finished."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from egec_cli import clock
from egec_cli.clients import fields
from egec_cli.clients.records import create_client
from egec_cli.clients.select import Selected, Selection
from egec_cli.context import Context
from egec_cli.credentials import quotas
from egec_cli.reissue import report, runs
from egec_cli.settings.parsing import parse_rate
from egec_cli.store.models import Credential, CredentialState, ItemState, ReissueItem, ReissueRun, RunState


@pytest.fixture
def run(opened: Context) -> ReissueRun:
    """Return a run of six clients that have not been mailed."""
    for number in range(6):
        create_client(opened, fields.parse_fields(f"c{number}@example.org"))
    return runs.start_run(opened, "spring", Selected(opened, Selection(everyone=True)))


def fail(run: ReissueRun, failures: Sequence[tuple[str, str | None]]) -> None:
    """Let the first clients of the run fail with these error codes and replies."""
    items = ReissueItem.select().where(ReissueItem.run == run).order_by(ReissueItem.id)
    for item, (failure, details) in zip(items, failures, strict=False):
        item.state, item.failure, item.details = ItemState.FAILED, failure, details
        item.save()


def test_replies_with_the_same_enhanced_code_are_one_reason_and_name_no_address(
    opened: Context, run: ReissueRun
) -> None:
    fail(
        run,
        [
            ("mail_refused", "550 5.1.1 <c0@example.org>: User unknown in table 4711"),
            ("mail_refused", "550 5.1.1 <c1@example.org>: User unknown in table 4712"),
            ("mail_refused", "552 5.2.2 Mailbox full"),
        ],
    )
    assert report.group_failures(run) == [
        (2, "mail_refused", "550 5.1.1 …: User unknown in table 4711"),
        (1, "mail_refused", "552 5.2.2 Mailbox full"),
    ]


def test_replies_without_an_enhanced_code_are_one_reason_if_they_differ_only_in_addresses(
    opened: Context, run: ReissueRun
) -> None:
    fail(
        run,
        [
            ("mail_refused", "550 c0@example.org unknown"),
            ("mail_refused", "550 blocked"),
            ("mail_refused", "550 c1@example.org unknown"),
        ],
    )
    assert report.group_failures(run) == [
        (2, "mail_refused", "550 … unknown"),
        (1, "mail_refused", "550 blocked"),
    ]


def test_failures_without_a_reply_are_grouped_by_error_code(opened: Context, run: ReissueRun) -> None:
    fail(
        run,
        [
            ("in_doubt", "the connection to 127.0.0.1:25 was lost. The mail may have left"),
            ("in_doubt", "the connection to 127.0.0.1:26 was lost. The mail may have left"),
            ("client_erased", "client 1234567890 was erased"),
            ("client_erased", None),
        ],
    )
    groups = report.group_failures(run)
    assert {(one.clients, one.failure, one.reply, one.kind) for one in groups} == {
        (2, "in_doubt", "", report.FailureKind.IN_DOUBT),
        (2, "client_erased", "", report.FailureKind.LEFT_OUT),
    }


def mail(run: ReissueRun, *seconds_ago: float) -> None:
    """Record credentials of the run that were made so long ago."""
    at = clock.now()
    ReissueRun.update(worked_until=at + timedelta(seconds=30)).where(ReissueRun.id == run.id).execute()
    items = ReissueItem.select().where(ReissueItem.run == run).order_by(ReissueItem.id)
    for item, seconds in zip(items, seconds_ago, strict=False):
        Credential.create(
            client=item.client, sequence=1, state=CredentialState.ACCEPTED, run=run,
            created_at=at - timedelta(seconds=seconds), issued_by="test",
        )  # fmt: skip
        item.state = ItemState.ACCEPTED
        item.save()


def test_the_expected_duration_is_that_of_the_last_minute(opened: Context, run: ReissueRun) -> None:
    mail(run, 3600, 20, 10)
    left = report.report_run(opened, run).time_left
    # Two mails in 20 seconds, and three clients are left.
    assert left is not None
    assert 29 < left.seconds < 35
    assert not left.is_least


def test_the_rate_limit_bounds_the_expected_duration(opened: Context, run: ReissueRun) -> None:
    runs.resume_run(opened, run, rate=parse_rate("1"))
    mail(run, 0.003, 0.002, 0.001)
    left = report.report_run(opened, run).time_left
    assert left is not None
    assert left.seconds >= 3


def test_without_a_worker_or_a_recent_mail_the_expected_duration_is_unknown(opened: Context, run: ReissueRun) -> None:
    assert report.report_run(opened, run).time_left is None
    mail(run, 3600)
    assert report.report_run(opened, run).time_left is None


def test_the_expected_duration_includes_the_waits_that_are_known(opened: Context, run: ReissueRun) -> None:
    runs.resume_run(opened, run, rate=parse_rate("2/h"))
    at = opened.clock()
    with opened.database.atomic():
        quotas.reserve(quotas.RunLimits(parse_rate("2/h"), 0), [at, at], "far-away/1/boot/1/1/x")
    mail(run, 20)
    left = report.report_run(opened, run).time_left
    assert left is not None
    # The quota opens in an hour; then five mails leave, one each half an hour or hour.
    assert left.seconds > 3600 + 5 * 1800
    assert left.is_least


def test_the_expected_duration_ends_after_the_last_deferred_mail(opened: Context, run: ReissueRun) -> None:
    mail(run, 20, 10)
    due = opened.clock() + timedelta(hours=4)
    last = ReissueItem.select().where(ReissueItem.run == run).order_by(ReissueItem.id.desc()).get()
    ReissueItem.update(not_before=due, attempts=3).where(ReissueItem.id == last.id).execute()
    left = report.report_run(opened, run).time_left
    assert left is not None
    assert left.is_least
    assert 4 * 3600 - 60 < left.seconds < 4 * 3600 + 60


def test_a_paused_or_waiting_run_says_why_and_until_when(opened: Context, run: ReissueRun) -> None:
    def wait() -> tuple[str | None, bool]:
        found = report.load_run(opened, run)
        return found.waits_because, found.next_attempt_at is not None

    assert wait() == (None, False)
    ReissueItem.update(not_before=opened.clock() + timedelta(hours=1), attempts=1).execute()
    assert wait() == ("mail_deferred", True)
    runs.resume_run(opened, run, rate=parse_rate("2/h"))
    at = opened.clock()
    with opened.database.atomic():
        quotas.reserve(quotas.RunLimits(parse_rate("2/h"), 0), [at, at], "far-away/1/boot/1/1/x")
    runs.resume_run(opened, run, now=True)
    assert wait() == ("mail_quota_reached", True)
    runs.pause_run(opened, run, "mail_blocked", waits=True)
    assert wait() == ("mail_blocked", True)
    runs.resume_run(opened, run, rate=())
    assert wait() == ("mail_blocked", True)
    runs.resume_run(opened, run, now=True)
    assert wait() == (None, False)
    runs.pause_run(opened, run, "mail_server_unavailable")
    assert wait() == ("mail_server_unavailable", False)
    runs.cancel_run(opened, run)
    assert wait() == (None, False)


def test_the_report_names_who_started_the_run_and_why_it_is_paused(opened: Context, run: ReissueRun) -> None:
    assert report.report_run(opened, run).paused is None
    runs.pause_run(opened, run, "mail_server_unavailable")
    found = report.report_run(opened, run)
    assert found.run.state is RunState.PAUSED
    assert found.paused is not None
    assert found.paused.outcome == "mail_server_unavailable"
    assert found.started is not None
    assert (found.started.actor, found.started.host) == (opened.actor.user, opened.actor.host)
    runs.resume_run(opened, run)
    assert report.report_run(opened, run).paused is None
