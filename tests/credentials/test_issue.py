"""The issuing protocol, order by order: the interleavings by which the obvious ways lock a client out.

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
from egec_cli.errors import InvalidInput, PermissionDenied, TemporaryFailure
from egec_cli.logins import limits
from egec_cli.logins.verify import verify_login
from egec_cli.store.models import Client, Credential
from tests.credentials.stepwise import End, Issue, without_leases

Begin = Callable[..., Issue]


@pytest.fixture
def client(opened: Context) -> Client:
    """Return a client."""
    return create_client(opened, fields.parse_fields("jeanne@example.org"))


@pytest.fixture
def begin(opened: Context, client: Client) -> Iterator[Begin]:
    """Return a function that takes an issue to the mail server, its credential recorded; without leases."""
    begun: list[Issue] = []

    def begin_one(*, revoke: bool = False) -> Issue:
        begun.append(Issue(opened, Client.get_by_id(client.id), revoke=revoke))
        begun[-1].go_on()
        return begun[-1]

    with without_leases():
        yield begin_one
    for issue in begun:
        issue.abandon()


def state(issue: Issue) -> tuple[str, bool]:
    """Return the state of an issue's credential, and whether its hash is still there."""
    row = Credential.get(Credential.message_id == issue.message_id)
    return row.state, row.password_hash is not None


def opens(egec: Context, client: Client, *issues: Issue) -> list[bool]:
    """Log in with the password of each issue in turn; how often that may be tried is another matter."""
    accepted = []
    for issue in issues:
        Client.update(failed_logins=0, blocked_until=None).execute()
        accepted.append(verify_login(egec, client.identifier, issue.clear).accepted)
    return accepted


def test_the_credential_is_recorded_before_the_server_hears_of_it(begin: Begin) -> None:
    """P1: a crash at this moment loses no password that a mail carries."""
    issue = begin()
    assert issue.place == "delivering"
    assert state(issue) == ("sending", True)


def test_the_former_password_opens_until_the_server_has_accepted(opened: Context, client: Client, begin: Begin) -> None:
    first = begin()
    first.go_on(End.ACCEPT)
    second = begin()
    assert opens(opened, client, first) == [True]
    second.go_on(End.ACCEPT)
    assert opens(opened, client, first, second) == [False, True]
    # Its hash is kept for the help desk to recognise it; the refusal above says that it opens nothing.
    assert state(first) == ("superseded", True)


@pytest.mark.parametrize(("end", "kind"), [(End.REFUSE_ADDRESS, InvalidInput), (End.REFUSE_FOR_NOW, TemporaryFailure)])
def test_a_refused_mail_changes_nothing(
    opened: Context, client: Client, begin: Begin, end: End, kind: type[Exception]
) -> None:
    first, second = begin(), begin()
    first.go_on(End.ACCEPT)
    second.go_on(end)
    assert isinstance(second.outcome, kind)
    assert state(second) == ("refused", False)
    assert opens(opened, client, first, second) == [True, False]


@pytest.mark.parametrize("end", [End.REFUSE_ADDRESS, End.REFUSE_FOR_NOW, End.LOSE_ANSWER])
def test_a_failed_issue_changes_nothing_for_the_client(opened: Context, client: Client, begin: Begin, end: End) -> None:
    """P3: neither the client's record nor an earlier credential changes, and a blocked account stays blocked."""
    begin().go_on(End.ACCEPT)
    begin().go_on(End.LOSE_ANSWER)
    Client.update(
        failed_logins=10, blocked_until=limits.UNTIL_NEW_CREDENTIAL, email_bounced_at=opened.clock(), last_login_at=None
    ).execute()

    def found() -> list[dict[str, object]]:
        # The number of the next credential is no concern of the client.
        records = Client.select(*(field for field in Client._meta.sorted_fields if field.name != "last_sequence"))
        return [*records.dicts(), *Credential.select().where(Credential.sequence <= 2).dicts()]

    before = found()
    assert [one["state"] for one in before[1:]] == ["accepted", "in_doubt"]
    begin().go_on(end)
    assert found() == before


def test_of_a_lost_answer_both_passwords_open_until_the_new_one_is_used(
    opened: Context, client: Client, begin: Begin
) -> None:
    """P1: the server may have accepted either mail as the last one."""
    first = begin()
    first.go_on(End.ACCEPT)
    second = begin()
    second.go_on(End.LOSE_ANSWER)
    assert isinstance(second.outcome, TemporaryFailure)
    assert state(second) == ("in_doubt", True)
    assert history.list_mails(opened, client)[0].failure == "in_doubt"
    assert opens(opened, client, first, second, first) == [True, True, False]
    assert state(second) == ("accepted", True)


