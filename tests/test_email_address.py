"""E-mail addresses: keys, the form for mail servers, and invalid addresses."""

import unicodedata

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli import email_address, translation
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


@pytest.mark.parametrize(
    ("text", "fault", "in_french"),
    [
        ("jean example.org", "it has no @", "il n\u2019y a pas de @"),
        (
            "jean\uff20example.org",
            "it has a full-width @ instead of an @",
            "il y a un @ pleine chasse au lieu d\u2019un @",
        ),
        ("a@b@x.fr", "it has more than one @", "il y a plus d\u2019un @"),
        ("@x.fr", "nothing is before the @", "il n\u2019y a rien avant le @"),
        ("a@", "nothing is after the @", "il n\u2019y a rien après le @"),
        (
            "Léon Dupont <leon@example.org>",
            "write the address alone, without a name and without < >",
            "écrivez l\u2019adresse seule, sans nom et sans < >",
        ),
        (
            "a\u200bb\u202e@x.fr",
            "before the @ it has a zero-width space, U+202E (RIGHT-TO-LEFT OVERRIDE)",
            "avant le @",
        ),
        ("a (b)@x.fr", "before the @ it has a space, '(', ')'", "avant le @, il y a une espace, '(', ')'"),
        ("a@x_y\u20ac.fr", "after the @ it has '_', U+20AC (EURO SIGN)", "après le @, il y a '_', U+20AC (EURO SIGN)"),
        (
            "a@x..fr",
            "a dot must have other characters on both sides",
            "un point doit être entre deux autres caractères",
        ),
        (
            "a@-x.fr",
            "after the @ a hyphen must have letters or digits on both sides",
            "après le @, un tiret doit être entre deux lettres ou chiffres",
        ),
        (f"a@{'b' * 64}.fr", "it is too long", "elle est trop longue"),
        ("a@x", "the part after the @ has no dot", "la partie après le @ n\u2019a pas de point"),
        (
            "a@xn--a.fr",
            "mail cannot be sent to the domain 'xn--a.fr'",
            "le domaine 'xn--a.fr' ne peut pas recevoir de courriel",
        ),
        ("\u0301a@x.fr", "the part before the @ is invalid", "la partie avant le @ est invalide"),
    ],
)
def test_the_fault_of_an_address_is_named_in_both_languages(
    monkeypatch: pytest.MonkeyPatch, text: str, fault: str, in_french: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        email_address.parse_email(text)
    assert refused.value.message == f"invalid e-mail address {text!r}: {fault}"
    monkeypatch.setenv("LANGUAGE", "fr")
    translation.set_language({"LANG": "fr_FR.UTF-8"})
    try:
        assert in_french in translation.translate(refused.value.message)
    finally:
        translation.set_language({})


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
