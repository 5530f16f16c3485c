"""The prepared mail of runs: the same message as from the standard library, for thousands of clients."""

import string
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes
from email.message import EmailMessage
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from egec_cli import email_address, password
from egec_cli.errors import ConfigError
from egec_cli.mail.compose.message import Mail, MailForm, credentials_mail
from egec_cli.password import Alphabet, Password
from egec_cli.settings import load
from egec_cli.settings.types import LANGUAGES, Settings
from tests.conftest import is_deep
from tests.mail.generated import READER

CHUNKS = 20
CLIENTS = 10_000 if is_deep() else 1_000
CLEAR = "fG69a*6jH"

FIRST_NAMES = ["Noël", "Zoé", "Anne-Lise", "Jean-François", "Aÿ", "Maëlys", "D\u2019Arcy", "Œdipe", "Loïc", "Ève"]
LAST_NAMES = ["d'Œuvre", "N'Guessan", "L\u2019Haÿ-les-Roses", "Lefèvre-Pontalis", "Du Pont", "O'Hara & Fils", "Müller"]
AWKWARD_NAMES = [
    "", "", "Γιώργος Παπαδόπουλος", "محمد بن عبد الله", "山田太郎", "Ægir 山田", "김철수", "Ирина", "R&D <script>x",
    "&amp; &lt;", '"Guillemets" \'droits\'', "\U0001f468\u200d\U0001f469\u200d\U0001f467", "M. \U0001f600", "[/]",
    ".", "..", ".Dupont", ".\t.", "From ", "From evil", ">From x", "--", "--=_x", "--===============1==", "=", "=3D=C3",
    "=\r\n".strip(), "=0D=0ABcc: e@x.fr", "Subject: x", "Bcc: e@x.fr", "$", "$$", "$password", "${identifier}",
    "%", "%s", "%%", "%(password)s", "{identifier}", "\\", "Dupont  ", "Dupont\t", "Dupont\u00a0", " Dupont", " ", "\t",
    "\u3000", "\u200c", "\u2028", "\x85", "a\x0bb\x0cc", "\x00", "\x7f", "\x1b[31m", "e\u0301", CLEAR,
    "a" * 100, "é" * 100, "山" * 100, "\U0001f600" * 100, "=" * 100, "." * 100, "&" * 100, " ".join("ab" * 33),
]  # fmt: skip
LOCAL_PARTS = ["jeanne", "noel.d-oeuvre", "o'hara", "a+b=c", "%x_{y}|z~", "x-1", "#!$&*/^`", "a.b.c.d"]
# Clients that need the standard library, which is hundreds of times slower.
RARE_LOCAL_PARTS = ["A" * 64, "who?", "noël", "γιώργος", "山田", "straße"]
# Dates in Paris: midnights, clock changes, ends of years, a leap day.
TURNS = [
    datetime(2026, 11, 24, 23, tzinfo=UTC), datetime(2026, 7, 13, 22, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 0, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 12, 31, 23, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 2, 28, 23, tzinfo=UTC),
    datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
]  # fmt: skip
ALPHABETS = [Alphabet.create(), Alphabet.create(string.punctuation), Alphabet.create("=._<&%", lookalikes=True)]


class Client(NamedTuple):
    """The input of both builders."""

    recipient: str
    name: str
    identifier: str
    password: Password
    issued_at: datetime