def test_a_retry_after_a_lost_answer_erases_nothing(opened: Context, client: Client, begin: Begin) -> None:
    lost = begin()
    lost.go_on(End.LOSE_ANSWER)
    retry = begin()
    assert opens(opened, client, lost) == [True]
    retry.go_on(End.REFUSE_FOR_NOW)
    assert opens(opened, client, lost) == [True]


def test_a_crash_before_the_answer_leaves_both_passwords_open(opened: Context, client: Client, begin: Begin) -> None:
    first = begin()
    first.go_on(End.ACCEPT)
    crashed = begin()
    assert opens(opened, client, first, crashed, first) == [True, True, False]


def test_when_the_later_of_two_is_settled_first_the_later_signs_in_and_the_earlier_never(
    opened: Context, client: Client, begin: Begin
) -> None:
    """P1 and P2: the active sequence never falls."""
    earlier, later = begin(), begin()
    later.go_on(End.ACCEPT)
    earlier.go_on(End.ACCEPT)
    assert isinstance(earlier.outcome, IssueResult)
    assert earlier.outcome.state == "superseded"
    assert opens(opened, client, earlier, later) == [False, True]


def test_a_login_with_the_later_settles_it_before_the_answer_comes(
    opened: Context, client: Client, begin: Begin
) -> None:
    earlier, later = begin(), begin()
    assert opens(opened, client, later, earlier) == [True, False]
    later.go_on(End.ACCEPT)
    earlier.go_on(End.ACCEPT)
    assert isinstance(later.outcome, IssueResult)
    assert later.outcome.state == "accepted"
    assert opens(opened, client, earlier, later) == [False, True]


def test_revoke_voids_every_earlier_password_and_every_mail_under_way(
    opened: Context, client: Client, begin: Begin
) -> None:
    active, under_way, lost = begin(), begin(), begin()
    active.go_on(End.ACCEPT)
    lost.go_on(End.LOSE_ANSWER)
    revoking = begin(revoke=True)
    assert opens(opened, client, active, under_way, lost) == [False] * 3
    under_way.go_on(End.ACCEPT)
    assert isinstance(under_way.outcome, IssueResult)
    assert under_way.outcome.state == "revoked"
    assert opens(opened, client, active, under_way, lost, revoking) == [False, False, False, True]


def test_a_revoked_account_stays_shut_when_the_mail_is_refused(opened: Context, client: Client, begin: Begin) -> None:
    active = begin()
    active.go_on(End.ACCEPT)
    begin(revoke=True).go_on(End.REFUSE_FOR_NOW)
    assert opens(opened, client, active) == [False]
    assert load_record(Client.get_by_id(client.id), opened.clock()).status == "new"


def test_the_ninth_open_credential_is_declined_and_revoke_makes_room(
    opened: Context, client: Client, begin: Begin
) -> None:
    lost = [begin() for _ in range(states.MAX_IN_DOUBT)]
    for issue in lost:
        issue.go_on(End.LOSE_ANSWER)
    declined = begin()
    # Not 75: the same again does not help, however often a script tries.
    assert isinstance(declined.outcome, PermissionDenied)
    assert declined.outcome.code == "too_many_in_doubt"
    assert Credential.select().count() == states.MAX_IN_DOUBT
    assert opens(opened, client, lost[0]) == [True]
    begin(revoke=True).go_on(End.ACCEPT)
    assert opens(opened, client, *lost) == [False] * states.MAX_IN_DOUBT


def test_open_credentials_that_have_expired_take_no_room(opened: Context, client: Client) -> None:
    for _ in range(states.MAX_IN_DOUBT):
        with opened.database.atomic():
            states.record_credentials(
                [NewCredential(client.id, "-", None)], at=opened.clock() - timedelta(days=31), by="x", unused_days=30
            )
    assert (
        issue_to_operator(opened, client, lambda _shown: None, hashing=hashing.start_hash(opened.settings)).sequence
        == 9
    )


def test_a_password_that_was_never_used_expires_and_one_that_was_used_does_not(
    opened: Context, client: Client, begin: Begin
) -> None:
    issue = begin()
    issue.go_on(End.ACCEPT)
    later = opened._replace(clock=lambda: opened.clock() + timedelta(days=30))
    assert opens(later, client, issue) == [False]
    assert opens(opened, client, issue) == [True]
    assert opens(later, client, issue) == [True]


