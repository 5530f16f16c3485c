"""The issuing protocol: the interleavings in which simpler protocols lock a client out.

P1 to P4 are the promises of `test_promises`.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from egec_cli import hashing
from egec_cli.clients import fields, history
from egec_cli.clients.records import create_client, load_record
from egec_cli.context import Context
from egec_cli.credentials import leases, states
from egec_cli.credentials.issue import IssueResult, NewPassword, issue_to_operator
from egec_cli.credentials.states import NewCredential
from egec_cli.credentials.validity import local_moment
from egec_cli.errors import InvalidInput, PermissionDenied, TemporaryFailure
from egec_cli.logins import limits
from egec_cli.logins.verify import verify_login
from egec_cli.store.models import Client, Credential
from tests.credentials.stepwise import End, Issue, without_leases

Start = Callable[..., Issue]


@pytest.fixture
def client(opened: Context) -> Client:
    """Return a client."""
    return create_client(opened, fields.parse_fields("jeanne@example.org"))


@pytest.fixture
def start_issue(opened: Context, client: Client) -> Iterator[Start]:
    """Return a function that starts an issue and stops it while the mail server has its mail; without leases."""
    started: list[Issue] = []

    def start(*, revoke: bool = False) -> Issue:
        started.append(Issue(opened, Client.get_by_id(client.id), revoke=revoke))
        started[-1].advance()
        return started[-1]

    with without_leases():
        yield start
    for issue in started:
        issue.abandon()


def state(issue: Issue) -> tuple[str, bool]:
    """Return the state of an issue's credential and whether it still has a hash."""
    row = Credential.get(Credential.message_id == issue.message_id)
    return row.state, row.password_hash is not None


def opens(egec: Context, client: Client, *issues: Issue) -> list[bool]:
    """Log in with the password of each issue in turn, without the limits on failed logins."""
    accepted = []
    for issue in issues:
        Client.update(failed_logins=0, blocked_until=None).execute()
        accepted.append(verify_login(egec, client.identifier, issue.clear).accepted)
    return accepted


def test_the_credential_is_recorded_before_the_server_gets_the_mail(start_issue: Start) -> None:
    """P1: a crash at this moment loses no mailed password."""
    issue = start_issue()
    assert issue.place == "delivering"
    assert state(issue) == ("sending", True)


def test_the_previous_password_signs_in_until_the_server_accepts_the_mail(
    opened: Context, client: Client, start_issue: Start
) -> None:
    first = start_issue()
    first.advance(End.ACCEPT)
    second = start_issue()
    assert opens(opened, client, first) == [True]
    second.advance(End.ACCEPT)
    assert opens(opened, client, first, second) == [False, True]
    # The hash stays for the help desk; the refused login above shows that it does not sign in.
    assert state(first) == ("superseded", True)


@pytest.mark.parametrize(("end", "kind"), [(End.REFUSE_ADDRESS, InvalidInput), (End.REFUSE_FOR_NOW, TemporaryFailure)])
def test_a_refused_mail_changes_nothing(
    opened: Context, client: Client, start_issue: Start, end: End, kind: type[Exception]
) -> None:
    first, second = start_issue(), start_issue()
    first.advance(End.ACCEPT)
    second.advance(end)
    assert isinstance(second.outcome, kind)
    assert state(second) == ("refused", False)
    assert opens(opened, client, first, second) == [True, False]


@pytest.mark.parametrize("end", [End.REFUSE_ADDRESS, End.REFUSE_FOR_NOW, End.LOSE_ANSWER])
def test_a_failed_issue_changes_nothing_for_the_client(
    opened: Context, client: Client, start_issue: Start, end: End
) -> None:
    """P3: neither the client's record nor an earlier credential changes, and a blocked account stays blocked."""
    start_issue().advance(End.ACCEPT)
    start_issue().advance(End.LOSE_ANSWER)
    Client.update(
        failed_logins=10, blocked_until=limits.UNTIL_NEW_CREDENTIAL, email_bounced_at=opened.clock(), last_login_at=None
    ).execute()

    def found() -> list[dict[str, object]]:
        # The number of the next credential does not concern the client.
        records = Client.select(*(field for field in Client._meta.sorted_fields if field.name != "last_sequence"))
        return [*records.dicts(), *Credential.select().where(Credential.sequence <= 2).dicts()]

    before = found()
    assert [one["state"] for one in before[1:]] == ["accepted", "in_doubt"]
    start_issue().advance(end)
    assert found() == before


