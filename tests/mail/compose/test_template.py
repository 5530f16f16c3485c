"""Templates: strict placeholders, values that are never read as placeholders, files of the organisation's own."""

import re
import sys
import time
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli.errors import ConfigError
from egec_cli.mail.compose import template
from egec_cli.mail.compose.template import BUILT_IN, Template
from egec_cli.settings import load
from egec_cli.settings.types import LANGUAGES, Settings
from tests.conftest import Egec

TEXT = Path("own/mail.fr.txt")
HTML = Path("own/mail.fr.html")
CREDENTIALS = {
    "greeting",
    "sentence",
    "shared",
    "identifier",
    "password",
    "issued_at",
    "expiry",
    "app_name",
    "app_url",
    "support",
}
PLACEHOLDERS = {
    "credentials": CREDENTIALS,
    "reissue": CREDENTIALS,
    "address-changed": {"greeting", "changed_at", "app_name", "app_url", "support"},
    "closing": {"greeting", "identifier", "closing_date", "app_name", "app_url", "support"},
    "greeting": {"name"},
    "shared": {"record"},
    "expiry": {"date"},
    "not-sent": {"support"},
    "try-again": {"support"},
    "unavailable": {"support"},
}
AWKWARD = ["$password", "${password}", "$$", "$", "${", "\\1", "{password}", "%(password)s", "[/]"]


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """Return settings with an empty folder of own templates."""
    folder = tmp_path / "own"
    folder.mkdir()
    return load.load_settings({})._replace(templates=folder)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a\nb $pasword", "own/mail.fr.txt:2: unknown placeholder $pasword"),
        ("${pass}", "own/mail.fr.txt:1: unknown placeholder $pass"),
        ("$Password", "own/mail.fr.txt:1: unknown placeholder $Password"),
        ("$passwords", "own/mail.fr.txt:1: unknown placeholder $passwords"),
        ("\n\n5 $ de frais", "own/mail.fr.txt:3: a dollar sign without a placeholder"),
        ("$password$", "own/mail.fr.txt:1: a dollar sign without a placeholder"),
        ("${password", "own/mail.fr.txt:1: a dollar sign without a placeholder"),
        ("${ password }", "own/mail.fr.txt:1: a dollar sign without a placeholder"),
        ("$$$", "own/mail.fr.txt:1: a dollar sign without a placeholder"),
        ("$é", "own/mail.fr.txt:1: a dollar sign without a placeholder"),
        ("$password\n$x\n$y", "own/mail.fr.txt:2: unknown placeholder $x"),
    ],
)
def test_an_unknown_placeholder_is_named_with_file_and_line(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Template(TEXT, text).render({"password": "p", "app_name": "eGEC"})
    assert refused.value.message == fault
    assert refused.value.hint == "Write $$ for a dollar sign; valid placeholders: $app_name, $password."


def test_a_text_without_placeholders_is_reported_as_such() -> None:
    with pytest.raises(ConfigError) as refused:
        Template(TEXT, "$x").render({})
    assert refused.value.hint.endswith("valid placeholders: none.")


@pytest.mark.parametrize("text", ["no placeholder", "$$password", "$other"])
def test_a_required_placeholder_must_be_used(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^own/mail\.fr\.txt:1: the text does not use \$password$"):
        Template(TEXT, text).render({"password": "p", "other": "o"}, required=["password"])


def test_two_dollar_signs_stand_for_one() -> None:
    assert Template(TEXT, "$$ $$5 $$password $$$password").render({"password": "p"}) == "$ $5 $password $p"


def test_placeholders_are_replaced_wherever_they_stand() -> None:
    assert Template(TEXT, "$a${a}s\n$a.$b-$a").render({"a": "x", "b": "y"}) == "xxs\nx.y-x"


@pytest.mark.parametrize("value", AWKWARD)
def test_what_a_value_holds_is_never_replaced(value: str) -> None:
    rendered = Template(TEXT, "$name|$password|$name").render({"name": value, "password": "SECRET"})
    assert rendered == f"{value}|SECRET|{value}"


@given(st.text(), st.text())
def test_values_come_out_of_a_text_as_they_went_in(name: str, password: str) -> None:
    rendered = Template(TEXT, "<$name>\n${password}").render({"name": name, "password": password})
    assert rendered == f"<{name}>\n{password}"


def test_values_are_escaped_in_html_alone() -> None:
    values = {"name": "<b onclick=\"x('&amp;')\">"}
    assert Template(HTML, "<p>$name</p>").render(values) == (
        "<p>&lt;b onclick=&quot;x(&#x27;&amp;amp;&#x27;)&quot;&gt;</p>"
    )
    assert Template(TEXT, "<p>$name</p>").render(values) == f"<p>{values['name']}</p>"


def test_an_own_folder_replaces_the_built_in_templates_file_by_file(own: Settings) -> None:
    assert own.templates
    (own.templates / "sent.fr.txt").write_text("Parti.\n\n", encoding="utf-8")
    assert template.render_text(own, "sent", "fr") == "Parti."
    assert template.find_template(own, "sent.fr.txt").path == own.templates / "sent.fr.txt"
    assert template.find_template(own, "sent.en.txt").path == BUILT_IN / "sent.en.txt"
    assert template.render_text(own, "refused", "fr") == "Identifiant et/ou m-d-p non reconnu(s)"


def test_a_text_must_use_every_value_that_it_is_given(own: Settings) -> None:
    assert own.templates
    (own.templates / "greeting.fr.txt").write_text("Bonjour,", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"greeting\.fr\.txt:1: the text does not use \$name"):
        template.render_text(own, "greeting", "fr", name="M. Dupont")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_any_editors_line_ends_and_byte_order_mark_are_taken(own: Settings, ending: str, encoding: str) -> None:
    assert own.templates
    (own.templates / "sent.fr.txt").write_bytes(f"Été{ending}$$1{ending}".encode(encoding))
    assert template.render_text(own, "sent", "fr") == "Été\n$1"


def test_a_template_that_is_not_utf_8_is_named_with_its_line(own: Settings) -> None:
    assert own.templates
    path = own.templates / "sent.fr.txt"
    path.write_bytes("Un\ndeux\nété".encode("cp1252"))
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(path))}:3: the text is not UTF-8$") as refused:
        template.find_template(own, "sent.fr.txt")
    assert refused.value.hint == "Save the template as UTF-8."


