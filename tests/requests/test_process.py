"""What a portal passes, whatever the bytes; requests at a real mail server: limits, floods, records, equal work."""

import json
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli import hashing
from egec_cli.clients import change, fields, records, update
from egec_cli.context import Context
from egec_cli.credentials import issue
from egec_cli.errors import ClientNotFound, EgecError, InvalidInput
from egec_cli.logins.verify import verify_login
from egec_cli.requests.process import MOST_BYTES, Processed, mail_rest, parse_request, process_request
from egec_cli.settings import load
from egec_cli.settings.types import Limit
from egec_cli.store.models import Client, Credential, Event, RateCount
from tests.activations import Letter, letters
from tests.logins.test_work import Work
from tests.shared_emails import OFFICE, create_sharers, with_sharing
from tests.smtp_server import Fault, MailServer

ADDRESS = "192.0.2.7"


@pytest.mark.parametrize(
    "data",
    [
        b"jeanne@example.org",
        b"jeanne@example.org\n",
        b"jeanne@example.org\r\n",
        b"  Jeanne@EXAMPLE.org \t\n\n",
        "\u00a0jeanne@example.org\u200b\ufeff\n \n".encode(),
    ],
)
def test_white_space_and_case_do_not_matter(data: bytes) -> None:
    request = parse_request(data)
    assert (request.email.key, request.network) == ("jeanne@example.org", "")


@pytest.mark.parametrize(
    ("line", "network"),
    [("192.0.2.7", "192.0.2.0/24"), (" ::ffff:192.0.2.7\r", "192.0.2.0/24"), ("2001:db8::7", "2001:db8::/64")],
)
def test_a_second_line_is_the_address_of_the_requester(line: str, network: str) -> None:
    assert parse_request(f"jeanne@example.org\n{line}\n".encode()).network == network


@pytest.mark.parametrize("line", ["portal.example.org", "192.0.2.7:443", "192.0.2.7, 198.51.100.1", "\0", "-1"])
def test_a_second_line_that_is_no_address_is_an_error_of_the_portal(line: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_request(f"jeanne@example.org\n{line}".encode())
    assert (refused.value.exit_code, refused.value.code) == (65, "invalid_origin")


@pytest.mark.parametrize(
    "data",
    [
        b"jeanne@example.org\n192.0.2.7\n192.0.2.8\n",
        b"jeanne@example.org\n\n192.0.2.8",
        b"jeanne@example.org\nBcc: marc@example.org\n192.0.2.8",
        b"\nnobody\n192.0.2.8",
    ],
)
def test_more_lines_are_an_error_of_the_portal_as_at_a_login(data: bytes) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_request(data)
    assert (refused.value.exit_code, refused.value.code) == (65, "invalid_origin")


HOSTILE = [
    b"",
    b"\n",
    b"\n192.0.2.7\n",
    b"\0",
    b"jeanne@example.org\0",
    b"jeanne\0@example.org",
    b"5079512743",
    b"ref:D-2047",
    b"D-2047",
    b"--help",
    b"--stdin",
    b"jeanne@example.org marc@example.org",
    b"jeanne@example.org,marc@example.org",
    b"jeanne@example.org;marc@example.org",
    b"Jeanne <jeanne@example.org>",
    b"<jeanne@example.org>",
    b"jeanne@example.org\rmarc@example.org",
    b"jeanne@example.org\x1b[2J",
    b"\xff\xfe",
    "jeanne@example.org".encode("utf-16"),
    b"jeanne@example.org\xff",
    b"=?utf-8?q?jeanne?=@example.org",
    b'"ref:D-2047"@example.org',
    b"jeanne@localhost",
    b"jeanne@[192.0.2.7]",
    b"x" * 300 + b"@example.org",
    b"jeanne@example.org" + b" " * MOST_BYTES,
    b"\n" * MOST_BYTES,
    b"x" * (MOST_BYTES + 1),
]


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:40]))
def test_anything_but_one_address_is_not_recognised_and_not_quoted(data: bytes) -> None:
    with pytest.raises(ClientNotFound) as refused:
        parse_request(data)
    assert (refused.value.exit_code, refused.value.code) == (67, "invalid_request")
    assert refused.value.message == "the request is not an e-mail address"


def test_an_address_that_begins_like_an_option_is_an_address() -> None:
    assert parse_request(b"-x@example.org").email.key == "-x@example.org"