def test_after_a_lost_answer_both_passwords_sign_in_until_the_new_one_is_used(
    opened: Context, client: Client, start_issue: Start
) -> None:
    """P1: the server may have accepted either mail as the last one."""
    first = start_issue()
    first.advance(End.ACCEPT)
    second = start_issue()
    second.advance(End.LOSE_ANSWER)
    assert isinstance(second.outcome, TemporaryFailure)
    assert state(second) == ("in_doubt", True)
    assert history.list_mails(opened, client)[0].failure == "in_doubt"
    assert opens(opened, client, first, second, first) == [True, True, False]
    assert state(second) == ("accepted", True)


def test_a_retry_after_a_lost_answer_erases_nothing(opened: Context, client: Client, start_issue: Start) -> None:
    lost = start_issue()
    lost.advance(End.LOSE_ANSWER)
    retry = start_issue()
    assert opens(opened, client, lost) == [True]
    retry.advance(End.REFUSE_FOR_NOW)
    assert opens(opened, client, lost) == [True]


def test_after_a_crash_before_the_answer_both_passwords_sign_in(
    opened: Context, client: Client, start_issue: Start
) -> None:
    first = start_issue()
    first.advance(End.ACCEPT)
    crashed = start_issue()
    assert opens(opened, client, first, crashed, first) == [True, True, False]


def test_if_the_later_issue_is_settled_first_the_earlier_password_never_signs_in(
    opened: Context, client: Client, start_issue: Start
) -> None:
    """P1 and P2: the active sequence never falls."""
    earlier, later = start_issue(), start_issue()
    later.advance(End.ACCEPT)
    earlier.advance(End.ACCEPT)
    assert isinstance(earlier.outcome, IssueResult)
    assert earlier.outcome.state == "superseded"
    assert opens(opened, client, earlier, later) == [False, True]


def test_a_login_settles_the_later_issue_before_the_server_answers(
    opened: Context, client: Client, start_issue: Start
) -> None:
    earlier, later = start_issue(), start_issue()
    assert opens(opened, client, later, earlier) == [True, False]
    later.advance(End.ACCEPT)
    earlier.advance(End.ACCEPT)
    assert isinstance(later.outcome, IssueResult)
    assert later.outcome.state == "accepted"
    assert opens(opened, client, earlier, later) == [False, True]


def test_revoke_invalidates_every_earlier_password_and_every_mail_under_way(
    opened: Context, client: Client, start_issue: Start
) -> None:
    active, under_way, lost = start_issue(), start_issue(), start_issue()
    active.advance(End.ACCEPT)
    lost.advance(End.LOSE_ANSWER)
    revoking = start_issue(revoke=True)
    assert opens(opened, client, active, under_way, lost) == [False] * 3
    under_way.advance(End.ACCEPT)
    assert isinstance(under_way.outcome, IssueResult)
    assert under_way.outcome.state == "revoked"
    assert opens(opened, client, active, under_way, lost, revoking) == [False, False, False, True]


def test_revoked_passwords_stay_revoked_if_the_mail_is_refused(
    opened: Context, client: Client, start_issue: Start
) -> None:
    active = start_issue()
    active.advance(End.ACCEPT)
    start_issue(revoke=True).advance(End.REFUSE_FOR_NOW)
    assert opens(opened, client, active) == [False]
    assert load_record(Client.get_by_id(client.id), local_moment(opened)).status == "new"