def test_a_template_that_cannot_be_read_is_named(own: Settings) -> None:
    assert own.templates
    (own.templates / "sent.fr.txt").mkdir()
    for name in ("sent.fr.txt", "sent.de.txt"):
        with pytest.raises(ConfigError, match=rf"{re.escape(name)} cannot be read"):
            template.find_template(own, name)


@pytest.mark.parametrize("path", sorted(BUILT_IN.iterdir()), ids=lambda path: path.name)
def test_every_built_in_template_uses_its_placeholders_and_renders(path: Path) -> None:
    name, language, kind = path.name.split(".")
    assert language in LANGUAGES
    assert kind in {"txt", "html"}
    names = PLACEHOLDERS.get(name, set())
    rendered = template.find_template(load.load_settings({}), path.name).render(
        {n: f"<{n}>" for n in names}, required=names
    )
    assert "$" not in rendered
    assert all((f"<{n}>" in rendered) is (kind == "txt") for n in names)


def test_the_built_in_templates_exist_in_every_language() -> None:
    by_language = {
        language: {path.name.replace(f".{language}.", ".") for path in BUILT_IN.glob(f"*.{language}.*")}
        for language in LANGUAGES
    }
    assert by_language["fr"] == by_language["en"] != set()
    assert sum(map(len, by_language.values())) == len(list(BUILT_IN.iterdir()))


def test_clients_see_the_words_of_the_memo() -> None:
    found = load.load_settings({})
    assert template.render_text(found, "sent", "fr") == (
        "Un courriel a été envoyé dans votre b-a-l, avec des instructions.\n"
        "La réception peut atteindre 5 min. Vérifiez éventuellement dans vos SPAMs"
    )
    assert template.render_text(found, "refused", "fr") == "Identifiant et/ou m-d-p non reconnu(s)"
    assert template.render_text(found, "greeting", "fr", name="M. Dupont") == "M. Dupont, bonjour,"


# --- dates and times ---