@given(st.binary(max_size=3 * MOST_BYTES) | st.text(max_size=80).map(lambda text: f"{text}@example.org".encode()))
def test_no_bytes_cause_another_error(data: bytes) -> None:
    code = ""
    try:
        key = parse_request(data).email.key
    except EgecError as error:
        code, key = error.code, "none@none"
    assert code in {"", "invalid_request", "invalid_origin"}
    assert "@" in key
    assert key.isprintable()


SENT = (
    "Un courriel a été envoyé dans votre b-a-l, avec des instructions.\n"
    "La réception peut atteindre 5 min. Vérifiez éventuellement dans vos SPAMs"
)
JEANNE, MARC, NOBODY = "jeanne@example.org", "marc@example.org", "nobody@example.org"
PAUL = "paul@example.org"


@pytest.fixture
def door(server: MailServer, opened: Context) -> Context:
    """Return a context with a mail server, and the clients Jeanne and Marc, who is disabled."""
    for email in (JEANNE, MARC):
        records.create_client(opened, fields.parse_fields(email))
    change.disable_clients(opened, [Client.get(Client.email_key == MARC).id], reason="left")
    return opened._replace(settings=load.load_settings())


def silent(context: Context) -> Context:
    """Return the context with EGEC_REQUEST_DISCLOSES=no."""
    return context._replace(settings=context.settings._replace(request_discloses=False))


def later(context: Context, **passed: float) -> Context:
    moment = context.clock() + timedelta(**passed)
    return context._replace(clock=lambda: moment)


def request(context: Context, email: str = JEANNE, origin: str = "") -> Processed | str:
    """Process a request; return its result or the code of its error."""
    try:
        return process_request(context, parse_request(f"{email}\n{origin}".encode()))
    except EgecError as error:
        return error.code


def reason(context: Context, email: str = JEANNE, origin: str = "") -> str:
    ended = request(context, email, origin)
    return ended if isinstance(ended, str) else ended.reason


def opens(context: Context, received: Letter) -> bool:
    """Return whether a login with this letter is accepted."""
    return verify_login(context, received.identifier, received.password).accepted


def requests_recorded() -> list[tuple[str, dict[str, object]]]:
    events = Event.select().where(Event.action == "client.request").order_by(Event.id)
    return [(event.outcome, json.loads(event.details)) for event in events]


def test_a_request_mails_a_password_and_a_second_one_changes_nothing(door: Context, server: MailServer) -> None:
    first, second = request(door), request(door)
    assert isinstance(first, Processed)
    assert (first.reason, first.text) == ("accepted", SENT)
    assert isinstance(second, Processed)
    assert (second.reason, second.text, second.issued) == ("client_limited", SENT, None)
    [only] = letters(server)
    assert opens(door, only)
    assert Credential.select().count() == 1
    assert [(outcome, details.get("sequence")) for outcome, details in requests_recorded()] == [
        ("accepted", 1),
        ("limited", None),
    ]


def test_a_client_gets_five_mails_a_day_with_five_minutes_between_them(door: Context, server: MailServer) -> None:
    start = door.clock()
    for minute in (*range(0, 12, 3), *range(12, 24 * 60, 60)):
        reason(door._replace(clock=lambda minute=minute: start + timedelta(minutes=minute)))  # type: ignore[misc]
    assert len(server.accepted) == 5
    assert opens(door, letters(server)[-1])


def test_a_network_has_ten_requests_an_hour_whoever_they_are_for(door: Context, server: MailServer) -> None:
    found = [reason(door, f"c{number}@example.org", f"192.0.2.{number}") for number in range(10)]
    assert set(found) == {"unknown_client"}
    assert reason(door, JEANNE, "192.0.2.200") == "origin_limited"
    assert reason(door, NOBODY, "::ffff:192.0.2.200") == "origin_limited"
    assert reason(door, JEANNE, "198.51.100.1") == "accepted"
    assert reason(later(door, minutes=61), JEANNE, "192.0.2.200") == "accepted"


def test_a_flood_from_many_networks_sends_one_mail_and_leaves_the_password_of_that_mail(
    door: Context, server: MailServer
) -> None:
    origins = [f"10.{number}.0.1" for number in range(50)]
    found = Counter(reason(door, JEANNE, origins[number % 50]) for number in range(102))
    assert found == {"accepted": 1, "client_limited": 101}
    [only] = letters(server)
    assert opens(door, only)
    # 50 networks and one client; the accepted one, then the first, tenth and hundredth.
    assert RateCount.select().count() == 51
    assert len(requests_recorded()) == 4