def test_the_ninth_unsettled_credential_is_refused_and_revoke_makes_room(
    opened: Context, client: Client, start_issue: Start
) -> None:
    lost = [start_issue() for _ in range(states.MAX_IN_DOUBT)]
    for issue in lost:
        issue.advance(End.LOSE_ANSWER)
    refused = start_issue()
    # Not 75: repeating the command does not help.
    assert isinstance(refused.outcome, PermissionDenied)
    assert refused.outcome.code == "too_many_in_doubt"
    assert Credential.select().count() == states.MAX_IN_DOUBT
    assert opens(opened, client, lost[0]) == [True]
    start_issue(revoke=True).advance(End.ACCEPT)
    assert opens(opened, client, *lost) == [False] * states.MAX_IN_DOUBT


def test_expired_unsettled_credentials_take_no_room(opened: Context, client: Client) -> None:
    for _ in range(states.MAX_IN_DOUBT):
        with opened.database.atomic():
            states.record_credentials(
                [NewCredential(client.id, "-", None)],
                at=opened.clock() - timedelta(days=31),
                by="x",
                expires_at=opened.clock() - timedelta(days=1),
            )
    assert (
        issue_to_operator(opened, client, lambda _shown: None, hashing=hashing.start_hash(opened.settings)).sequence
        == 9
    )


def test_an_unused_password_expires_and_a_used_one_does_not(
    opened: Context, client: Client, start_issue: Start
) -> None:
    issue = start_issue()
    issue.advance(End.ACCEPT)
    later = opened._replace(clock=lambda: opened.clock() + timedelta(days=31))
    assert opens(later, client, issue) == [False]
    assert opens(opened, client, issue) == [True]
    assert opens(later, client, issue) == [True]


def test_a_disabled_client_can_neither_sign_in_nor_get_a_mail(
    opened: Context, client: Client, start_issue: Start
) -> None:
    issue = start_issue()
    issue.advance(End.ACCEPT)
    Client.update(disabled_at=opened.clock()).execute()
    assert opens(opened, client, issue) == [False]
    with pytest.raises(PermissionDenied):
        issue_to_operator(
            opened, Client.get_by_id(client.id), lambda _shown: None, hashing=hashing.start_hash(opened.settings)
        )
    assert Credential.select().count() == 1


@pytest.mark.parametrize(
    ("validity", "words"),
    [
        ({"valid_from": "2099-01-01"}, "is inactive: valid from 2099-01-01"),
        ({"valid_from": "2020-01-01", "valid_until": "2020-12-31"}, "is inactive: valid until 2020-12-31"),
    ],
)
def test_a_client_outside_the_validity_can_neither_sign_in_nor_get_a_mail(
    opened: Context, client: Client, start_issue: Start, validity: dict[str, str], words: str
) -> None:
    issue = start_issue()
    issue.advance(End.ACCEPT)
    Client.update(**validity).execute()
    assert opens(opened, client, issue) == [False]
    inactive, before = Client.get_by_id(client.id), Client.select().dicts().get()
    with pytest.raises(PermissionDenied, match=words) as refused:
        issue_to_operator(opened, inactive, lambda _shown: None, hashing=hashing.start_hash(opened.settings))
    assert refused.value.code == "client_inactive"
    mailed = Issue(opened, inactive, revoke=True)
    assert isinstance(mailed.outcome, PermissionDenied)
    assert mailed.outcome.code == "client_inactive"
    assert Credential.select().count() == 1
    assert Client.select().dicts().get() == before


def test_a_second_issuer_waits_and_mails_after_the_first(
    opened: Context, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases.take_lease, "__kwdefaults__", {"patience": 0.2})
    first = Issue(opened, client, revoke=False)
    first.advance()
    second = Issue(opened, client, revoke=False)
    assert second.place == "ended"
    assert isinstance(second.outcome, TemporaryFailure)
    assert second.outcome.code == "client_busy"
    first.advance(End.ACCEPT)
    third = Issue(opened, client, revoke=False)
    third.advance()
    third.advance(End.ACCEPT)
    assert opens(opened, client, first, third) == [False, True]
    assert [mail.sequence for mail in history.list_mails(opened, client)] == [2, 1]


