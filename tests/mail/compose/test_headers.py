"""Header lines: short, ASCII, and read back exactly by every reader that follows RFC 2047."""

import re
from email import message_from_bytes, policy
from email.headerregistry import Address

import hypothesis
import pytest
from faker import Faker
from hypothesis import given
from hypothesis import strategies as st

from egec_cli.mail.compose import headers
from egec_cli.settings import load

LARGEST_KEY = 2**31 - 1

# Long texts with accents, and texts that a header could misread.
AWKWARD = [
    "Société d\u2019Énergie et d\u2019Équipements Générés à Évreux", "é" * 50, "é" * 200, "é " * 50, " é ", "a  b",
    "a" + " " * 70 + "b", "x" * 300, "山" * 100, "e\u0301" * 50, "\U0001f600" * 40, "a\u00a0b", "\u202fx\u202f",
    "Dr. No (IT)", 'a"b', "\\", "=?utf-8?q?x?=", "=?utf-8?q?x?= =?utf-8?q?y?=", "é =?utf-8?q?=0D=0ABcc:_e?=",
    "=0D=0ABcc: e@x.fr", "a_b=c?d é", "<a>", ",",
]  # fmt: skip
VISIBLE = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])


def check(text: str) -> None:
    """Check a text as the subject and as the display name of a sender."""
    sender = Address(text, "a", "egec.pro")
    content = headers.format_header("From", sender) + headers.format_header("Subject", text) + b"\r\n"
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 78
    assert not {*b"\r\n"} & {*content.replace(b"\r\n", b"")}
    found = headers.parse_header(content)
    assert list(found) == ["From", "Subject"]
    assert headers.parse_address_header(found["From"]) == sender
    assert headers.parse_text_header(found["Subject"]) == text
    # The other reader is wrong about display names only.
    parsed = message_from_bytes(content, policy=policy.default)
    assert list(parsed) == ["From", "Subject"]
    assert [address.addr_spec for address in parsed["From"].addresses] == ["a@egec.pro"]
    assert parsed["Subject"] == text
    assert not parsed["Subject"].defects


@pytest.mark.parametrize("text", AWKWARD, ids=ascii)
def test_an_awkward_text_is_read_as_it_was_written(text: str) -> None:
    check(text)


@hypothesis.settings(max_examples=500)
@given(text=st.text(VISIBLE | st.sampled_from(' "=?_\\(),<>@é'), min_size=1, max_size=120))
def test_any_text_is_read_as_it_was_written(text: str) -> None:
    check(text)


def test_the_names_of_two_thousand_organisations_are_read_as_they_were_written() -> None:
    names = Faker("fr_FR")
    names.seed_instance(1)
    for _ in range(1000):
        check(names.company())
        check(f"Régie d\u2019{names.city()} et {names.company()} (été)")


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("eGEC", b"Subject: eGEC\r\n"),
        ("Été", b"Subject: =?utf-8?q?=C3=89t=C3=A9?=\r\n"),
        ("Votre mot de passe Énergie", b"Subject: =?utf-8?q?Votre_mot_de_passe_=C3=89nergie?=\r\n"),
        (Address("", "a", "egec.pro"), b"From: a@egec.pro\r\n"),
        (Address("eGEC", "a", "egec.pro"), b"From: eGEC <a@egec.pro>\r\n"),
        (Address("Dr. No (IT)", "a", "egec.pro"), b'From: "Dr. No (IT)" <a@egec.pro>\r\n'),
        (Address("Société", "a", "egec.pro"), b"From: =?utf-8?q?Soci=C3=A9t=C3=A9?=\r\n <a@egec.pro>\r\n"),
        (Address("eGEC", "noël", "egec.pro"), "From: eGEC <noël@egec.pro>\r\n".encode()),
    ],
    ids=ascii,
)
def test_what_is_plain_stands_as_it_is(value: str | Address, line: bytes) -> None:
    assert headers.format_header("Subject" if isinstance(value, str) else "From", value) == line


@pytest.mark.parametrize("character", ["\r", "\n", "\r\n", "\0", "\x1b", "\x85", "\u2028", "\u2029", "\ud800"])
@pytest.mark.parametrize("name", ["Subject", "To", "Message-ID"])
def test_a_value_with_a_line_break_or_a_control_character_is_never_written(name: str, character: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has a control character"):
        headers.format_header(name, f"a{character}Bcc: evil@example.org")


def test_no_value_but_a_subject_is_ever_encoded() -> None:
    recipient = "é" * 60 + "@" + "d" * 60 + ".example.org"
    assert headers.format_header("To", recipient) == f"To: {recipient}\r\n".encode()
    assert headers.parse_header(headers.format_header("To", recipient) + b"\r\n") == {"To": recipient}


@given(st.integers(0, LARGEST_KEY), st.sampled_from(["egec.pro", "xn--strae-oqa.de", "a.b.c.example.org"]))
def test_the_mark_of_a_message_id_is_found_in_it_and_in_its_envelope_sender(client: int, domain: str) -> None:
    message_id = headers.new_message_id(client, domain)
    sender = headers.envelope_sender("bounces@egec.pro", message_id)
    for text in (message_id, sender, f"<{sender}>", f"In-Reply-To:\n {message_id}", message_id.replace("@", "=40")):
        (mark,) = headers.find_marks(text.encode())
        assert mark.client == client
        assert message_id.startswith(f"<{mark.text}@")
    assert re.fullmatch(headers.message_id_pattern(domain), message_id)


@pytest.mark.parametrize(
    "text",
    ["", "1.0123456789abcdef01234567", "<.0123456789abcdef01234567@x>", "<1.0123456789abcdef0123456@x>", "<1.2@x>",
     "<12345678901.0123456789abcdef01234567@x>", "<1.0123456789ABCDEF01234567@x>", "4.1.0123456789abcdef01234567@x"],
)  # fmt: skip
def test_similar_text_is_not_a_mark(text: str) -> None:
    assert list(headers.find_marks(text.encode())) == []


def test_a_message_id_of_another_program_leaves_the_envelope_sender_as_it_is() -> None:
    assert headers.envelope_sender("bounces@egec.pro", "<other@example.org>") == "bounces@egec.pro"


def test_every_address_that_may_be_set_makes_envelope_senders_that_mail_servers_take() -> None:
    longest = f"{'b' * 28}@egec.pro"
    assert load.load_settings({"EGEC_MAIL_BOUNCES": longest}).mail_bounces == longest
    sender = headers.envelope_sender(longest, headers.new_message_id(LARGEST_KEY, "egec.pro"))
    assert len(sender.partition("@")[0]) <= 64