def test_a_disabled_client_neither_logs_in_nor_gets_a_mail(opened: Context, client: Client, begin: Begin) -> None:
    issue = begin()
    issue.go_on(End.ACCEPT)
    Client.update(disabled_at=opened.clock()).execute()
    assert opens(opened, client, issue) == [False]
    with pytest.raises(PermissionDenied):
        issue_to_operator(
            opened, Client.get_by_id(client.id), lambda _shown: None, hashing=hashing.start_hash(opened.settings)
        )
    assert Credential.select().count() == 1


def test_an_issuer_waits_for_another_and_mails_after_it(
    opened: Context, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases.take_lease, "__kwdefaults__", {"patience": 0.2})
    first = Issue(opened, client, revoke=False)
    first.go_on()
    second = Issue(opened, client, revoke=False)
    assert second.place == "ended"
    assert isinstance(second.outcome, TemporaryFailure)
    assert second.outcome.code == "client_busy"
    first.go_on(End.ACCEPT)
    third = Issue(opened, client, revoke=False)
    third.go_on()
    third.go_on(End.ACCEPT)
    assert opens(opened, client, first, third) == [False, True]
    assert [mail.sequence for mail in history.list_mails(opened, client)] == [2, 1]


def test_a_password_that_could_not_be_shown_is_in_doubt(opened: Context, client: Client) -> None:
    def fail(_shown: NewPassword) -> None:
        raise BrokenPipeError

    begun = hashing.start_hash(opened.settings)
    with pytest.raises(BrokenPipeError):
        issue_to_operator(opened, client, fail, hashing=begun)
    [record] = history.list_mails(opened, client)
    assert (record.state, record.failure) == ("in_doubt", "file_system")
    assert verify_login(opened, client.identifier, begun.password.reveal()).accepted


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(), "interrupted"),
        (TemporaryFailure("busy", code="database_busy"), "database_busy"),
        (OSError("gone"), "file_system"),
        (ValueError("odd"), "defect"),
    ],
    ids=repr,
)
def test_an_issue_that_ends_before_the_answer_is_recorded_with_a_stable_code(
    opened: Context, client: Client, begin: Begin, end: BaseException, code: str
) -> None:
    issue = begin()
    issue.go_on(end)
    assert issue.outcome is end
    assert state(issue) == ("in_doubt", True)
    assert history.list_mails(opened, client)[0].failure == code


@pytest.mark.parametrize(
    ("revoke", "holds"),
    [
        (False, "The former password still works, and so will the new one if its mail arrived."),
        (True, "Every former password is void: the client is locked out until a mail arrives."),
    ],
)
def test_an_interruption_says_which_passwords_work(client: Client, begin: Begin, revoke: bool, holds: str) -> None:
    begin().go_on(End.ACCEPT)
    issue = begin(revoke=revoke)
    issue.go_on(interruption := KeyboardInterrupt())
    again = f"If no mail arrives, type `egec activate {client.identifier}`."
    assert interruption.args == (f"The mail may have been sent. {holds} {again}",)


def test_an_interruption_that_leaves_no_room_for_another_mail_names_the_way_out(client: Client, begin: Begin) -> None:
    for _ in range(states.MAX_IN_DOUBT):
        begin().go_on(interruption := KeyboardInterrupt())
    [holds] = interruption.args
    assert f"`egec activate {client.identifier} --revoke`" in holds


def test_an_interruption_while_a_password_is_shown_speaks_of_no_mail(opened: Context, client: Client) -> None:
    interruption = KeyboardInterrupt()

    def interrupt(_shown: NewPassword) -> None:
        raise interruption

    with pytest.raises(KeyboardInterrupt):
        issue_to_operator(opened, client, interrupt, hashing=hashing.start_hash(opened.settings))
    [holds] = interruption.args
    assert holds.startswith("The password may have been shown. The new password works.")
    assert "mail" not in holds


def test_a_password_that_was_used_cannot_be_refused_any_more(opened: Context, client: Client, begin: Begin) -> None:
    issue = begin()
    assert opens(opened, client, issue) == [True]
    issue.go_on(End.REFUSE_FOR_NOW)
    assert state(issue) == ("accepted", True)
    assert opens(opened, client, issue) == [True]


@pytest.mark.parametrize("end", [End.REFUSE_ADDRESS, End.REFUSE_FOR_NOW])
def test_a_login_that_is_overtaken_by_the_refusal_of_its_mail_is_refused_and_the_former_password_stays(
    opened: Context, client: Client, begin: Begin, monkeypatch: pytest.MonkeyPatch, end: End
) -> None:
    first, second = begin(), begin()
    first.go_on(End.ACCEPT)
    compare = hashing.matches_or_takes

    def compare_slowly(cost: int, clear: str, password_hash: str) -> bool:
        found = compare(cost, clear, password_hash)
        if found and second.place == "delivering":
            second.go_on(end)
        return found

    monkeypatch.setattr(hashing, "matches_or_takes", compare_slowly)
    assert opens(opened, client, second, first) == [False, True]
    assert state(second) == ("refused", False)