def test_a_flood_while_the_mail_server_is_down_changes_nothing(door: Context, server: MailServer) -> None:
    request(door)
    [received] = letters(server)
    server.fail_always(Fault.MAIL_451)
    found = Counter(reason(later(door, minutes=6), JEANNE, f"10.{number}.0.1") for number in range(12))
    assert found == {"mail_throttled": 12}
    assert opens(door, received)
    server.work_again()
    assert reason(later(door, minutes=6)) == "accepted"
    assert not opens(door, received)


def test_requests_that_fail_use_up_no_limit(door: Context, server: MailServer) -> None:
    server.fail_always(Fault.MAIL_451)
    assert {reason(door, JEANNE, "192.0.2.7") for _ in range(12)} == {"mail_throttled"}
    server.work_again()
    assert reason(door, JEANNE, "192.0.2.7") == "accepted"


def test_a_request_whose_mail_may_have_left_counts(door: Context, server: MailServer) -> None:
    server.fail_next(Fault.CUT_AFTER_KEEPING)
    assert reason(door) == "in_doubt"
    assert reason(door) == "client_limited"
    [kept] = letters(server)
    assert opens(door, kept)


def test_operators_are_not_limited(door: Context, server: MailServer) -> None:
    jeanne = Client.get(Client.email_key == JEANNE)
    for _ in range(3):
        issue.mail_credential(door, jeanne, hashing=hashing.start_hash(door.settings))
    assert reason(door) == "accepted"
    assert len(server.accepted) == 4


def test_unknown_and_disabled_clients_are_refused_and_get_no_mail(door: Context, server: MailServer) -> None:
    assert reason(door, NOBODY) == "unknown_client"
    assert reason(door, MARC) == "client_disabled"
    assert server.accepted == []
    assert requests_recorded() == [
        ("refused", {"reason": "unknown_client"}),
        ("refused", {"reason": "client_disabled"}),
    ]


@pytest.mark.parametrize("validity", [{"valid_from": "2099-01-01"}, {"valid_until": "2020-12-31"}])
def test_clients_outside_their_validity_are_refused_and_get_no_mail(
    door: Context, server: MailServer, validity: dict[str, str]
) -> None:
    Client.update(**validity).where(Client.email_key == JEANNE).execute()
    assert reason(door) == "client_inactive"
    assert server.accepted == []
    assert requests_recorded() == [("refused", {"reason": "client_inactive"})]


@pytest.mark.parametrize("email", ["5079512743", "ref:D-2047", "D-2047"])
def test_identifiers_and_references_are_not_accepted(door: Context, email: str) -> None:
    Client.update(identifier="5079512743", reference="D-2047").where(Client.email_key == JEANNE).execute()
    assert reason(door, email) == "invalid_request"


def test_refused_requests_are_recorded_ten_times_then_at_powers_of_ten(door: Context) -> None:
    for number in range(25):
        reason(door, f"c{number}@example.org")
    recorded = requests_recorded()
    assert len(recorded) == 10 + 2
    assert [details.get("number") for _, details in recorded[9:]] == [None, 1, 10]
    assert RateCount.select().count() == 1


def test_without_limits_every_request_counts(door: Context, server: MailServer) -> None:
    free = door._replace(settings=door.settings._replace(requests_per_client=(), requests_per_origin=()))
    assert [reason(free, JEANNE, "192.0.2.7") for _ in range(12)] == ["accepted"] * 12


def test_no_address_is_stored(door: Context) -> None:
    reason(door, JEANNE, "203.0.113.77")
    reason(door, "secret.person@example.org", "203.0.113.77")
    stored = [str(row.__data__) for table in (Event, RateCount) for row in table.select()]
    assert not [row for row in stored if "203.0.113" in row or "secret.person" in row]
    assert '"origin": "' in "".join(stored)


def test_the_answer_is_in_the_clients_language_unless_requests_disclose_nothing(door: Context) -> None:
    Client.update(language="en").execute()
    english, french = request(door), request(silent(later(door, minutes=6)))
    assert isinstance(english, Processed)
    assert isinstance(french, Processed)
    assert english.text.startswith("An e-mail with instructions")
    assert (french.reason, french.text) == ("accepted", SENT)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


