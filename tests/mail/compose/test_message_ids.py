"""Message-IDs and envelope senders: finding their marks, and their maximum length."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli.errors import ConfigError
from egec_cli.mail.compose import message
from egec_cli.settings import load

LARGEST_KEY = 2**31 - 1


@given(st.integers(0, LARGEST_KEY), st.sampled_from(["egec.pro", "xn--strae-oqa.de", "a.b.c.example.org"]))
def test_the_mark_of_a_message_id_is_found_in_it_and_in_its_envelope_sender(client: int, domain: str) -> None:
    message_id = message.new_message_id(client, domain)
    sender = message.envelope_sender("bounces@egec.pro", message_id)
    for text in (message_id, sender, f"<{sender}>", f"In-Reply-To:\n {message_id}", message_id.replace("@", "=40")):
        (mark,) = message.find_marks(text.encode())
        assert mark.client == client
        assert message_id.startswith(f"<{mark.text}@")
    assert re.fullmatch(message.message_id_pattern(domain), message_id)


@pytest.mark.parametrize(
    "text",
    ["", "1.0123456789abcdef01234567", "<.0123456789abcdef01234567@x>", "<1.0123456789abcdef0123456@x>", "<1.2@x>",
     "<12345678901.0123456789abcdef01234567@x>", "<1.0123456789ABCDEF01234567@x>", "4.1.0123456789abcdef01234567@x"],
)  # fmt: skip
def test_similar_text_is_not_a_mark(text: str) -> None:
    assert list(message.find_marks(text.encode())) == []


def test_a_message_id_of_another_program_leaves_the_envelope_sender_as_it_is() -> None:
    assert message.envelope_sender("bounces@egec.pro", "<other@example.org>") == "bounces@egec.pro"


def test_every_address_that_may_be_set_makes_envelope_senders_that_mail_servers_take() -> None:
    longest = f"{'b' * 28}@egec.pro"
    assert load.load_settings({"EGEC_MAIL_BOUNCES": longest}).mail_bounces == longest
    sender = message.envelope_sender(longest, message.new_message_id(LARGEST_KEY, "egec.pro"))
    assert len(sender.partition("@")[0]) <= 64


@pytest.mark.parametrize(
    "address", [f"{'b' * 29}@egec.pro", "eGEC <bounces@egec.pro>", "noël@egec.pro", "bounces", "a b@egec.pro", "@x.fr"]
)
def test_an_address_that_could_not_get_bounces_is_a_fault(address: str) -> None:
    with pytest.raises(ConfigError, match="EGEC_MAIL_BOUNCES must be a bare e-mail address"):
        load.load_settings({"EGEC_MAIL_BOUNCES": address})