class Generator:
    """Generates the same clients for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        domains = [
            "example.org",
            "Example.ORG",
            "straße.de",
            "été.example.fr",
            "παράδειγμα.gr",
            "例え.jp",
            "x--y.co.uk",
        ]
        self._domains = [email_address.parse_email(f"a@{domain}").wire.removeprefix("a@") for domain in domains]

    def client(self) -> Client:
        return Client(
            recipient=self._recipient(),
            name=self._name(),
            identifier=f"{self._random.randrange(10**10):010}",
            password=password.generate_password(self._random.choice(ALPHABETS), self._random.choice),
            issued_at=self._moment(),
        )

    def _name(self) -> str:
        if self._random.random() < 0.25:
            return self._random.choice(AWKWARD_NAMES)
        name = f"{self._random.choice(FIRST_NAMES)} {self._random.choice(LAST_NAMES)}"
        return self._random.choice(["", "M. ", "Mme "]) + name

    def _recipient(self) -> str:
        kind = self._random.random()
        if kind < 0.03:
            # From the length at which headers are folded to the maximum.
            length = self._random.choice([73, 74, 75, 76, 100, 254])
            return f"{'l' * 60}@{('d' * 50 + '.') * 4}"[: length - 3].rstrip(".") + ".fr"
        local_parts = RARE_LOCAL_PARTS if kind < 0.06 else LOCAL_PARTS
        return f"{self._random.choice(local_parts)}@{self._random.choice(self._domains)}"

    def _moment(self) -> datetime:
        moment = self._random.choice(TURNS) + timedelta(
            seconds=self._random.choice([-3601, -3600, -1, 0, 1, 1800, 3600, self._random.randrange(-86_400, 86_400)]),
            microseconds=self._random.choice([0, 1, 999_999]),
        )
        return moment.astimezone(self._random.choice([UTC, UTC, None, timezone(timedelta(hours=-3, minutes=-30))]))


@pytest.fixture(autouse=True)
def paris(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


def built(found: Settings, language: str, client: Client) -> Mail:
    return credentials_mail(found, language=language, **client._asdict())


def filled(form: MailForm, client: Client, message_id: str = "") -> Mail:
    return form.fill(**client._asdict(), message_id=message_id or form.new_message_id(7))


def parsed(mail: Mail) -> EmailMessage:
    return message_from_bytes(mail.content, policy=READER)


def boundary(mail: Mail) -> str:
    found = parsed(mail).get_boundary()
    assert found
    return found


def read(part: Any) -> list[Any]:
    """Return the content of a message except the boundary, which is random."""
    headers = [(name, value) for name, value in part.items() if name != "Content-Type"]
    inner = part.get_payload() if part.is_multipart() else part.get_payload(decode=True)
    inner = [read(inner_part) for inner_part in inner] if isinstance(inner, list) else inner
    kind = [(key, value) for key, value in part.get_params() if key != "boundary"]
    return [headers, kind, inner, part.preamble, part.epilogue, part.defects]


def check_the_same(form: MailForm, found: Settings, language: str, client: Client) -> None:
    standard = built(found, language, client)
    mail = filled(form, client, standard.message_id)
    assert mail._replace(content=b"") == standard._replace(content=b"")
    # The part before the boundary is identical.
    head = mail.content.partition(b"boundary=")[0]
    assert head == standard.content.partition(b"boundary=")[0]
    assert head.count(b"\r\nTo:") == head.count(b"\r\nSubject:") == head.count(b"Content-Type:") == 1
    assert client.password.reveal().encode() not in head
    # The older parser is much faster, and the headers are identical.
    whole = read(message_from_bytes(mail.content))
    assert whole == read(message_from_bytes(standard.content))
    assert whole[-1] == []
    assert [part[1][0][0] for part in whole[2]] == ["text/plain", "text/html"]
    lines = mail.content.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert max(map(len, lines[lines.index(b"") :])) <= 76
    assert lines[-1] == b""
    assert not any(b"\r" in line or b"\n" in line for line in lines)


def own(folder: Path, files: dict[str, str], **environment: str) -> Settings:
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())
    return load.load_settings({"EGEC_TEMPLATES": str(folder), **environment})


def check_own(found: Settings) -> None:
    """Check some clients with the organisation's own templates."""
    form, generator = MailForm(found, "fr"), Generator(2)
    for client in [PLAIN, PLAIN._replace(name=""), *(generator.client() for _ in range(30))]:
        check_the_same(form, found, "fr", client)


def check_both_refuse(form: MailForm, found: Settings, client: Client) -> None:
    with pytest.raises(ConfigError) as standard:
        built(found, "fr", client)
    with pytest.raises(ConfigError) as prepared:
        filled(form, client)
    assert (prepared.value.message, prepared.value.hint) == (standard.value.message, standard.value.hint)
    assert CLEAR not in prepared.value.message + prepared.value.hint


PLAIN = Client("jeanne@example.org", "M. Dupont", "9876543210", Password(CLEAR), datetime(2026, 11, 24, 3, tzinfo=UTC))
TEXT = "Subject: Bonjour\n\n$identifier $password\n"
PAGE = "<p>$identifier $password</p>\n"


