"""E-mail addresses: keys, the form for mail servers, and invalid addresses."""

import unicodedata

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli import email_address
from egec_cli.email_address import EmailAddress
from egec_cli.errors import InvalidInput

HOSTILE = [
    "", "@", "a@", "@x.fr", "a", "a@x", "a@localhost", "a@x.test", "a@[127.0.0.1]", "a@x..fr", "a..b@x.fr", ".a@x.fr",
    "a.@x.fr", "a@-x.fr", "a@x.fr.", "a b@x.fr", '"a b"@x.fr', "a@x.fr,evil@y.fr", "a@x.fr;evil@y.fr", "a@evil.fr@x.fr",
    "Jeanne <a@x.fr>", "<a@x.fr>", "a(c)@x.fr", "a@x.fr(c)", "mailto:a@x.fr", "a@x.fr\nBcc: evil@y.fr", "a\r\n@x.fr",
    "a\x00@x.fr", "a@x.fr\x00b", "a\x1b[31m@x.fr", "a\u202e@x.fr", "a\u200bb@x.fr", "a@x\u200b\ud800.fr", "\udc80@x.fr",
    "=?utf-8?q?x=0D=0ABcc:_evil?=@x.fr", "=?utf-8?q?x?=@x.fr", "a@xn--a.fr", "a@" + "b" * 64 + ".fr",
    "a@" + "b." * 150 + "fr", "<script>@x.fr", "a\\@x.fr",
]  # fmt: skip

local_parts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12) | st.text("aZéßİ\u017fΣς'+=?.\u0301\u0345")
known_domains = st.sampled_from(["x.fr", "EXAMPLE.ORG", "straße.de", "ÉCOLE.fr", "例え.jp"])
domains = known_domains | st.text(max_size=8).map("{}.fr".format)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Jeanne.DUPONT@Example.ORG", "jeanne.dupont@example.org"),
        ("  jeanne@example.org\t\n", "jeanne@example.org"),
        ("\u00a0jeanne@example.org\u3000", "jeanne@example.org"),
        ("no\u00ebl@x.fr", "noe\u0308l@x.fr"),
        ("NO\u00cbL@x.fr", "noe\u0308l@x.fr"),
        ("STRASSE@x.fr", "straße@x.fr"),
        ("a@münchen.de", "a@xn--mnchen-3ya.de"),
        ("a@MU\u0308NCHEN.de", "a@münchen.de"),
        ("a@\uff58\u3002fr", "a@x.fr"),
    ],
)
def test_two_spellings_of_one_address_have_one_key(one: str, other: str) -> None:
    assert email_address.parse_email(one).key == email_address.parse_email(other).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a@straße.de", "a@strasse.de"),
        ("noel@x.fr", "noël@x.fr"),
        ("a.b@x.fr", "ab@x.fr"),
        ("a+b@x.fr", "a@x.fr"),
        ("a@x.fr", "a@y.x.fr"),
    ],
)
def test_two_addresses_have_two_keys(one: str, other: str) -> None:
    assert email_address.parse_email(one).key != email_address.parse_email(other).key


def test_servers_get_the_local_part_as_given_and_the_domain_in_idna() -> None:
    address = email_address.parse_email(" Noe\u0308l@Straße.DE ")
    assert address == ("No\u00ebl@Straße.DE", "no\u00ebl@xn--strae-oqa.de", "No\u00ebl@xn--strae-oqa.de")


@pytest.mark.parametrize("address", ["o'neill@x.fr", "%s@x.fr", "a+b=c@x.fr", "山田@例え.jp", "a_b-c@x-y.museum"])
def test_unusual_addresses_are_valid(address: str) -> None:
    assert email_address.parse_email(address).given == address


@pytest.mark.parametrize("text", HOSTILE)
def test_an_invalid_address_is_refused_in_one_printable_line(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"invalid e-mail address|encoded word") as refused:
        email_address.parse_email(text)
    assert refused.value.message.isprintable()
    assert refused.value.hint


@hypothesis.settings(deadline=None)
@given(local_parts, domains)
@hypothesis.example("0", "0\u0345\u0300.fr")
def test_the_key_of_a_key_is_itself_and_every_form_has_the_same_key(local_part: str, domain: str) -> None:
    try:
        address = email_address.parse_email(f"{local_part}@{domain}")
    except InvalidInput:
        return
    assert [email_address.parse_email(form).key for form in address] == [address.key] * 3
    assert all(unicodedata.is_normalized("NFC", form) for form in address)
    assert address.wire.rpartition("@")[2].isascii()


@hypothesis.settings(deadline=None)
@given(st.text(st.characters()) | st.text(st.characters()).map("{}@x.fr".format))
def test_no_text_raises_anything_but_invalid_input(text: str) -> None:
    try:
        address = email_address.parse_email(text)
    except InvalidInput:
        return
    assert address.wire.count("@") == 1
    assert address.wire.isprintable()


LOCAL_PARTS = st.one_of(
    st.from_regex(r"[a-zA-Z0-9._+\-]{0,10}", fullmatch=True),
    st.text(st.sampled_from("ab.@+-_ \"'()<>,;:\\\t\u200b\u00a0éÉ"), max_size=6),
    st.sampled_from(["x" * 64, "x" * 65, ".a", "a.", "a..b", "postmaster", "test", "=?utf-8?q?a?="]),
)
DOMAINS = st.one_of(
    st.from_regex(r"[a-zA-Z0-9.\-]{0,12}\.(fr|org|com)", fullmatch=True),
    st.sampled_from(
        [
            *("example.org", "EXAMPLE.org", "straße.de", "e\u0301cole.fr", "École.fr", "xn--cole-9oa.fr", "localhost"),
            *("x.test", "127.0.0.1", "[127.0.0.1]", "-x.fr", "x-.fr", "x..fr", ".fr", "", "x" * 64 + ".fr"),
            "a." * 126 + "fr",
        ]
    ),
)


@given(local_part=LOCAL_PARTS, domain=DOMAINS, around=st.sampled_from(["", " ", "\n", "\u00a0"]))
def test_the_short_cut_agrees_with_the_library(local_part: str, domain: str, around: str) -> None:
    text = f"{around}{local_part}@{domain}{around}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(email_address, "parse_plain", lambda _given: None)
        by_the_library = outcome(text)
    assert outcome(text) == by_the_library


def outcome(text: str) -> EmailAddress | None:
    try:
        return email_address.parse_email(text)
    except InvalidInput:
        return None


def test_the_short_cut_is_taken_for_plain_addresses() -> None:
    assert email_address.parse_plain("Jeanne.Dupont+x@École.fr") == email_address.parse_email(
        "Jeanne.Dupont+x@École.fr"
    )
    assert email_address.parse_plain("jeanne@example.org") is not None
