"""The mail with identifier and password, as a mail program reads it; the marks in Message-IDs and envelope senders."""

import re
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli.clients import fields
from egec_cli.errors import ConfigError, InvalidInput
from egec_cli.mail.compose import message
from egec_cli.mail.compose.message import Mail
from egec_cli.password import Password
from egec_cli.settings import load
from egec_cli.settings.types import LANGUAGES, Settings
from tests.mail.generated import READER

CLEAR = "fG69a*6jH"
IDENTIFIER = "9876543210"
ISSUED_AT = datetime(2026, 11, 24, 3, 30, 7, 999_000, tzinfo=UTC)
AWKWARD_NAMES = [
    "", "M. Dupont", "Mme Noëlle d'Œuvre-N'Guessan", "Ægir 山田", "[/]", "$password", "${identifier}", "&amp;",
    "<script>x", "Subject: x", "From evil", ".", "..", "--", "--=_x", "=", "=3D=C3", "=0D=0ABcc: e@x.fr",
    "a" * 100, "é" * 100, "山" * 100, CLEAR, "\u200d", "\U0001f468\u200d\U0001f469",
]  # fmt: skip

# The statements of the memo's example in each language.
SAID = {
    "fr": [
        "M. Dupont, bonjour,", "(www.egec.pro)", f"Votre identifiant CLIENT est : {IDENTIFIER}",
        f"Votre mot de passe est : {CLEAR}", "majuscules et les minuscules", "« 0 » = zéro, « O » = lettre O majuscule",
        "pas avoir copié d'espaces devant ou derrière l'identifiant et le mot de passe",
        "« mot-de-passe oublié » (page d'authentification) pour générer un nouveau mot de passe",
        "plusieurs courriels, prenez en compte uniquement le dernier", "Service IT", "Merci.",
        "*** MESSAGE AUTOMATIQUE DU SERVEUR. NE PAS RÉPONDRE À CE COURRIEL",
    ],
    "en": [
        "Dear M. Dupont,", "(www.egec.pro)", f"Your CLIENT identifier is: {IDENTIFIER}", f"Your password is: {CLEAR}",
        "Capital and small letters matter", "“0” = zero, “O” = capital letter O", "copy and paste",
        "not copied any spaces before or after the identifier and the password",
        "“mot-de-passe oublié” (forgotten password, on the sign-in page) to generate a new password",
        "only the latest one counts", "Service IT", "Thank you.",
        "*** AUTOMATIC MESSAGE FROM THE SERVER. DO NOT REPLY TO THIS E-MAIL",
    ],
}  # fmt: skip


def built(found: Settings | None = None, /, **changed: Any) -> Mail:
    arguments: dict[str, Any] = {
        "recipient": "jeanne@example.org",
        "language": "fr",
        "name": "M. Dupont",
        "identifier": IDENTIFIER,
        "password": Password(CLEAR),
        "issued_at": ISSUED_AT,
    }
    return message.credentials_mail(found or load.load_settings({}), **arguments | changed)


def parsed(mail: Mail) -> EmailMessage:
    return message_from_bytes(mail.content, policy=READER)


class Leaf(NamedTuple):
    """A piece of text of an HTML page, and the styles of the element around it."""

    text: str
    tag: str
    style: str