def test_undisclosed_requests_take_the_same_work_for_known_unknown_disabled_and_inactive_clients(
    door: Context, work: Work
) -> None:
    records.create_client(door, fields.parse_fields(PAUL, valid_from="2099-01-01"))
    for repeated in (False, True):
        rounds = []
        for email in (JEANNE, MARC, PAUL, NOBODY):
            before = work.done
            reason(silent(door), email, "192.0.2.7")
            rounds.append(work.done - before)
        assert rounds == [0 if repeated else 2**door.settings.bcrypt_cost] * 4


def test_a_limited_request_takes_no_work(door: Context, work: Work, server: MailServer) -> None:
    reason(door)
    before, connections = work.done, server.connections
    assert reason(door) == "client_limited"
    assert (work.done, server.connections) == (before, connections)
    one = door._replace(settings=door.settings._replace(requests_per_origin=(Limit(1, 60),)))
    reason(one, NOBODY, "192.0.2.7")
    assert reason(later(one, seconds=1), JEANNE, "192.0.2.7") == "origin_limited"
    assert work.done == before


def mail_all(context: Context) -> Processed:
    """Process a request for the shared e-mail, with what follows the answer."""
    processed = process_request(context, parse_request(OFFICE.encode()))
    mail_rest(context, processed.rest, OFFICE, processed.source)
    return processed


def test_a_request_for_a_shared_email_mails_one_client_before_the_answer_and_the_others_after_it(
    door: Context, server: MailServer
) -> None:
    sharing = with_sharing(door)
    sharers = create_sharers(sharing, 3)
    change.disable_clients(sharing, [sharers[0].id], reason="left")
    processed = process_request(sharing, parse_request(OFFICE.encode()))
    assert (processed.reason, processed.text, list(processed.rest)) == ("accepted", SENT, [sharers[2].id])
    assert [one.identifier for one in letters(server)] == [sharers[1].identifier]
    mail_rest(sharing, processed.rest, OFFICE, processed.source)
    received = letters(server)
    assert [one.identifier for one in received] == [one.identifier for one in sharers[1:]]
    assert all(opens(sharing, one) for one in received)
    assert [outcome for outcome, _ in requests_recorded()] == ["accepted", "accepted"]


def test_a_limit_counts_a_request_for_a_shared_email_once(door: Context, server: MailServer) -> None:
    sharing = with_sharing(door)
    create_sharers(sharing, 3)
    start = sharing.clock()
    for minute in range(0, 60, 6):
        mail_all(sharing._replace(clock=lambda minute=minute: start + timedelta(minutes=minute)))  # type: ignore[misc]
    # Five requests a day.
    assert len(server.accepted) == 15
    assert RateCount.select().count() == 1


def test_a_client_whose_mail_fails_leaves_the_others_theirs(door: Context, server: MailServer) -> None:
    sharing = with_sharing(door)
    sharers = create_sharers(sharing, 3)
    server.fail_next(Fault.RCPT_451)
    assert mail_all(sharing).reason == "accepted"
    assert [one.identifier for one in letters(server)] == [one.identifier for one in sharers[1:]]
    assert [outcome for outcome, _ in requests_recorded()] == ["failed", "accepted", "accepted"]
    # It counts: two clients have a new password.
    assert reason(sharing, OFFICE) == "client_limited"


def test_a_request_that_mailed_nobody_does_not_count(door: Context, server: MailServer) -> None:
    sharing = with_sharing(door)
    create_sharers(sharing)
    server.fail_always(Fault.RCPT_451)
    assert reason(sharing, OFFICE) == reason(sharing, OFFICE) != "client_limited"
    server.work_again()
    assert reason(sharing, OFFICE) == "accepted"


def test_a_client_who_leaves_the_email_meanwhile_gets_no_mail(door: Context, server: MailServer) -> None:
    sharing = with_sharing(door)
    sharers = create_sharers(sharing, 3)
    processed = process_request(sharing, parse_request(OFFICE.encode()))
    update.update_client(sharing, sharers[1], {"email": "moved@example.org"})
    change.disable_clients(sharing, [sharers[2].id], reason="left")
    mail_rest(sharing, processed.rest, OFFICE, processed.source)
    assert len(server.accepted) == 1