def test_a_password_that_could_not_be_shown_is_in_doubt(opened: Context, client: Client) -> None:
    def fail(_shown: NewPassword) -> None:
        raise BrokenPipeError

    made = hashing.start_hash(opened.settings)
    with pytest.raises(BrokenPipeError):
        issue_to_operator(opened, client, fail, hashing=made)
    [record] = history.list_mails(opened, client)
    assert (record.state, record.failure) == ("in_doubt", "file_system")
    assert verify_login(opened, client.identifier, made.password.reveal()).accepted


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(), "interrupted"),
        (TemporaryFailure("busy", code="database_busy"), "database_busy"),
        (OSError("gone"), "file_system"),
        (ValueError("odd"), "internal_error"),
    ],
    ids=repr,
)
def test_an_issue_that_ends_before_the_answer_is_recorded_with_a_stable_code(
    opened: Context, client: Client, start_issue: Start, end: BaseException, code: str
) -> None:
    issue = start_issue()
    issue.advance(end)
    assert issue.outcome is end
    assert state(issue) == ("in_doubt", True)
    assert history.list_mails(opened, client)[0].failure == code


@pytest.mark.parametrize(
    ("revoke", "holds"),
    [
        (False, "The previous password still works; the new one works too if its mail arrived."),
        (True, "All earlier passwords are revoked: the client is locked out until a mail arrives."),
    ],
)
def test_an_interruption_reports_which_passwords_work(
    client: Client, start_issue: Start, revoke: bool, holds: str
) -> None:
    start_issue().advance(End.ACCEPT)
    issue = start_issue(revoke=revoke)
    issue.advance(interruption := KeyboardInterrupt())
    again = f"If no mail arrives, type `egec activate {client.identifier}`."
    assert interruption.args == (f"The mail may have been sent. {holds} {again}",)


def test_an_interruption_that_leaves_no_room_for_another_mail_suggests_revoke(
    client: Client, start_issue: Start
) -> None:
    for _ in range(states.MAX_IN_DOUBT):
        start_issue().advance(interruption := KeyboardInterrupt())
    [holds] = interruption.args
    assert f"`egec activate {client.identifier} --revoke`" in holds


def test_an_interruption_while_a_password_is_shown_does_not_mention_mail(opened: Context, client: Client) -> None:
    interruption = KeyboardInterrupt()

    def interrupt(_shown: NewPassword) -> None:
        raise interruption

    with pytest.raises(KeyboardInterrupt):
        issue_to_operator(opened, client, interrupt, hashing=hashing.start_hash(opened.settings))
    [holds] = interruption.args
    assert holds.startswith("The password may have been shown. The new password works.")
    assert "mail" not in holds


def test_a_used_password_stays_accepted_if_its_mail_is_refused_later(
    opened: Context, client: Client, start_issue: Start
) -> None:
    issue = start_issue()
    assert opens(opened, client, issue) == [True]
    issue.advance(End.REFUSE_FOR_NOW)
    assert state(issue) == ("accepted", True)
    assert opens(opened, client, issue) == [True]


@pytest.mark.parametrize("end", [End.REFUSE_ADDRESS, End.REFUSE_FOR_NOW])
def test_a_login_is_refused_if_its_mail_is_refused_meanwhile_and_the_previous_password_stays(
    opened: Context, client: Client, start_issue: Start, monkeypatch: pytest.MonkeyPatch, end: End
) -> None:
    first, second = start_issue(), start_issue()
    first.advance(End.ACCEPT)
    compare = hashing.match_at_cost

    def compare_slowly(cost: int, clear: str, password_hash: str) -> bool:
        found = compare(cost, clear, password_hash)
        if found and second.place == "delivering":
            second.advance(end)
        return found

    monkeypatch.setattr(hashing, "match_at_cost", compare_slowly)
    assert opens(opened, client, second, first) == [False, True]
    assert state(second) == ("refused", False)