# --- the same as the standard builder's ---


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_thousands_of_clients_get_the_message_of_the_standard_builder(chunk: int) -> None:
    found = load.load_settings({})
    language = LANGUAGES[chunk % len(LANGUAGES)]
    form, generator = MailForm(found, language), Generator(chunk)
    for _ in range(CLIENTS // CHUNKS):
        check_the_same(form, found, language, generator.client())


@pytest.mark.parametrize("name", AWKWARD_NAMES, ids=ascii)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_awkward_name_comes_out_as_from_the_standard_builder(language: str, name: str) -> None:
    check_the_same(
        MailForm(load.load_settings({}), language), load.load_settings({}), language, PLAIN._replace(name=name)
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"EGEC_MAIL_FROM": "Société d'Été <ne-pas-repondre@example.org>"},
        {"EGEC_MAIL_FROM": "Dr. No (IT) <a@example.org>"},
        {"EGEC_MAIL_FROM": "100 % IT <a%b@example.org>"},
        {"EGEC_MAIL_FROM": "eGEC <a@straße.de>"},
        {"EGEC_MAIL_FROM": "eGEC <noël@example.org>"},
        {"EGEC_MAIL_FROM": f"eGEC <a@{'d' * 60}.{'e' * 60}.example.org>"},
        {"EGEC_MAIL_FROM": "jeanne@example.org", "EGEC_MAIL_REPLY_TO": "jeanne@example.org"},
        {"EGEC_MAIL_REPLY_TO": "Service IT <it@example.org>"},
        {"EGEC_MAIL_REPLY_TO": "été@example.org"},
        {"EGEC_APP_NAME": "Énergie", "EGEC_APP_URL": "x.fr/?a=1&b=%20", "EGEC_SUPPORT": "$password %(password)s {x}"},
        {"EGEC_APP_NAME": "<b>&amp;", "EGEC_SUPPORT": "--===============1=="},
    ],
    ids=str,
)
def test_settings_of_the_organisation_come_out_as_from_the_standard_builder(environment: dict[str, str]) -> None:
    found, generator = load.load_settings(environment), Generator(1)
    form = MailForm(found, "fr")
    for _ in range(40):
        check_the_same(form, found, "fr", generator.client())


@pytest.mark.parametrize(
    "text",
    [
        "Subject: Bonjour $identifier\n\n$identifier $password",
        "Subject: ${identifier}, le $issued_at\n\n$identifier $password",
        "Subject: Prix en $$greeting\n\n$identifier $password $$password $$",
        "Subject: Votre accès à 100 %\n\n$identifier $password 100 % %s %(password)s",
        "Subject:   a  \n\n\n\n$identifier $password",
        "Subject: =?utf-8?q?x?= =?utf-8?q?y?=\n\n$identifier $password",
        f"Subject: {'é' * 200}  {'e ' * 100}\n\n$identifier $password",
        "\ufeffSubject: a\r\n\r\n$identifier\r\n$password\r\n",
        "Subject: a\n\n$identifier$password\n\n\n\n",
        f"Subject: a\n\n{'é' * 5000}$identifier $password{'=' * 5000}",
        f"Subject: a\n\n{'x' * 75}\n{'x' * 76}\n{'x' * 77}$identifier\n{'x' * 74} $password {'x' * 76}",
        "Subject: a\n\n$identifier  \n$password\t\n  \n\t\n$greeting \t\n\tx\n ",
        "Subject: a\n\n.\n..\n$identifier\n.\n$password.\n.$password\n.$greeting.\n.",
        "Subject: a\n\nFrom $identifier\nFrom\n>From\n$password",
        "Subject: a\n\n--\n-- \n--$identifier\n$password--\n--===============1==\n--=_x--\n",
        f"Subject: a\n\n{'x' * 75}--{'=' * 15}$identifier==\n--{'=' * 15}$password==--\n",
        "Subject: a\n\n\x0b\x0c\x1c\x85\u2028\u2029$identifier\u2028$password\x00\x7f",
    ],
    ids=lambda text: ascii(text)[1:50],
)
def test_a_text_of_the_organisation_comes_out_as_from_the_standard_builder(tmp_path: Path, text: str) -> None:
    check_own(own(tmp_path, {"credentials.fr.txt": text}))


@pytest.mark.parametrize(
    "html",
    [
        PAGE.rstrip(),
        f"\r\n\r\n{PAGE}\r\n\r\n",
        "$identifier$password$greeting",
        "<p>" + "a " * 4000 + "$identifier" + "\t" * 4000 + "$password</p>",
        "<p title='--$identifier'>\n.\n$password.\n--\n$greeting \n\t</p>  ",
        "<style>a{width:100%}</style>$$%(identifier)s %s $identifier {password} $password",
    ],
    ids=lambda html: ascii(html)[1:50],
)
def test_a_page_of_the_organisation_comes_out_as_from_the_standard_builder(tmp_path: Path, html: str) -> None:
    check_own(own(tmp_path, {"credentials.fr.html": html}))


