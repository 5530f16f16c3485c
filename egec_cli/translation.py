"""What operators read, in their language: French where the locale is French, English everywhere else.

A text is made in English, as `Words`, and stays English wherever a program, a record or a log gets it; it is
translated at the one place where a person is shown it. Every start imports this module, so it imports next to nothing.
"""

import os
from collections.abc import Callable, Iterable, Mapping

DOMAIN = "egec"
CATALOGUES = os.path.join(os.path.dirname(__file__), "locale")
_LOCALES_WITHOUT_LANGUAGE = {"", "C", "POSIX"}
_FRENCH_SEPARATORS = {ord(","): "\N{NARROW NO-BREAK SPACE}", ord("."): ","}


def _unchanged(text: str) -> str:
    return text


_look_up: Callable[[str], str] = _unchanged


class Words(str):
    """Words for an operator: in English as a text, with the template and the values that a translation is made of.

    Args:
        template: the English text, with values by their names, as in `there is no file {path}`; catalogues have it.
            Words stay as they are.
        values: the values; those that are Words are translated too.
    """

    template: str
    values: Mapping[str, object]

    def __new__(cls, template: str, /, **values: object) -> "Words":
        """Make words of a template and its values."""
        if isinstance(template, Words):
            return template
        words = super().__new__(cls, template.format_map(values) if values else template)
        words.template = template
        words.values = values
        return words


def join_words(separator: str, parts: Iterable[str]) -> Words:
    """Return several words as one, of which each is translated by itself."""
    values = {f"part_{number}": part for number, part in enumerate(parts)}
    return Words(separator.join(f"{{{name}}}" for name in values), **values)


def system_message(error: OSError) -> Words:
    """Return what the system says of a failure, such as `Permission denied`."""
    return Words(str(error.strerror))


def translate(value: object) -> str:
    """Return words in the operator's language; anything else as the text that it is."""
    if _look_up is _unchanged or not (isinstance(value, Words) and value.template):
        return str(value)
    template = _look_up(value.template)
    values = {name: translate(one) if isinstance(one, Words) else one for name, one in value.values.items()}
    return _formatted(template, values) if values else template


def _formatted(template: str, values: Mapping[str, object]) -> str:
    """Return a French template with its values; formatted numbers have French separators."""
    # Imported here: English needs none of it.
    from string import Formatter

    class French(Formatter):
        def format_field(self, value: object, format_spec: str) -> str:
            text: str = super().format_field(value, format_spec)
            is_formatted = bool(format_spec) and isinstance(value, int | float)
            return text.translate(_FRENCH_SEPARATORS) if is_formatted else text

    return French().vformat(template, (), values)


def is_english() -> bool:
    """Tell whether operators are told everything in English."""
    return _look_up is _unchanged


def use_language_of(environ: Mapping[str, str]) -> None:
    """Speak to operators in the language of this environment from now on."""
    global _look_up
    _look_up = _unchanged
    if detect_language(environ) == "fr":
        # Imported here: English needs none of it. What Typer says is looked up in the same catalogue by this.
        import gettext

        gettext.bindtextdomain(DOMAIN, CATALOGUES)
        gettext.textdomain(DOMAIN)
        _look_up = gettext.gettext


def detect_language(environ: Mapping[str, str]) -> str:
    """Return the language of an environment, `fr` or `en`, by the rules of GNU gettext.

    LC_ALL comes before LC_MESSAGES, and that before LANG. LANGUAGE lists languages in the order of preference, but not
    for the locale C, which is that of who asks for no language at all.
    """
    locale = environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or ""
    if locale.partition(".")[0] in _LOCALES_WITHOUT_LANGUAGE:
        return "en"
    for wanted in (environ.get("LANGUAGE") or locale).split(":"):
        language = wanted.replace("@", "_").replace(".", "_").partition("_")[0]
        if language in {"fr", "en"}:
            return language
    return "en"