def test_a_login_is_refused_if_a_later_mail_is_settled_meanwhile(
    opened: Context, client: Client, start_issue: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: once the later mail is settled as accepted, the earlier password does not sign in."""
    first, second = start_issue(), start_issue()
    first.advance(End.ACCEPT)
    compare = hashing.match_at_cost

    def compare_slowly(cost: int, clear: str, password_hash: str) -> bool:
        found = compare(cost, clear, password_hash)
        if second.place == "delivering":
            second.advance(End.ACCEPT)
        return found

    monkeypatch.setattr(hashing, "match_at_cost", compare_slowly)
    assert opens(opened, client, first, second) == [False, True]


def test_a_revoked_password_whose_mail_is_accepted_later_neither_signs_in_nor_unblocks_the_account(
    opened: Context, client: Client, start_issue: Start
) -> None:
    late, _ = start_issue(), start_issue(revoke=True)
    Client.update(failed_logins=10, blocked_until=limits.UNTIL_NEW_CREDENTIAL).execute()
    before = Client.get()
    late.advance(End.ACCEPT)
    assert state(late) == ("revoked", False)
    after = Client.get()
    assert (after.active_sequence, after.failed_logins, after.blocked_until) == (
        before.active_sequence,
        before.failed_logins,
        before.blocked_until,
    )
    assert opens(opened, client, late) == [False]


def test_mails_and_logins_of_one_client_change_no_other_client(
    opened: Context, client: Client, start_issue: Start
) -> None:
    neighbour = create_client(opened, fields.parse_fields("marc@example.org"))
    issues = [Issue(opened, neighbour, revoke=False) for _ in range(3)]
    for issue, end in zip(issues, (End.ACCEPT, End.LOSE_ANSWER, None), strict=True):
        issue.advance()
        if end is not None:
            issue.advance(end)
    Client.update(failed_logins=3, blocked_until=opened.clock(), email_bounced_at=opened.clock()).execute()

    def neighbours() -> list[dict[str, object]]:
        of_client = Client.select().where(Client.id == neighbour.id).dicts()
        return [*of_client, *Credential.select().where(Credential.client == neighbour.id).dicts()]

    before = neighbours()
    assert [one["state"] for one in before[1:]] == ["accepted", "in_doubt", "sending"]
    accepted, lost, refused = start_issue(), start_issue(), start_issue()
    accepted.advance(End.ACCEPT)
    assert verify_login(opened, client.identifier, accepted.clear).accepted
    lost.advance(End.LOSE_ANSWER)
    refused.advance(End.REFUSE_ADDRESS)
    assert verify_login(opened, client.identifier, lost.clear).accepted
    assert not verify_login(opened, client.identifier, accepted.clear).accepted
    start_issue(revoke=True).advance(End.ACCEPT)
    assert neighbours() == before
    issues[-1].abandon()


def test_revoke_works_however_many_credentials_are_unsettled(
    opened: Context, client: Client, start_issue: Start
) -> None:
    lost = [start_issue() for _ in range(states.MAX_IN_DOUBT)]
    for issue in lost:
        issue.advance(End.LOSE_ANSWER)
    new = start_issue(revoke=True)
    new.advance(End.ACCEPT)
    assert state(new) == ("accepted", True)
    assert opens(opened, client, *lost, new) == [False] * states.MAX_IN_DOUBT + [True]


def test_without_a_limit_in_days_an_unused_password_never_expires(opened: Context, client: Client) -> None:
    settings = opened.settings._replace(unused_password_days=0)
    made = hashing.start_hash(settings)
    issue_to_operator(opened._replace(settings=settings), client, lambda _: None, hashing=made)
    in_ten_years = opened.clock() + timedelta(days=3650)
    later = opened._replace(clock=lambda: in_ten_years)
    assert verify_login(later, client.identifier, made.password.reveal()).accepted


def test_only_the_recorded_credentials_are_returned(opened: Context, client: Client) -> None:
    other = create_client(opened, fields.parse_fields("marc@example.org"))
    recorded = [
        states.record_credentials(
            [NewCredential(one.id, "-", None)],
            at=opened.clock(),
            by="x",
            expires_at=opened.clock() + timedelta(days=30),
        )
        for one in (client, other, client)
    ]
    assert [list(one) for one in recorded] == [[client.id], [other.id], [client.id]]
    assert [one.sequence for found in recorded for one in found.values()] == [1, 1, 2]