class Page(HTMLParser):
    """Reads the pieces of text of a page's body, and every tag of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.leaves: list[Leaf] = []
        self.tags: list[str] = []
        self._open: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self._open.append((tag, dict(attrs).get("style") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if "body" in [tag for tag, _ in self._open]:
            self.leaves.append(Leaf(data, *self._open[-1]))


def parts(mail: Mail) -> tuple[str, Page]:
    """Return the text and the page as a client reads them."""
    text, html = (parsed(mail).get_body((kind,)) for kind in ("plain", "html"))
    assert text
    assert html
    return text.get_content().replace("\r\n", "\n"), Page(html.get_content())


def plain(text: str) -> str:
    """Return a text without typography: one blank for any white space, straight apostrophes, no list marks."""
    return " ".join(re.sub(r"(?m)^- ", "", text).replace("\u2019", "'").split())


@st.composite
def names(draw: st.DrawFn) -> str:
    """Draw any name that a client record accepts."""
    text = draw(
        st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]) | st.sampled_from("=?$<>&{}[]\u200d"), max_size=100)
    )
    try:
        return fields.clean_line("last name", text)
    except InvalidInput:
        hypothesis.reject()


def greeting(name: str, language: str) -> str:
    if language == "fr":
        return f"{name}, bonjour,\n" if name else "Bonjour,\n"
    return f"Dear {name},\n" if name else "Hello,\n"


def check_the_whole(name: str, language: str) -> None:
    """Check the properties of every mail."""
    mail = built(name=name, language=language)
    head, _, body = mail.content.partition(b"\r\n\r\n")
    assert max(map(len, head.split(b"\r\n"))) <= 998
    # The limit of quoted-printable lines (RFC 2045, 6.7); filters look for longer ones.
    assert max(map(len, body.split(b"\r\n"))) <= 76
    assert not {*b"\r\n"} & {*mail.content.replace(b"\r\n", b"")}
    assert mail.content.isascii()
    assert CLEAR.encode() not in head
    assert re.findall(rb"(?m)^([!-9;-~]+):", head) == [
        b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Auto-Submitted", b"X-Auto-Response-Suppress",
        b"MIME-Version", b"Content-Type",
    ]  # fmt: skip
    assert b"\r\nTo: jeanne@example.org\r\n" in head
    whole = parsed(mail)
    assert not whole.defects
    assert whole.get_content_type() == "multipart/alternative"
    inner = list(whole.iter_parts())
    assert [part.get_content_type() for part in inner] == ["text/plain", "text/html"]
    assert {part["Content-Transfer-Encoding"] for part in inner} == {"quoted-printable"}
    assert {part.get_content_charset() for part in inner} == {"utf-8"}
    text, page = parts(mail)
    assert text.startswith(greeting(name, language))
    for wanted in (IDENTIFIER, CLEAR):
        assert f"\n\n{wanted}\n\n" in text
        assert [leaf.tag for leaf in page.leaves if leaf.text == wanted] == ["code"]
    assert "script" not in page.tags
    assert plain(text) == plain("".join(leaf.text for leaf in page.leaves))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", AWKWARD_NAMES, ids=ascii)
def test_the_mail_is_whole_with_an_awkward_name(language: str, name: str) -> None:
    check_the_whole(name, language)


@hypothesis.settings(deadline=None, max_examples=150)
@given(name=names(), language=st.sampled_from(LANGUAGES))
def test_the_mail_is_whole_with_any_name_that_a_client_may_have(name: str, language: str) -> None:
    check_the_whole(name, language)


@pytest.mark.parametrize(("language", "said"), [(language, said) for language in LANGUAGES for said in SAID[language]])
def test_text_and_page_say_what_the_memo_says(language: str, said: str) -> None:
    text, page = parts(built(language=language))
    assert said in plain(text)
    assert said in plain("".join(leaf.text for leaf in page.leaves))


def test_the_mail_states_the_time_of_issue_to_the_second() -> None:
    times = {
        "fr": "le 24 novembre 2026 à 04:30:07 (heure de Paris).",
        "en": "on 24 November 2026 at 04:30:07 (Paris time).",
    }
    for language, text in times.items():
        assert text in parts(built(language=language))[0]


# --- the page ---


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_password_stands_alone_in_a_monospace_element_of_the_page(language: str) -> None:
    page = parts(built(language=language))[1]
    leaves = [leaf for leaf in page.leaves if CLEAR in leaf.text]
    assert [(leaf.tag, leaf.text) for leaf in leaves] == [("code", CLEAR)]
    assert re.search(r"font-family:[^;]*\bmonospace\b", leaves[0].style)
    place = page.leaves.index(leaves[0])
    assert {page.leaves[place - 1].tag, page.leaves[place + 1].tag} == {"div"}, "a blank stands beside the password"


@pytest.mark.parametrize("clear", ["<b>&amp;x", "aB3&lt;\"'", "a=3D.B1_", "=20Aa1==="])
def test_specials_of_html_and_quoted_printable_come_out_as_they_are(clear: str) -> None:
    text, page = parts(built(password=Password(clear)))
    assert f"\n\n{clear}\n\n" in text
    assert [leaf.tag for leaf in page.leaves if leaf.text == clear] == ["code"]


def test_the_page_fetches_nothing_and_links_nowhere() -> None:
    page = parts(built())[1]
    assert not {"a", "img", "link", "script", "iframe", "form"} & set(page.tags)
    assert b"http" not in built().content


# --- headers ---


def test_the_headers_are_those_of_an_automatic_message() -> None:
    mail = built()
    whole = parsed(mail)
    assert whole["From"] == "eGEC <ne-pas-repondre@egec.pro>"
    assert whole["Auto-Submitted"] == "auto-generated"
    assert whole["Date"].datetime == ISSUED_AT.replace(microsecond=0)
    assert whole["Message-ID"] == mail.message_id
    assert re.fullmatch(r"<0\.[0-9a-f]{24}@egec\.pro>", mail.message_id)
    assert (mail.sender, mail.recipient) == ("ne-pas-repondre@egec.pro", "jeanne@example.org")
    assert mail.needs_smtputf8 is False
    assert built().message_id != mail.message_id


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_subject_is_short_and_in_ascii(language: str) -> None:
    subject = parsed(built(language=language))["Subject"]
    assert "eGEC" in subject
    assert subject.isascii()
    assert len(subject) <= 60
    assert f"Subject: {subject}\r\n".encode() in built(language=language).content


def test_a_mail_shows_no_password_of_itself() -> None:
    mail = built()
    for shown in (repr(mail), str(mail), f"{mail}", repr([mail])):
        assert CLEAR not in shown
        assert shown.strip("[]") == f"Mail({mail.message_id} to jeanne@example.org)"


@pytest.mark.parametrize(
    ("mail_from", "header", "sender"),
    [
        ("jeanne@example.org", "jeanne@example.org", "jeanne@example.org"),
        ("<jeanne@example.org>", "jeanne@example.org", "jeanne@example.org"),
        ("Mon Service <a@example.org>", "Mon Service <a@example.org>", "a@example.org"),
        ("Société d'Été <a@example.org>", "Société d'Été <a@example.org>", "a@example.org"),
        ("Dr. No (IT) <a@example.org>", '"Dr. No (IT)" <a@example.org>', "a@example.org"),
        ("eGEC <a@Straße.de>", "eGEC <a@xn--strae-oqa.de>", "a@xn--strae-oqa.de"),
        ("eGEC <noël@example.org>", "eGEC <noël@example.org>", "noël@example.org"),
    ],
)
def test_the_sender_is_the_one_of_the_settings(mail_from: str, header: str, sender: str) -> None:
    mail = built(load.load_settings({"EGEC_MAIL_FROM": mail_from}))
    assert str(parsed(mail)["From"]) == header
    assert mail.sender == sender
    assert mail.message_id.endswith("@" + sender.rpartition("@")[2] + ">")
    assert mail.needs_smtputf8 is not sender.isascii()


@pytest.mark.parametrize("variable", ["EGEC_MAIL_FROM", "EGEC_MAIL_REPLY_TO"])
@pytest.mark.parametrize(
    "address",
    [
        "eGEC", "a@", "eGEC <a@example.org", "a@example.org>", "a@example.org, b@example.org", "a@localhost",
        "eGEC <a@x>", "b@y.fr <a@example.org>", "=?utf-8?q?x?= <a@example.org>", "a..b@example.org",
        "eGEC\nBcc: b@y.fr <a@example.org>",
    ],
)  # fmt: skip
def test_an_invalid_address_in_the_settings_is_reported_with_its_variable(variable: str, address: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        built(load.load_settings({variable: address}))


def test_replies_go_to_the_address_in_the_settings() -> None:
    assert "Reply-To" not in parsed(built())
    found = load.load_settings({"EGEC_MAIL_REPLY_TO": "Service IT <it@example.org>"})
    assert parsed(built(found))["Reply-To"] == "Service IT <it@example.org>"
    assert built(load.load_settings({"EGEC_MAIL_REPLY_TO": "été@example.org"})).needs_smtputf8


def test_an_address_beyond_ascii_asks_for_smtputf8_and_comes_out_as_it_is() -> None:
    mail = built(recipient="noël@xn--strae-oqa.de")
    assert mail.needs_smtputf8 is True
    assert str(parsed(mail)["To"]) == "noël@xn--strae-oqa.de"
    assert "\r\nTo: noël@xn--strae-oqa.de\r\n".encode() in mail.content


@pytest.mark.parametrize(
    "recipient",
    [
        "a@x.fr,evil@y.fr",
        "a@x.fr\nBcc: evil@y.fr",
        "a@x.fr\r\n\r\nbody",
        "=?utf-8?q?x?=@x.fr",
        "=?utf-8?q?x=0D=0ABcc:_e?=@x.fr",
    ],
)
def test_a_recipient_that_would_become_something_else_is_never_written(recipient: str) -> None:
    with pytest.raises(ConfigError, match=r"^the mail (cannot be written|would arrive with a damaged To)"):
        built(recipient=recipient)


@pytest.mark.parametrize(
    "app_name", ["é" * 60, "Société d'Énergie et de Gestion", "a  b", "x" * 300, "[/]", "$password", "<b>", "."]
)
def test_any_name_of_the_application_comes_out_as_it_is_or_is_refused(app_name: str) -> None:
    try:
        mail = built(load.load_settings({"EGEC_APP_NAME": app_name}))
    except ConfigError as error:
        assert "would arrive with a damaged Subject" in error.message  # noqa: PT017 - either outcome is right
        return
    assert app_name in parsed(mail)["Subject"]
    assert app_name in parts(mail)[0]


# --- templates of the organisation's own ---

TEXT = "Subject: Bonjour\n\n$identifier $password"
PAGE = "<p>$identifier $password</p>"


def own(folder: Path, text: str = TEXT, html: str = PAGE) -> Settings:
    (folder / "credentials.fr.txt").write_text(text, encoding="utf-8")
    (folder / "credentials.fr.html").write_text(html, encoding="utf-8")
    return load.load_settings({"EGEC_TEMPLATES": str(folder)})


def test_own_templates_are_used_even_without_a_last_line_end(tmp_path: Path) -> None:
    mail = built(own(tmp_path))
    assert parsed(mail)["Subject"] == "Bonjour"
    assert parts(mail)[0].strip() == f"{IDENTIFIER} {CLEAR}"


@pytest.mark.parametrize(
    ("text", "html", "message"),
    [
        ("Subject: $password\n\n$identifier", PAGE, r"credentials\.fr\.txt:1: the subject shows the password"),
        ("Subject: a$password.\n\n$identifier", PAGE, r"credentials\.fr\.txt:1: the subject shows the password"),
        ("$identifier $password", PAGE, r"credentials\.fr\.txt:1: the file must start with `Subject: "),
        ("Subject: a\n$identifier $password", PAGE, r"credentials\.fr\.txt:1: the file must start with `Subject: "),
        ("\nSubject: a\n\n$identifier $password", PAGE, r"credentials\.fr\.txt:1: the file must start with `Subject: "),
        ("Subject: a\n\n$identifier", PAGE, r"credentials\.fr\.txt:1: the text does not use \$password"),
        ("Subject: a\n\n$password", PAGE, r"credentials\.fr\.txt:1: the text does not use \$identifier"),
        (TEXT, "<p>$identifier</p>", r"credentials\.fr\.html:1: the text does not use \$password"),
        (TEXT, f"{PAGE}\n$pasword", r"credentials\.fr\.html:2: unknown placeholder \$pasword"),
    ],
)
def test_a_template_that_would_mail_something_wrong_is_refused(
    tmp_path: Path, text: str, html: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        built(own(tmp_path, text, html))
    assert CLEAR not in refused.value.message + refused.value.hint


def test_a_language_without_templates_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"greeting\.de\.txt cannot be read"):
        built(language="de")


@pytest.mark.parametrize(
    ("language", "days", "said"),
    [
        (
            "fr",
            "30",
            " Si vous ne vous êtes pas connecté d\u2019ici au 24 décembre 2026,"
            " ce mot de passe cessera de fonctionner.",
        ),
        ("en", "30", " If you have not signed in by 24 December 2026, this password will stop working."),
        ("fr", "0", ""),
        ("en", "0", ""),
    ],
)
def test_the_mail_says_until_when_the_password_works_unused(language: str, days: str, said: str) -> None:
    mail = parsed(built(load.load_settings({"EGEC_UNUSED_PASSWORD_DAYS": days}), language=language))
    for kind in ("plain", "html"):
        part = mail.get_body((kind,))
        assert part is not None
        (line,) = [line for line in part.get_content().splitlines() if ISSUED_AT.strftime(":%M:%S (") in line]
        assert line.removesuffix("</li>").endswith(f").{said}")


@pytest.mark.parametrize(
    "address", [f"{'b' * 29}@egec.pro", "eGEC <bounces@egec.pro>", "noël@egec.pro", "bounces", "a b@egec.pro", "@x.fr"]
)
def test_an_address_that_could_not_get_bounces_is_a_fault(address: str) -> None:
    with pytest.raises(ConfigError, match="EGEC_MAIL_BOUNCES must be a bare e-mail address"):
        load.load_settings({"EGEC_MAIL_BOUNCES": address})