@pytest.mark.parametrize("text", ["$greeting\n\n$identifier\n$password", "$greeting$identifier $password $greeting"])
@pytest.mark.parametrize(
    ("named", "unnamed"),
    [
        ("$name", ""),
        ("$name", "\n\nx"),
        ("\n\nBonjour $name,\n\n$name : 100 %\r\n  \n", "a\r\nb\n"),
        ("<$name>", "<&>"),
    ],
    ids=ascii,
)
def test_greetings_of_the_organisation_come_out_as_from_the_standard_builder(
    tmp_path: Path, named: str, unnamed: str, text: str
) -> None:
    greetings = {"greeting.fr.txt": named, "greeting-unnamed.fr.txt": unnamed}
    check_own(own(tmp_path, {"credentials.fr.txt": f"Subject: a\n\n{text}", **greetings}))


@pytest.mark.parametrize("subject", ["$greeting", "$greeting $identifier"])
def test_a_subject_with_the_greeting_comes_out_as_from_the_standard_builder(tmp_path: Path, subject: str) -> None:
    found, generator = own(tmp_path, {"credentials.fr.txt": f"Subject: {subject}{TEXT[16:]}"}), Generator(3)
    form = MailForm(found, "fr")
    came_out = 0
    for _ in range(100):
        client = generator.client()
        try:
            built(found, "fr", client)
        except ConfigError:
            check_both_refuse(form, found, client)
        else:
            check_the_same(form, found, "fr", client)
            came_out += 1
    assert came_out > 50
    for name in (f"M. {CLEAR}", "a\nb"):
        check_both_refuse(form, found, PLAIN._replace(name=name))


def test_a_name_with_the_boundary_of_the_mail_does_not_split_it() -> None:
    found = load.load_settings({})
    form = MailForm(found, "fr")
    used = boundary(filled(form, PLAIN))
    for name in (f"--{used}", f"--{used}--", f"x\n--{used}\n\n", f"x\r\n--{used}--\r\n".replace("\r", "")):
        check_the_same(form, found, "fr", PLAIN._replace(name=name))


def test_moments_of_one_second_differ_by_their_zone() -> None:
    found = load.load_settings({})
    form = MailForm(found, "fr")
    zones = [UTC, timezone(timedelta(hours=2)), timezone(timedelta(hours=-2)), None]
    for issued_at in [PLAIN.issued_at.astimezone(zone) for zone in zones] * 2 + [datetime(2026, 10, 25, 2, 30)]:
        check_the_same(form, found, "fr", PLAIN._replace(issued_at=issued_at))


# --- what is each mail's own ---


def test_plain_clients_are_filled_in_without_the_standard_library() -> None:
    form = MailForm(load.load_settings({}), "fr")
    plain = [PLAIN, PLAIN._replace(recipient="o'hara+x@xn--strae-oqa.de", name="Mme Noëlle d\u2019Œuvre & <Fils>")]
    assert len({boundary(filled(form, client)) for client in plain}) == 1
    # The standard library chooses a new boundary for each mail.
    assert boundary(filled(form, PLAIN._replace(recipient="noël@example.org"))) != boundary(filled(form, PLAIN))


@pytest.mark.parametrize("recipient", [PLAIN.recipient, "noël@example.org"])
def test_the_message_id_is_the_one_that_was_given(recipient: str) -> None:
    form = MailForm(load.load_settings({}), "fr")
    for message_id in (form.new_message_id(7), "<other@example.org>"):
        mail = filled(form, PLAIN._replace(recipient=recipient), message_id)
        assert mail.message_id == parsed(mail)["Message-ID"] == message_id


def test_every_new_message_id_is_another_at_the_domain_of_the_sender() -> None:
    form = MailForm(load.load_settings({"EGEC_MAIL_FROM": "eGEC <a@straße.de>"}), "fr")
    assert len({form.new_message_id(7) for _ in range(1000)}) == 1000
    assert form.new_message_id(7).endswith("@xn--strae-oqa.de>")


def test_the_sample_has_no_client() -> None:
    mail = MailForm(load.load_settings({}), "fr").sample(PLAIN.issued_at)
    assert mail.recipient == parsed(mail)["To"] == "jeanne.dupont@example.org"
    assert b"\r\n\r\nMme Dupont, bonjour," in mail.content


# --- refused ---