def test_a_login_that_is_overtaken_by_the_settling_of_a_later_mail_is_refused(
    opened: Context, client: Client, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: once the later mail is settled as accepted, the earlier password does not sign in."""
    first, second = begin(), begin()
    first.go_on(End.ACCEPT)
    compare = hashing.matches_or_takes

    def compare_slowly(cost: int, clear: str, password_hash: str) -> bool:
        found = compare(cost, clear, password_hash)
        if second.place == "delivering":
            second.go_on(End.ACCEPT)
        return found

    monkeypatch.setattr(hashing, "matches_or_takes", compare_slowly)
    assert opens(opened, client, first, second) == [False, True]


def test_a_mail_accepted_after_its_password_was_revoked_neither_signs_in_nor_frees_a_blocked_account(
    opened: Context, client: Client, begin: Begin
) -> None:
    late, _ = begin(), begin(revoke=True)
    Client.update(failed_logins=10, blocked_until=limits.UNTIL_NEW_CREDENTIAL).execute()
    before = Client.get()
    late.go_on(End.ACCEPT)
    assert state(late) == ("revoked", False)
    after = Client.get()
    assert (after.active_sequence, after.failed_logins, after.blocked_until) == (
        before.active_sequence,
        before.failed_logins,
        before.blocked_until,
    )
    assert opens(opened, client, late) == [False]


def test_mails_and_logins_of_one_client_leave_every_other_client_as_they_were(
    opened: Context, client: Client, begin: Begin
) -> None:
    neighbour = create_client(opened, fields.parse_fields("marc@example.org"))
    issues = [Issue(opened, neighbour, revoke=False) for _ in range(3)]
    for issue, end in zip(issues, (End.ACCEPT, End.LOSE_ANSWER, None), strict=True):
        issue.go_on()
        if end is not None:
            issue.go_on(end)
    Client.update(failed_logins=3, blocked_until=opened.clock(), email_bounced_at=opened.clock()).execute()

    def neighbours() -> list[dict[str, object]]:
        of_client = Client.select().where(Client.id == neighbour.id).dicts()
        return [*of_client, *Credential.select().where(Credential.client == neighbour.id).dicts()]

    before = neighbours()
    assert [one["state"] for one in before[1:]] == ["accepted", "in_doubt", "sending"]
    accepted, lost, refused = begin(), begin(), begin()
    accepted.go_on(End.ACCEPT)
    assert verify_login(opened, client.identifier, accepted.clear).accepted
    lost.go_on(End.LOSE_ANSWER)
    refused.go_on(End.REFUSE_ADDRESS)
    assert verify_login(opened, client.identifier, lost.clear).accepted
    assert not verify_login(opened, client.identifier, accepted.clear).accepted
    begin(revoke=True).go_on(End.ACCEPT)
    assert neighbours() == before
    issues[-1].abandon()


def test_revoke_takes_the_place_of_all_open_credentials_however_many_there_are(
    opened: Context, client: Client, begin: Begin
) -> None:
    lost = [begin() for _ in range(states.MAX_IN_DOUBT)]
    for issue in lost:
        issue.go_on(End.LOSE_ANSWER)
    new = begin(revoke=True)
    new.go_on(End.ACCEPT)
    assert state(new) == ("accepted", True)
    assert opens(opened, client, *lost, new) == [False] * states.MAX_IN_DOUBT + [True]


def test_without_a_number_of_days_an_unused_password_never_expires(opened: Context, client: Client) -> None:
    settings = opened.settings._replace(unused_password_days=0)
    made = hashing.start_hash(settings)
    issue_to_operator(opened._replace(settings=settings), client, lambda _: None, hashing=made)
    in_ten_years = opened.clock() + timedelta(days=3650)
    later = opened._replace(clock=lambda: in_ten_years)
    assert verify_login(later, client.identifier, made.password.reveal()).accepted


def test_what_is_recorded_is_returned_for_the_clients_in_question_and_no_other(opened: Context, client: Client) -> None:
    other = create_client(opened, fields.parse_fields("marc@example.org"))
    recorded = [
        states.record_credentials([NewCredential(one.id, "-", None)], at=opened.clock(), by="x", unused_days=30)
        for one in (client, other, client)
    ]
    assert [list(one) for one in recorded] == [[client.id], [other.id], [client.id]]
    assert [one.sequence for found in recorded for one in found.values()] == [1, 1, 2]
