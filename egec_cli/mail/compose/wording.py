"""What a mail says: the templates of each kind, and the values that fill them in."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Self

from egec_cli.errors import ConfigError
from egec_cli.mail.compose import template
from egec_cli.mail.compose.template import Template
from egec_cli.password import Password
from egec_cli.settings.schema import Settings


class Kind(StrEnum):
    """The mails that there are; each has the templates `KIND.LANGUAGE.txt` and `KIND.LANGUAGE.html`."""

    CREDENTIALS = "credentials"
    REISSUE = "reissue"
    ADDRESS_CHANGED = "address-changed"


# A run mails new clients the first of these, and everybody else the second.
KINDS_OF_A_RUN = (Kind.CREDENTIALS, Kind.REISSUE)
# What each kind's templates must use. What they may use are the names of the values that it is filled in with.
REQUIRED: dict[Kind, tuple[str, ...]] = {
    Kind.CREDENTIALS: ("identifier", "password"),
    Kind.REISSUE: ("identifier", "password", "sentence"),
    Kind.ADDRESS_CHANGED: ("support",),
}


class MailText(NamedTuple):
    """What one mail says, filled in; it may hold a clear password."""

    subject: str
    text: str
    html: str

    def __repr__(self) -> str:
        return f"Wording({self.subject!r})"


class KindTemplates(NamedTuple):
    """The templates of one kind in one language."""

    kind: Kind
    text: Template
    html: Template

    @classmethod
    def find(cls, settings: Settings, kind: Kind, language: str) -> Self:
        """Return the organisation's own templates where there are some, else the built-in ones.

        Raises:
            ConfigError: one cannot be read as UTF-8 text.
        """
        text, html = (template.find_template(settings, f"{kind}.{language}.{suffix}") for suffix in ("txt", "html"))
        return cls(kind, text, html)

    def filled(self, all_values: Mapping[str, str]) -> MailText:
        """Return the wording of one mail; without a sentence, the paragraph that is to hold it is left out.

        Raises:
            ConfigError: a placeholder is unknown, misspelt, or required but not used, or there is no subject.
        """
        text, html = self.text, self.html
        if all_values.get("sentence") == "":
            text, html = text.without_paragraph("sentence"), html.without_paragraph("sentence")
        subject, said = _subject_and_text(text, all_values, REQUIRED[self.kind])
        return MailText(subject, said, html.render(all_values, REQUIRED[self.kind]))


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
) -> dict[str, str]:
    """Return what fills in a mail of any kind; what the kind has no use for is left out.

    Raises:
        ConfigError: one of the short texts is faulty.
    """
    greeted = format_greeting(settings, name, language)
    if kind is Kind.ADDRESS_CHANGED:
        return address_changed_values(settings, greeted, at, language)
    of_client = credentials_values(settings, greeted, identifier, password, at, language)
    return of_client | sentence_values(settings, kind, language, sentence)


def credentials_values(
    settings: Settings, format_greeting: str, identifier: str, password: Password, issued_at: datetime, language: str
) -> dict[str, str]:
    """Return what fills in a mail with a password: what is each client's own, and what the settings say."""
    return {
        "greeting": format_greeting,
        "identifier": identifier,
        "password": password.reveal(),
        "issued_at": format_time(issued_at, language),
        "expiry": format_expiry(settings, issued_at, language),
        **fixed_values(settings),
    }


def sentence_values(settings: Settings, kind: Kind, language: str, sentence: str) -> dict[str, str]:
    """Return what fills in a mail with a password besides that: the sentence of its run.

    Without a sentence, a new password is explained by the one of the templates, and a first mail has none.
    """
    if kind is Kind.ADDRESS_CHANGED:
        return {}
    if kind is Kind.REISSUE and not sentence:
        sentence = template.render_text(settings, "reissue-sentence", language)
    return {"sentence": sentence}


def address_changed_values(
    settings: Settings, format_greeting: str, changed_at: datetime, language: str
) -> dict[str, str]:
    """Return what fills in the note to a former address."""
    return {"greeting": format_greeting, "changed_at": format_time(changed_at, language), **fixed_values(settings)}


def fixed_values(settings: Settings) -> dict[str, str]:
    """Return what is the same in all mails."""
    return {"app_name": settings.app_name, "app_url": settings.app_url, "support": settings.support}


def format_greeting(settings: Settings, name: str, language: str) -> str:
    """Return how a mail begins; the name may be empty."""
    if not name:
        return template.render_text(settings, "greeting-unnamed", language)
    return template.render_text(settings, "greeting", language, name=name)


def format_time(format_time: datetime, language: str) -> str:
    """Return a moment as it is told, in the time of this machine."""
    local = format_time.astimezone()
    offset = local.strftime("%z")
    form = "%d/%m/%Y à %H:%M:%S" if language == "fr" else "%Y-%m-%d at %H:%M:%S"
    return f"{local.strftime(form)} (UTC{offset[:3]}:{offset[3:]})"


def format_expiry(settings: Settings, issued_at: datetime, language: str) -> str:
    """Return the sentence that tells when the password stops working if it is not used, after a blank; may be empty."""
    if not settings.unused_password_days:
        return ""
    last_day = (issued_at + timedelta(days=settings.unused_password_days)).astimezone()
    date = last_day.strftime("%d/%m/%Y" if language == "fr" else "%Y-%m-%d")
    return f" {template.render_text(settings, 'expiry', language, date=date)}"


def _subject_and_text(source: Template, all_values: Mapping[str, str], required: tuple[str, ...]) -> tuple[str, str]:
    filled = source.render(all_values, required)
    first, _, rest = filled.partition("\n")
    if not first.startswith("Subject: ") or not rest.startswith("\n"):
        raise ConfigError(
            "{path}:1: the first line is not `Subject: ...` with an empty line below it",
            "Begin the file with the subject of the mail.",
            path=source.path,
        )
    subject = first.removeprefix("Subject: ").strip()
    if "password" in all_values and all_values["password"] in subject:
        raise ConfigError(
            "{path}:1: the subject shows the password", "Take $password out of the first line.", path=source.path
        )
    return subject, rest.lstrip("\n")