@pytest.mark.parametrize(
    "changed",
    [
        {"recipient": "a@x.fr,evil@y.fr"},
        {"recipient": "a@x.fr\nBcc: evil@y.fr"},
        {"recipient": "a@x.fr\r\n\r\nbody"},
        {"recipient": "a@x.fr\n"},
        {"recipient": "=?utf-8?q?x?=@x.fr"},
        {"recipient": "=?utf-8?q?x=0D=0ABcc:_e?=@x.fr"},
        {"recipient": "\ud800@x.fr"},
        {"name": "a\rb"},
        {"name": "a\r\nb"},
        {"name": "a\ud800b"},
        {"identifier": "1\r2"},
        {"password": Password("fG69\ra*6jH")},
        {"password": Password("\udfff")},
        {"password": Password("")},
        {"password": Password("identifiant")},
        {"issued_at": PLAIN.issued_at.astimezone(timezone(timedelta(minutes=9, seconds=21)))},
    ],
    ids=ascii,
)
def test_what_the_standard_builder_refuses_is_refused(changed: dict[str, Any]) -> None:
    found = load.load_settings({})
    check_both_refuse(MailForm(found, "fr"), found, PLAIN._replace(**changed))


@pytest.mark.parametrize("message_id", ["<a@x.fr>\r\nBcc: evil@y.fr", "<a@x.fr>\n", "x\r\n\r\nbody"])
def test_a_message_id_that_would_become_another_header_is_never_written(message_id: str) -> None:
    form = MailForm(load.load_settings({}), "fr")
    with pytest.raises(ConfigError, match=r"^the mail (cannot be written|would arrive with a damaged Message-ID)"):
        form.fill(**PLAIN._asdict(), message_id=message_id)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"credentials.fr.txt": f"{TEXT}$pasword"}, r"credentials\.fr\.txt:4: unknown placeholder \$pasword"),
        ({"credentials.fr.txt": f"{TEXT}$name"}, r"credentials\.fr\.txt:4: unknown placeholder \$name"),
        ({"credentials.fr.txt": f"{TEXT}5 $ !"}, r"credentials\.fr\.txt:4: a dollar sign without a placeholder"),
        ({"credentials.fr.txt": "Subject: a\n\n$identifier"}, r"fr\.txt:1: the text does not use \$password"),
        ({"credentials.fr.txt": "Subject: a\n\n$password"}, r"fr\.txt:1: the text does not use \$identifier"),
        ({"credentials.fr.txt": f"Subject: $password{TEXT[16:]}"}, r"credentials\.fr\.txt:1: the subject shows the p"),
        ({"credentials.fr.txt": f"Subject: a${{password}}b{TEXT[16:]}"}, r"credentials\.fr\.txt:1: the subject shows"),
        ({"credentials.fr.txt": TEXT[9:]}, r"credentials\.fr\.txt:1: the file must start with `Subject: "),
        ({"credentials.fr.html": "<p>$identifier</p>"}, r"credentials\.fr\.html:1: the text does not use \$password"),
        ({"credentials.fr.html": f"{PAGE}$app"}, r"credentials\.fr\.html:2: unknown placeholder \$app"),
        ({"greeting.fr.txt": "Bonjour"}, r"greeting\.fr\.txt:1: the text does not use \$name"),
        ({"greeting.fr.txt": "$name $password"}, r"greeting\.fr\.txt:1: unknown placeholder \$password"),
        ({"greeting-unnamed.fr.txt": "$name"}, r"greeting-unnamed\.fr\.txt:1: unknown placeholder \$name"),
        (
            {"credentials.fr.txt": f"Subject: $greeting\n{TEXT[17:]}", "greeting-unnamed.fr.txt": "a\nb"},
            r"credentials\.fr\.txt:1: the file must start with `Subject: ",
        ),
    ],
    ids=ascii,
)  # fmt: skip
def test_a_form_with_an_invalid_template_is_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MailForm(own(tmp_path, files), "fr")


def test_a_form_with_an_invalid_sender_is_refused() -> None:
    with pytest.raises(ConfigError, match="EGEC_MAIL_FROM"):
        MailForm(load.load_settings({"EGEC_MAIL_FROM": "a..b@example.org"}), "fr")


@pytest.mark.parametrize("days", ["0", "1", "3650"])
def test_both_builders_write_the_same_expiry(tmp_path: Path, days: str) -> None:
    found = own(tmp_path, {"expiry.fr.txt": "Le $date & <pas> plus tard = fini."}, EGEC_UNUSED_PASSWORD_DAYS=days)
    for language in LANGUAGES:
        check_the_same(MailForm(found, language), found, language, PLAIN)
