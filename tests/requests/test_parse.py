"""What a portal passes: one e-mail address, perhaps an IP address, and nothing else whatever the bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli.errors import ClientNotFound, EgecError, InvalidInput
from egec_cli.requests.parse import MOST_BYTES, parse_request

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
