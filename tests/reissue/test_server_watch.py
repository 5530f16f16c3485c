"""Refusals of one recipient and refusals of us: what the answers for different clients tell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli.errors import ConfigError, TemporaryFailure
from egec_cli.mail.transports.interface import Cause
from egec_cli.reissue import backoff
from egec_cli.reissue.items import DeferredItem
from egec_cli.reissue.server_watch import (
    MOST_IN_A_ROW,
    ServerWatch,
    is_doubtful,
    is_for_now,
    is_server_wide,
    is_throttled,
)
from egec_cli.reissue.threads import MAY_CONCERN_OTHERS, FinishedJob
from tests.reissue.mails import accepted, lost, refused

QUOTA = "450 4.7.1 <c{}@example.org>: Recipient address rejected: Daily quota exceeded, id A{}X"
POLICY = "550 5.7.1 <c{}@example.org>: rejected by local policy"
OTHER = "550 5.7.9 <c{}@example.org>: message rejected"
DOUBTFUL = sorted(MAY_CONCERN_OTHERS)


def quota(client: int, *, began_at: float, took: float = 0.1) -> FinishedJob:
    return refused(client, QUOTA.format(client, client * 7), Cause.THROTTLED, began_at=began_at, took=took)


def policy(client: int, *, began_at: float, took: float = 0.1, reply: str = POLICY) -> FinishedJob:
    return refused(client, reply.format(client), Cause.UNCLEAR, began_at=began_at, took=took, for_good=True)


def watch_all(*finished: FinishedJob) -> ServerWatch:
    watch = ServerWatch()
    for one in finished:
        watch.add(one)
    return watch


@given(st.lists(st.sampled_from(["refused", "greylisted", "accepted"]), max_size=400))
def test_refusals_of_recipients_never_count_however_many(ends: list[str]) -> None:
    watch = ServerWatch()
    for number, end in enumerate(ends):
        if end == "accepted":
            watch.add(accepted(number, began_at=number))
        else:
            for_good = end == "refused"
            reply = "550 5.1.1 User unknown" if for_good else "450 4.2.0 Greylisted"
            watch.add(refused(number, reply, Cause.RECIPIENT, began_at=number, for_good=for_good))
    assert watch.refusal is None


@given(st.lists(st.sampled_from(["accepted", "lost", "refused"]), max_size=100))
def test_lost_answers_count_only_for_different_clients_in_a_row(ends: list[str]) -> None:
    watch = ServerWatch()
    row = 0
    for number, end in enumerate(ends):
        if end == "lost":
            row += 1
            watch.add(lost(number, began_at=number))
        elif end == "accepted":
            row = 0
            watch.add(accepted(number, began_at=number))
        else:
            # A refusal of one recipient says nothing about the others.
            watch.add(refused(number, "550 5.1.1 User unknown", Cause.RECIPIENT, began_at=number, for_good=True))
        assert (watch.refusal is not None) == (row >= MOST_IN_A_ROW)
        if row >= MOST_IN_A_ROW:
            break
    assert watch.attempts_to_take_back([]) == []
    assert watch.withheld == {}


def dropped(client: int, *, began_at: float) -> FinishedJob:
    one = refused(client, "", Cause.DROPPED, began_at=began_at)
    assert one.result is not None
    error = TemporaryFailure("closed" if client % 2 else "cannot send", code="mail_server_unavailable")
    return one._replace(result=one.result._replace(error=error))


@given(st.lists(st.sampled_from(["accepted", "lost", "dropped"]), max_size=100))
def test_connections_lost_at_any_point_and_with_any_words_count_together_but_only_in_a_row(ends: list[str]) -> None:
    watch = ServerWatch()
    row = 0
    for number, end in enumerate(ends):
        row = 0 if end == "accepted" else row + 1
        make = {"accepted": accepted, "lost": lost, "dropped": dropped}[end]
        watch.add(make(number, began_at=number))
        assert (watch.refusal is not None) == (row >= MOST_IN_A_ROW)
        if row >= MOST_IN_A_ROW:
            break
    last = list(enumerate(ends[: number + 1] if ends else []))[-50:]
    taken_back = [one.key for one in watch.attempts_to_take_back([])]
    assert taken_back == [client for client, end in last if end == "dropped"]


def test_lost_answers_of_one_client_or_under_way_at_once_say_little() -> None:
    assert watch_all(*(lost(1, began_at=number) for number in range(20))).refusal is None
    assert watch_all(*(lost(number, began_at=number / 100) for number in range(10))).refusal is None


@given(
    st.sampled_from(DOUBTFUL),
    st.booleans(),
    st.integers(min_value=0, max_value=60),
    st.lists(st.integers(min_value=0, max_value=3), min_size=MOST_IN_A_ROW, max_size=MOST_IN_A_ROW),
)
def test_the_same_answer_for_five_clients_in_a_row_concerns_everybody_whatever_recipients_do_between(
    cause: Cause, for_good: bool, before: int, recipients_between: list[int]
) -> None:
    watch, moment, client = ServerWatch(), 0.0, 0
    for _ in range(before):
        watch.add(accepted(client := client + 1, began_at=(moment := moment + 1)))
    for number, recipients in enumerate(recipients_between):
        assert watch.refusal is None
        for _ in range(recipients):
            reply = "550 5.1.1 User unknown"
            gone = refused(client := client + 1, reply, Cause.RECIPIENT, began_at=(moment := moment + 1), for_good=True)
            watch.add(gone)
        same = refused(
            client := client + 1,
            QUOTA.format(client, number),
            cause,
            began_at=(moment := moment + 1),
            for_good=for_good,
        )
        watch.add(same)
    assert watch.refusal is same


@given(st.lists(st.sampled_from([POLICY, OTHER, "accepted"]), min_size=1, max_size=300))
def test_at_most_five_clients_in_a_row_or_ten_of_fifty_get_the_same_answer_before_it_counts(ends: list[str]) -> None:
    watch = ServerWatch()
    for number, end in enumerate(ends):
        if end == "accepted":
            watch.add(accepted(number, began_at=number))
        else:
            watch.add(policy(number, began_at=number, reply=end))
        last = ends[max(0, number - 49) : number + 1]
        row = next((n for n, one in enumerate(reversed(last)) if one != end), len(last))
        must_count = end != "accepted" and (row >= 5 or last.count(end) > 10)
        if must_count:
            assert watch.refusal is not None
            return
        assert watch.refusal is None


@pytest.mark.parametrize(("every", "counts"), [(4, True), (5, False)])
def test_more_than_a_fifth_of_the_last_fifty_refused_alike_concern_everybody(every: int, counts: bool) -> None:
    watch = ServerWatch()
    for number in range(200):
        is_refused = number % every == 0
        watch.add(policy(number, began_at=number) if is_refused else accepted(number, began_at=number))
    assert (watch.refusal is not None) is counts


def test_the_same_client_counts_once() -> None:
    assert watch_all(*(policy(1, began_at=number) for number in range(20))).refusal is None


def test_an_accepted_mail_between_them_ends_a_row_and_another_answer_does_too() -> None:
    for between in (accepted(90, began_at=4), policy(91, began_at=4, reply=OTHER)):
        row = [policy(number, began_at=number) for number in range(4)]
        assert watch_all(*row, between, policy(5, began_at=5)).refusal is None


def test_mails_that_were_under_way_when_the_server_began_to_refuse_for_now_are_echoes() -> None:
    first = quota(0, began_at=0, took=1)
    echoes = [quota(number, began_at=0.5, took=1) for number in range(1, 20)]
    watch = watch_all(first, *echoes)
    assert watch.refusal is None
    later = [quota(number, began_at=number) for number in range(20, 24)]
    for one in later[:3]:
        watch.add(one)
        assert watch.refusal is None
    watch.add(later[3])
    assert watch.refusal is later[3]


def test_refusals_for_good_are_no_echoes() -> None:
    at_once = [policy(number, began_at=0) for number in range(5)]
    assert watch_all(*at_once).refusal is at_once[-1]


def test_a_refusal_is_undecided_until_fifty_more_answers_have_come() -> None:
    one = policy(0, began_at=0)
    watch = watch_all(one)
    for number in range(1, 50):
        watch.add(accepted(number, began_at=number))
        assert watch.decide(0, has_nothing_left=False) == []
    watch.add(accepted(50, began_at=50))
    assert watch.decide(0, has_nothing_left=False) == [one]


def test_a_mail_that_was_sent_before_a_refusal_does_not_show_that_the_server_accepts_mail_since() -> None:
    one = refused(0, "550 5.7.1 Blocked", Cause.BLOCKED, began_at=1, took=1, for_good=True)
    watch = watch_all(one, accepted(1, began_at=1.5, took=1))
    assert watch.decide(0, has_nothing_left=True) == []
    watch.add(accepted(2, began_at=2.5))
    assert watch.decide(0, has_nothing_left=True) == [one]


def test_the_last_client_fails_by_a_block_that_outlasts_the_longest_pause() -> None:
    one = refused(0, "550 5.7.1 Blocked", Cause.BLOCKED, began_at=1, for_good=True)
    watch = watch_all(one)
    longest = len(backoff.WAITS)
    assert watch.decide(longest - 1, has_nothing_left=True) == []
    assert watch.decide(longest, has_nothing_left=False) == []
    assert watch.decide(longest, has_nothing_left=True) == [one]


def test_the_speed_is_that_of_the_last_accepted_mails() -> None:
    assert ServerWatch().accepted_per_second() is None
    mails = [accepted(number, began_at=number / 2, took=0.5) for number in range(10)]
    assert watch_all(*mails).accepted_per_second() == 2.0


def test_only_refusals_for_now_that_may_concern_others_are_taken_back() -> None:
    greylisted = refused(1, "450 4.2.0 Greylisted", Cause.RECIPIENT, began_at=1)
    one = quota(3, began_at=3)
    watch = watch_all(accepted(0, began_at=0), greylisted, policy(2, began_at=2), one)
    assert watch.attempts_to_take_back([]) == [DeferredItem(one.job.item.key, one.job.item.attempts + 1, 1)]
    assert watch.attempts_to_take_back([one]) == []


@pytest.mark.parametrize("cause", [*Cause, None])
def test_what_an_answer_concerns(cause: Cause | None) -> None:
    """Each mail is accepted, in doubt, about its recipient, doubtful, or refused for a reason that concerns all."""
    if cause is None:
        for ended in (accepted(1, began_at=0), lost(1, began_at=0)):
            assert not any(about(ended) for about in (is_doubtful, is_server_wide, is_throttled))
        assert is_for_now(lost(1, began_at=0))
        assert not is_for_now(accepted(1, began_at=0))
        return
    for_now = refused(1, "4", cause, began_at=0)
    assert is_doubtful(for_now) is (cause in MAY_CONCERN_OTHERS)
    assert is_server_wide(for_now) is (cause is Cause.UNREACHABLE)
    assert is_throttled(for_now) is (cause in {Cause.THROTTLED, Cause.CONNECTIONS})
    assert is_for_now(for_now)
    for_good = refused(1, "5", cause, began_at=0, for_good=True)
    assert not any(about(for_good) for about in (is_throttled, is_for_now))
    assert for_good.result is not None
    ours = for_good._replace(result=for_good.result._replace(error=ConfigError("sender")))
    assert is_server_wide(ours)
    assert not is_doubtful(ours)


def test_a_mail_that_was_not_sent_tells_nothing() -> None:
    unsent = accepted(1, began_at=0)._replace(result=None)
    assert not any(about(unsent) for about in (is_doubtful, is_server_wide, is_for_now, is_throttled))
    assert watch_all(*[unsent] * 20).refusal is None


def test_a_refusal_without_words_is_recognised_by_its_error() -> None:
    for message, counts in (("cannot send at all", True), (None, False)):
        watch = ServerWatch()
        for number in range(5):
            one = policy(number, began_at=number)
            assert one.result is not None
            error = TemporaryFailure(message or f"cannot send because of {'abcde'[number] * 3}")
            outcome = one.result.outcome._replace(server_reply=None)
            watch.add(one._replace(result=one.result._replace(error=error, outcome=outcome)))
        assert (watch.refusal is not None) is counts
