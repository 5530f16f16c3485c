"""The texts of mails: find, check and fill in the texts of `templates/`, each a strict `string.Template`.

Each kind of mail has its own templates, and values for their placeholders.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from enum import StrEnum
from html import escape
from pathlib import Path
from string import Template as StringTemplate
from typing import NamedTuple, Self

from egec_cli import clock
from egec_cli.errors import ConfigError
from egec_cli.password import Password
from egec_cli.settings import trust
from egec_cli.settings.types import Settings
from egec_cli.translation import Words, system_message

_PACKAGE = Path(__file__).parents[2]
# In a wheel the folder is inside the package; in a checkout it is beside it.
BUILT_IN = next(path for path in (_PACKAGE / "templates", _PACKAGE.parent / "templates") if path.is_dir())


class Mistake(NamedTuple):
    """An error in a line of a template, and its correction."""

    line: int
    what: str
    fix: str


class Template(NamedTuple):
    """The text of one file, with placeholders `$name`; `$$` stands for a dollar sign."""

    path: Path
    text: str

    def render(self, values: Mapping[str, str], required: Iterable[str] = ()) -> str:
        """Check the text, then replace its placeholders in one pass; values are inserted as they are.

        In `.html` files values are escaped.

        Args:
            required: the placeholders that the text must use.

        Raises:
            ConfigError: a placeholder is unknown, misspelt or missing; names file and line.
        """
        for mistake in self.find_mistakes(values, required):
            raise ConfigError(
                "{path}:{line}: {what}", mistake.fix, path=self.path, line=mistake.line, what=mistake.what
            )
        return self.substitute(values)

    def substitute(self, values: Mapping[str, str]) -> str:
        """Replace the placeholders as `render` does, of a template already checked for these names."""
        if self.path.suffix == ".html":
            values = {name: escape(value) for name, value in values.items()}
        return StringTemplate(self.text).substitute(values)

    def drop_paragraph(self, name: str) -> "Template":
        """Remove the paragraphs that consist of this placeholder alone.

        In plain text these are a line and the empty line below it, in HTML a line such as `<p>$name</p>`.
        """
        placeholder = rf"\$(?:{name}|\{{{name}\}})"
        paragraph = (
            rf"^[ \t]*<(\w+)\b[^<>]*>{placeholder}</\1>[ \t]*(?:\n|\Z)"
            if self.path.suffix == ".html"
            else rf"^[ \t]*{placeholder}[ \t]*(?:\n|\Z)(?:[ \t]*\n)?"
        )
        return self._replace(text=re.sub(paragraph, "", self.text, flags=re.MULTILINE))

    def find_mistakes(self, known: Collection[str], required: Iterable[str] = ()) -> Iterator[Mistake]:
        """Yield the unknown placeholders, then the missing ones."""
        names = ", ".join(f"${name}" for name in sorted(known))
        fix = Words("Write $$ for a dollar sign; valid placeholders: {names}.", names=names or Words("none"))
        used = set()
        for line, name in self.find_placeholders():
            if name is None:
                yield Mistake(line, Words("a dollar sign without a placeholder"), fix)
            elif name not in known:
                yield Mistake(line, Words("unknown placeholder ${name}", name=name), fix)
            else:
                used.add(name)
        for name in sorted(set(required) - used):
            yield Mistake(
                1,
                Words("the text does not use ${name}", name=name),
                Words("Write ${name} where the client should read it.", name=name),
            )

    def find_placeholders(self) -> Iterator[tuple[int, str | None]]:
        """Yield the placeholders in use, each with its line; None for a dollar sign without a placeholder."""
        for match in StringTemplate.pattern.finditer(self.text):
            if match["escaped"] is None:
                yield self.text.count("\n", 0, match.start()) + 1, match["named"] or match["braced"]


def find_template(settings: Settings, name: str) -> Template:
    """Return the organisation's own template of this file name, or else the built-in one.

    Raises:
        ConfigError: the file is not readable as UTF-8, or other users can change it.
    """
    try:
        own = settings.templates / name if settings.templates else None
        if own is not None and os.path.lexists(own):
            path, data = own, trust.read(own).data
        else:
            path = BUILT_IN / name
            data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            "{path} cannot be read: {reason}",
            "Correct EGEC_TEMPLATES or the file.",
            path=error.filename,
            reason=system_message(error),
        ) from None
    try:
        return Template(path, data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n"))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            "{path}:{line}: the text is not UTF-8", "Save the template as UTF-8.", path=path, line=line
        ) from None


def render_text(settings: Settings, name: str, language: str, /, **values: str) -> str:
    """Return the filled-in text `NAME.LANGUAGE.txt` without trailing white space."""
    return find_template(settings, f"{name}.{language}.txt").render(values, required=values).rstrip()


class Kind(StrEnum):
    """The kinds of mail; each has the templates `KIND.LANGUAGE.txt` and `KIND.LANGUAGE.html`."""

    CREDENTIALS = "credentials"
    REISSUE = "reissue"
    ADDRESS_CHANGED = "address-changed"
    CLOSING = "closing"


# Only these have a password. A run mails the first kind to new clients, the second to all others.
KINDS_OF_A_RUN = (Kind.CREDENTIALS, Kind.REISSUE)
# How long before its closing a client is notified, in previews.
_USUAL_NOTICE = timedelta(days=30)
_MONTHS = {
    "fr": "janvier/février/mars/avril/mai/juin/juillet/août/septembre/octobre/novembre/décembre",
    "en": "January/February/March/April/May/June/July/August/September/October/November/December",
}
# The cities of time zones with their French names, if they have others, and the preposition.
_PLACES_IN_FRENCH = {
    "Addis Ababa": "d\u2019Addis-Abeba", "Algiers": "d\u2019Alger", "Andorra": "d\u2019Andorre",
    "Athens": "d\u2019Athènes", "Baghdad": "de Bagdad",
    "Bahrain": "de Bahreïn", "Baku": "de Bakou", "Beirut": "de Beyrouth",
    "Bogota": "de Bogotá", "Brussels": "de Bruxelles", "Bucharest": "de Bucarest", "Cairo": "du Caire",
    "Chisinau": "de Chișinău", "Comoro": "des Comores", "Copenhagen": "de Copenhague", "Damascus": "de Damas",
    "Dhaka": "de Dacca", "Dubai": "de Dubaï", "Guadeloupe": "de la Guadeloupe", "Guernsey": "de Guernesey",
    "Havana": "de La Havane", "Helsinki": "d\u2019Helsinki",
    "Ho Chi Minh": "d\u2019Hô-Chi-Minh-Ville", "Isle of Man": "de l\u2019île de Man",
    "Jerusalem": "de Jérusalem", "Kabul": "de Kaboul", "Kathmandu": "de Katmandou",
    "Kolkata": "de Calcutta", "Kuwait": "du Koweït", "Kyiv": "de Kiev", "Lisbon": "de Lisbonne", "Lome": "de Lomé",
    "London": "de Londres", "Malta": "de Malte", "Manila": "de Manille", "Marigot": "de Saint-Martin",
    "Marquesas": "des Marquises", "Martinique": "de la Martinique", "Mauritius": "de l\u2019île Maurice",
    "Mexico City": "de Mexico", "Miquelon": "de Saint-Pierre-et-Miquelon", "Mogadishu": "de Mogadiscio",
    "Montreal": "de Montréal", "Moscow": "de Moscou", "Muscat": "de Mascate", "Ndjamena": "de N\u2019Djamena",
    "Nicosia": "de Nicosie", "Noumea": "de Nouméa", "Qatar": "du Qatar",
    "Reunion": "de La Réunion", "Riyadh": "de Riyad", "San Marino": "de Saint-Marin", "Sao Paulo": "de São Paulo",
    "Seoul": "de Séoul", "Singapore": "de Singapour", "St Barthelemy": "de Saint-Barthélemy", "Tbilisi": "de Tbilissi",
    "Tehran": "de Téhéran", "Tirane": "de Tirana", "Ulaanbaatar": "d\u2019Oulan-Bator",
    "Vatican": "du Vatican", "Vienna": "de Vienne", "Wallis": "de Wallis-et-Futuna", "Warsaw": "de Varsovie",
    "Yerevan": "d\u2019Erevan",
}  # fmt: skip
# Cities of the same name in French. For all others, a mail in French gives the offset from UTC.
_SAME_IN_FRENCH = frozenset({
    "Abidjan", "Accra", "Amman", "Amsterdam", "Antananarivo", "Bamako", "Bangkok", "Bangui", "Banjul", "Belgrade",
    "Berlin", "Bratislava", "Brazzaville", "Budapest", "Buenos Aires", "Bujumbura", "Caracas", "Casablanca",
    "Cayenne", "Chicago", "Conakry", "Dakar", "Djibouti", "Douala", "Dublin", "Freetown", "Gaborone", "Gibraltar",
    "Halifax", "Harare", "Hong Kong", "Istanbul", "Jakarta", "Jersey", "Johannesburg", "Kampala", "Karachi",
    "Khartoum", "Kiev", "Kigali", "Kinshasa", "Kuala Lumpur", "La Paz", "Lagos", "Libreville", "Lima", "Ljubljana",
    "Los Angeles", "Luanda", "Lubumbashi", "Lusaka", "Luxembourg", "Madrid", "Malabo", "Maputo", "Mayotte",
    "Melbourne", "Minsk", "Monaco", "Monrovia", "Montevideo", "Nairobi", "New York", "Niamey", "Nouakchott", "Oslo",
    "Ouagadougou", "Panama", "Paris", "Phnom Penh", "Podgorica", "Port-au-Prince", "Porto-Novo", "Prague", "Riga",
    "Rome", "Santiago", "Sarajevo", "Shanghai", "Skopje", "Sofia", "Stockholm", "Sydney", "Tahiti", "Tallinn",
    "Tokyo", "Toronto", "Tripoli", "Tunis", "Vaduz", "Vancouver", "Vientiane", "Vilnius", "Windhoek", "Zagreb",
    "Zurich",
})  # fmt: skip

# The placeholder, and the short text, that names the client in a mail to an address that several clients share.
SHARED = "shared"
# The placeholders that the templates of each kind must use. They may use all values of their kind.
REQUIRED: dict[Kind, tuple[str, ...]] = {
    Kind.CREDENTIALS: ("identifier", "password"),
    Kind.REISSUE: ("identifier", "password", "sentence"),
    Kind.ADDRESS_CHANGED: ("support",),
    Kind.CLOSING: ("identifier", "closing_date", "support"),
}


class MailText(NamedTuple):
    """The subject and both texts of one mail; they may contain a clear password."""

    subject: str
    text: str
    html: str

    def __repr__(self) -> str:
        return f"MailText({self.subject!r})"


class KindTemplates(NamedTuple):
    """The templates of one kind in one language."""

    kind: Kind
    text: Template
    html: Template

    @classmethod
    def find(cls, settings: Settings, kind: Kind, language: str) -> Self:
        """Return the organisation's own templates, or else the built-in ones.

        Raises:
            ConfigError: a template is not readable as UTF-8.
        """
        text, html = (find_template(settings, f"{kind}.{language}.{suffix}") for suffix in ("txt", "html"))
        return cls(kind, text, html)

    def fill(self, all_values: Mapping[str, str]) -> MailText:
        """Fill in the templates; an empty sentence removes its paragraph, and so does an empty `shared`.

        Raises:
            ConfigError: a placeholder is unknown, misspelt or missing, or the subject is missing.
        """
        text, html = self.text, self.html
        for name in ("sentence", SHARED):
            if all_values.get(name) == "":
                text, html = text.drop_paragraph(name), html.drop_paragraph(name)
        required = (*REQUIRED[self.kind], *((SHARED,) if all_values.get(SHARED) else ()))
        subject, said = _render_text_part(text, all_values, required)
        return MailText(subject, said, html.render(all_values, required))


def all_values(
    settings: Settings,
    kind: Kind,
    language: str,
    *,
    name: str,
    identifier: str,
    password: Password,
    sentence: str,
    at: datetime,
    record: str = "",
) -> dict[str, str]:
    """Return the values for a mail of any kind; `record` names the client, if several have the address.

    Raises:
        ConfigError: a short text is invalid.
    """
    greeting = format_greeting(settings, name, language)
    if kind is Kind.ADDRESS_CHANGED:
        return address_changed_values(settings, greeting, at, language)
    if kind is Kind.CLOSING:
        return closing_values(settings, greeting, identifier, at + _USUAL_NOTICE, language)
    values = credentials_values(settings, greeting, identifier, password, at, language)
    return values | shared_values(settings, language, record) | sentence_values(settings, kind, language, sentence)


def credentials_values(
    settings: Settings, greeting: str, identifier: str, password: Password, issued_at: datetime, language: str
) -> dict[str, str]:
    """Return the values for a mail with a password: those of the client and those of the settings."""
    return {
        "greeting": greeting,
        "identifier": identifier,
        "password": password.reveal(),
        "issued_at": format_time(settings, issued_at, language),
        "expiry": format_expiry(settings, issued_at, language),
        **fixed_values(settings),
    }


def sentence_values(settings: Settings, kind: Kind, language: str, sentence: str) -> dict[str, str]:
    """Return the sentence of a run as a value.

    If it is empty, a new-password mail gets the sentence of the templates, and a first mail has none.
    """
    if kind not in KINDS_OF_A_RUN:
        return {}
    if kind is Kind.REISSUE and not sentence:
        sentence = render_text(settings, "reissue-sentence", language)
    return {"sentence": sentence}


def shared_values(settings: Settings, language: str, record: str) -> dict[str, str]:
    """Return the paragraph that names the client, if several have the address; empty if `record` is."""
    return {SHARED: render_text(settings, SHARED, language, record=record) if record else ""}


def address_changed_values(settings: Settings, greeting: str, changed_at: datetime, language: str) -> dict[str, str]:
    """Return the values for the note to a client's previous address."""
    at = format_time(settings, changed_at, language)
    return {"greeting": greeting, "changed_at": at, **fixed_values(settings)}


