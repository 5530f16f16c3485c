"""What a client reads after a request, from `templates/`; there are words for every outcome."""

from enum import StrEnum

from egec_cli.errors import ConfigError, EgecError
from egec_cli.mail.compose import template
from egec_cli.settings import load
from egec_cli.settings.schema import SETTINGS
from egec_cli.settings.types import Settings


class Answer(StrEnum):
    """The kinds of answers to a client; each consists of the short texts below."""

    SENT = "sent"
    NOT_RECOGNISED = "not_recognised"
    NOT_SENT = "not_sent"
    UNAVAILABLE = "unavailable"


# The templates of each answer; those that name the support line are filled in.
_TEMPLATES = {
    Answer.SENT: ("sent",),
    Answer.NOT_RECOGNISED: ("refused", "try-again"),
    Answer.NOT_SENT: ("not-sent",),
    Answer.UNAVAILABLE: ("unavailable",),
}
_WITH_SUPPORT = {"try-again", "not-sent", "unavailable"}


def render_answer(settings: Settings, answer: Answer, language: str = "") -> str:
    """Return the words of an answer, in a client's language or the default one.

    Raises:
        ConfigError: a template is invalid.
    """
    language = language or settings.language
    parts = [
        template.render_text(
            settings, name, language, **({"support": settings.support} if name in _WITH_SUPPORT else {})
        )
        for name in _TEMPLATES[answer]
    ]
    return "\n".join(parts)


def render_even_if_invalid(settings: Settings, answer: Answer) -> str:
    """Return the words of an answer; from the built-in templates if the organisation's are invalid."""
    try:
        return render_answer(settings, answer)
    except ConfigError:
        return render_answer(settings._replace(templates=None), answer)


def render_unavailable(settings: Settings | None) -> str:
    """Return the words for a failure, whatever it is that fails: settings and templates too.

    Args:
        settings: None if some are invalid; then the others are used, and the built-in text.
    """
    own = settings or _read_valid_settings()
    if own is None:
        values = {setting.name: setting.default for setting in SETTINGS}
        name = f"unavailable.{values['EGEC_LANGUAGE']}.txt"
        built_in = template.Template(template.BUILT_IN / name, (template.BUILT_IN / name).read_text(encoding="utf-8"))
        return built_in.render({"support": values["EGEC_SUPPORT"]}).rstrip()
    return render_even_if_invalid(own, Answer.UNAVAILABLE)


def _read_valid_settings() -> Settings | None:
    """Return the settings, with the default in the place of each invalid one; None if they cannot be read."""
    try:
        return load.read_settings().settings
    except EgecError:
        return None