def at(text: str) -> datetime:
    """Return a moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def zone(name: str, **others: str) -> Settings:
    return load.load_settings({"EGEC_TIMEZONE": name, **others})


@pytest.mark.parametrize(
    ("name", "moment", "french", "english"),
    [
        ("Europe/Paris", "2026-11-25T09:32:07",
         "25 novembre 2026 à 10:32:07 (heure de Paris)", "25 November 2026 at 10:32:07 (Paris time)"),
        ("Europe/Paris", "2026-12-31T23:00:00",
         "1er janvier 2027 à 00:00:00 (heure de Paris)", "1 January 2027 at 00:00:00 (Paris time)"),
        ("Europe/Paris", "2026-03-29T00:59:59",
         "29 mars 2026 à 01:59:59 (heure de Paris)", "29 March 2026 at 01:59:59 (Paris time)"),
        ("Europe/Paris", "2026-03-29T01:00:00",
         "29 mars 2026 à 03:00:00 (heure de Paris)", "29 March 2026 at 03:00:00 (Paris time)"),
        ("Europe/Paris", "2026-10-24T23:59:59",
         "25 octobre 2026 à 01:59:59 (heure de Paris)", "25 October 2026 at 01:59:59 (Paris time)"),
        ("Europe/Paris", "2026-10-25T00:30:00",
         "25 octobre 2026 à 02:30:00 (heure de Paris, avant le changement d\u2019heure)",
         "25 October 2026 at 02:30:00 (Paris time, before the clock change)"),
        ("Europe/Paris", "2026-10-25T01:30:00",
         "25 octobre 2026 à 02:30:00 (heure de Paris, après le changement d\u2019heure)",
         "25 October 2026 at 02:30:00 (Paris time, after the clock change)"),
        ("Europe/Paris", "2026-10-25T02:00:00",
         "25 octobre 2026 à 03:00:00 (heure de Paris)", "25 October 2026 at 03:00:00 (Paris time)"),
        ("Indian/Reunion", "2026-08-04T20:00:00",
         "5 août 2026 à 00:00:00 (heure de La Réunion)", "5 August 2026 at 00:00:00 (Reunion time)"),
        ("America/New_York", "2026-02-01T04:00:00",
         "31 janvier 2026 à 23:00:00 (heure de New York)", "31 January 2026 at 23:00:00 (New York time)"),
        ("Europe/Amsterdam", "2026-07-01T10:00:00",
         "1er juillet 2026 à 12:00:00 (heure d\u2019Amsterdam)", "1 July 2026 at 12:00:00 (Amsterdam time)"),
        ("America/Argentina/Buenos_Aires", "2026-06-01T12:00:00",
         "1er juin 2026 à 09:00:00 (heure de Buenos Aires)", "1 June 2026 at 09:00:00 (Buenos Aires time)"),
        ("Africa/Cairo", "2026-06-01T12:00:00",
         "1er juin 2026 à 15:00:00 (heure du Caire)", "1 June 2026 at 15:00:00 (Cairo time)"),
        ("Europe/Athens", "2026-06-01T12:00:00",
         "1er juin 2026 à 15:00:00 (heure d\u2019Athènes)", "1 June 2026 at 15:00:00 (Athens time)"),
        ("Antarctica/Casey", "2026-06-01T12:00:00",
         "1er juin 2026 à 20:00:00 (heure UTC+08:00)", "1 June 2026 at 20:00:00 (Casey time)"),
        ("America/North_Dakota/New_Salem", "2026-06-01T12:00:00",
         "1er juin 2026 à 07:00:00 (heure UTC-05:00)", "1 June 2026 at 07:00:00 (New Salem time)"),
        ("UTC", "2026-09-02T10:00:00",
         "2 septembre 2026 à 10:00:00 (temps universel)", "2 September 2026 at 10:00:00 (UTC)"),
    ],
)  # fmt: skip
def test_a_time_is_written_as_clients_read_it(name: str, moment: str, french: str, english: str) -> None:
    assert template.format_time(zone(name), at(moment), "fr") == french
    assert template.format_time(zone(name), at(moment), "en") == english


def test_each_french_name_of_a_place_is_that_of_a_time_zone() -> None:
    cities = {name.rpartition("/")[2].replace("_", " ") for name in zoneinfo.available_timezones()}
    named = {*template._PLACES_IN_FRENCH, *template._SAME_IN_FRENCH}
    assert len(named) == len(template._PLACES_IN_FRENCH) + len(template._SAME_IN_FRENCH)
    assert named - cities == set()


def read_back(text: str, language: str, name: str) -> datetime:
    """Return the moment of a text, read as a client reads it."""
    months = {
        "fr": ["janvier", "février", "mars", "avril", "mai", "juin", "juillet",
               "août", "septembre", "octobre", "novembre", "décembre"],
        "en": ["January", "February", "March", "April", "May", "June", "July",
               "August", "September", "October", "November", "December"],
    }  # fmt: skip
    day, month, year, _, clock, words = text.split(" ", 5)
    number = months[language].index(month) + 1
    naive = datetime.fromisoformat(f"{year}-{number:02}-{int(day.removesuffix('er')):02}T{clock}")
    return naive.replace(tzinfo=zoneinfo.ZoneInfo(name), fold="après" in words or "after" in words).astimezone(UTC)


# Where clocks are changed in spring and autumn, by half an hour, across a day, or no more.
ZONES = ("Europe/Paris", "Europe/Dublin", "Africa/Casablanca", "America/New_York", "America/Miquelon", "Asia/Gaza",
         "Australia/Lord_Howe", "Pacific/Apia", "Indian/Reunion", "Pacific/Noumea", "UTC")  # fmt: skip


@given(
    st.sampled_from(ZONES),
    st.datetimes(datetime(2000, 1, 1), datetime(2037, 12, 31)),
    st.sampled_from(["fr", "en"]),
)
def test_a_time_as_clients_read_it_is_one_moment(name: str, naive: datetime, language: str) -> None:
    moment = naive.replace(tzinfo=UTC, microsecond=0)
    assert read_back(template.format_time(zone(name), moment, language), language, name) == moment


@given(
    st.integers(2000, 2037),
    st.sampled_from([(3, "01:00"), (10, "01:00")]),
    st.integers(-7200, 7200),
    st.sampled_from(["fr", "en"]),
)
def test_a_time_near_a_clock_change_is_one_moment(
    year: int, change: tuple[int, str], seconds: int, language: str
) -> None:
    month, clock = change
    last_sunday = max(day for day in range(25, 32) if datetime(year, month, day).weekday() == 6)
    turn = at(f"{year}-{month:02}-{last_sunday}T{clock}:00")
    moment = turn + timedelta(seconds=seconds)
    text = template.format_time(zone("Europe/Paris"), moment, language)
    assert read_back(text, language, "Europe/Paris") == moment
    is_twice = month == 10 and abs(seconds + 0.5) < 3600
    assert ("clock change" in text or "changement" in text) is is_twice


@pytest.fixture(params=["UTC", "America/New_York", "Pacific/Kiritimati", "CET-1CEST,M3.5.0,M10.5.0/3"])
def zone_of_the_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("zone_of_the_machine")
def test_the_time_zone_of_the_machine_changes_no_mail() -> None:
    moment = at("2026-11-25T23:32:07")
    found = load.load_settings({"EGEC_UNUSED_PASSWORD_DAYS": "30"})
    for same in (moment, moment.astimezone()):
        assert template.format_time(found, same, "fr") == "26 novembre 2026 à 00:32:07 (heure de Paris)"
        assert template.format_expiry(found, same, "fr") == (
            " Si vous ne vous êtes pas connecté d\u2019ici au 26 décembre 2026, ce mot de passe cessera de fonctionner."
        )


@pytest.mark.parametrize(
    ("name", "date"),
    [("Europe/Paris", "1er janvier 2027"), ("America/Martinique", "31 décembre 2026"), ("UTC", "31 décembre 2026")],
)
def test_the_last_day_of_a_password_is_a_day_of_the_clients_zone(name: str, date: str) -> None:
    found = zone(name, EGEC_UNUSED_PASSWORD_DAYS="31")
    assert f"d\u2019ici au {date}, ce mot" in template.format_expiry(found, at("2026-11-30T23:30:00"), "fr")


@pytest.mark.parametrize("name", ["America/New_York", "UTC"])
def test_a_preview_shows_the_time_of_clients_on_any_machine(egec_process: Egec, name: str) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    shown = egec_process("mail", "preview", env={"TZ": name, "EGEC_TIMEZONE": "Indian/Reunion"})
    [text] = re.findall(r"émis le (.*? \(heure de La Réunion\))\.", shown.out)
    assert before <= read_back(text, "fr", "Indian/Reunion") <= datetime.now(UTC)


def test_a_machine_without_time_zones_uses_those_of_the_package(egec_process: Egec) -> None:
    for name in ("Europe/Paris", "Indian/Reunion"):
        assert egec_process("mail", "preview", env={"PYTHONTZPATH": "", "EGEC_TIMEZONE": name}).code == 0


@pytest.fixture
def no_time_zones(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in {"tzdata", *sys.modules}:
        if name.partition(".")[0] == "tzdata":
            monkeypatch.setitem(sys.modules, name, None)
    zoneinfo.reset_tzpath(to=[])
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath()


@pytest.mark.usefixtures("no_time_zones")
def test_a_machine_without_any_time_zones_is_reported(egec: Egec) -> None:
    ended = egec("mail", "preview")
    assert (ended.code, ended.out) == (78, "")
    assert "the time zone Europe/Paris of EGEC_TIMEZONE is not on this machine" in ended.err
    assert "tzdata" in ended.err
    checked = egec("mail", "check", "--no-connection")
    assert checked.code == 78
    assert "tzdata" in checked.out