def closing_values(
    settings: Settings, greeting: str, identifier: str, closes_at: datetime, language: str
) -> dict[str, str]:
    """Return the values for the notice that an account will be closed; `closes_at` is a moment of that day."""
    day = _format_date(clock.to_zone(closes_at, settings.timezone), language)
    return {"greeting": greeting, "identifier": identifier, "closing_date": day, **fixed_values(settings)}


def fixed_values(settings: Settings) -> dict[str, str]:
    """Return the values that are the same in all mails."""
    return {"app_name": settings.app_name, "app_url": settings.app_url, "support": settings.support}


def format_greeting(settings: Settings, name: str, language: str) -> str:
    """Return the greeting; the name may be empty."""
    if not name:
        return render_text(settings, "greeting-unnamed", language)
    return render_text(settings, "greeting", language, name=name)


def format_time(settings: Settings, moment: datetime, language: str) -> str:
    """Return a moment as clients read it: `25 novembre 2026 à 10:32:07 (heure de Paris)`.

    Two seconds never have the same text: in the hour that a clock shows twice, the text tells which one it is.

    Raises:
        ConfigError: this machine does not know the time zone.
    """
    local = clock.to_zone(moment, settings.timezone)
    time = f"{'à' if language == 'fr' else 'at'} {local:%H:%M:%S}"
    return f"{_format_date(local, language)} {time} ({_name_zone(settings.timezone, local, language)})"


def format_expiry(settings: Settings, issued_at: datetime, language: str) -> str:
    """Return the sentence with the last day of an unused password, after a blank; may be empty."""
    if not settings.unused_password_days:
        return ""
    last_day = clock.find_last_day(issued_at, settings.unused_password_days, settings.timezone)
    return f" {render_text(settings, 'expiry', language, date=_format_date(last_day, language))}"


def _format_date(local: date, language: str) -> str:
    day = "1er" if language == "fr" and local.day == 1 else local.day
    return f"{day} {_MONTHS[language].split('/')[local.month - 1]} {local.year}"


def _name_zone(zone: str, local: datetime, language: str) -> str:
    """Return the name of a time zone as clients know it, by its city."""
    french = language == "fr"
    if zone == "UTC":
        return "temps universel" if french else "UTC"
    city = zone.rpartition("/")[2].replace("_", " ")
    if french:
        # Such as +05:45.
        place = _PLACES_IN_FRENCH.get(city, f"UTC{local.isoformat()[-6:]}")
        if city in _SAME_IN_FRENCH:
            place = f"d\u2019{city}" if city[0] in "AEIO" else f"de {city}"
        name = f"heure {place}"
    else:
        name = f"{city} time"
    if local.utcoffset() == local.replace(fold=1 - local.fold).utcoffset():
        return name
    if french:
        return f"{name}, {'après' if local.fold else 'avant'} le changement d\u2019heure"
    return f"{name}, {'after' if local.fold else 'before'} the clock change"


def _render_text_part(source: Template, all_values: Mapping[str, str], required: tuple[str, ...]) -> tuple[str, str]:
    filled = source.render(all_values, required)
    first, _, rest = filled.partition("\n")
    if not first.startswith("Subject: ") or not rest.startswith("\n"):
        raise ConfigError(
            "{path}:1: the file must start with `Subject: ...` and an empty line",
            "Write the subject of the mail there.",
            path=source.path,
        )
    subject = first.removeprefix("Subject: ").strip()
    if "password" in all_values and all_values["password"] in subject:
        raise ConfigError(
            "{path}:1: the subject shows the password", "Remove $password from the first line.", path=source.path
        )
    return subject, rest.lstrip("\n")
