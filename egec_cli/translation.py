"""Translation of what operators read: French for a French locale, English otherwise.

A text is created in English, as `Words`. Programs, records and logs get it in English; it is translated only where it
is shown to a person. Every start imports this module, so it imports next to nothing.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

DOMAIN = "egec"
CATALOGUES = os.path.join(os.path.dirname(__file__), "locale")
_LOCALES_WITHOUT_LANGUAGE = {"", "C", "POSIX"}
# Of many names, the number that a message lists.
_MOST_NAMED = 10
_FRENCH_SEPARATORS = {ord(","): "\N{NARROW NO-BREAK SPACE}", ord("."): ","}


def _unchanged(text: str) -> str:
    return text


_look_up: Callable[[str], str] = _unchanged


class Words(str):
    """A text for operators: a string in English that keeps the template and the values that a translation needs.

    Args:
        template: the English text that catalogues list, such as `{path} already exists`; `Words` are returned as is.
        values: the values by name; `Words` among them are translated too.
    """

    template: str
    values: Mapping[str, object]

    def __new__(cls, template: str, /, **values: object) -> "Words":
        """Fill in the template."""
        if isinstance(template, Words):
            return template
        words = super().__new__(cls, template.format_map(values) if values else template)
        words.template = template
        words.values = values
        return words


def join_words(separator: str, parts: Iterable[str]) -> Words:
    """Join several texts into one; each is translated separately, and the separator gets the spaces of French."""
    values = {f"part_{number}": part for number, part in enumerate(parts)}
    return Words(separator.join(f"{{{name}}}" for name in values), **values)


def join_first(names: Sequence[str]) -> Words:
    """Join the first ten names, and count the others: `a, b and 7 more`."""
    first = join_words(", ", names[:_MOST_NAMED])
    others = len(names) - _MOST_NAMED
    return Words("{first} and {number} more", first=first, number=format_number(others)) if others > 0 else first


def format_number(number: int) -> str:
    """Return a number as people of the operator's language write it: `1,993`, or `1 993` in French."""
    return f"{number:,}" if is_english() else f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def count_words(none: str, one: str, many: str, /, number: int, **values: object) -> Words:
    """Return a number with its words, such as `0 clients`, `1 client` or `2,345 clients`.

    English has the plural for 0, French the singular, so there are three templates; `{number}` is the number.
    """
    chosen = (none, one, many)[min(number, 2)]
    template = chosen.template if isinstance(chosen, Words) else chosen
    return Words(template, number=format_number(number), **values)


def system_message(error: OSError) -> Words:
    """Return the system's description of an error, such as `Permission denied`."""
    return Words(str(error.strerror))


def translate(value: object) -> str:
    """Return `Words` in the operator's language, and anything else as text."""
    if _look_up is _unchanged or not (isinstance(value, Words) and value.template):
        return str(value)
    template = _look_up(value.template)
    # Of `join_words`, whose separator is in no catalogue.
    if "part_0" in value.values:
        template = add_french_spaces(template)
    values = {name: translate(one) if isinstance(one, Words) else one for name, one in value.values.items()}
    return _formatted(template, values) if values else template


def add_french_spaces(text: str) -> str:
    """Return a text, if it is French, with a no-break space before each colon and semicolon that a blank follows."""
    if is_english():
        return text
    for mark in (": ", "; "):
        text = text.replace(mark, f"\u00a0{mark}").replace(f"\u00a0\u00a0{mark}", f"\u00a0{mark}")
    return text


def _formatted(template: str, values: Mapping[str, object]) -> str:
    """Return a French template with its values; formatted numbers have French separators."""
    # Imported here: English does not need it.
    from string import Formatter

    class French(Formatter):
        def format_field(self, value: object, format_spec: str) -> str:
            text: str = super().format_field(value, format_spec)
            is_formatted = bool(format_spec) and isinstance(value, int | float)
            return text.translate(_FRENCH_SEPARATORS) if is_formatted else text

    return French().vformat(template, (), values)


def is_english() -> bool:
    """Return whether operators read English."""
    return _look_up is _unchanged


def set_language(environ: Mapping[str, str]) -> None:
    """Use the language of this environment for operators from now on."""
    global _look_up
    _look_up = _unchanged
    if detect_language(environ) == "fr":
        # Imported here: English does not need it. Typer looks up its own texts in this domain too.
        import gettext

        gettext.bindtextdomain(DOMAIN, CATALOGUES)
        gettext.textdomain(DOMAIN)
        _look_up = gettext.gettext


def detect_language(environ: Mapping[str, str]) -> str:
    """Return the language of an environment, `fr` or `en`, by the rules of GNU gettext.

    LC_ALL overrides LC_MESSAGES, which overrides LANG. LANGUAGE lists languages in order of preference; the locale C
    ignores it.
    """
    locale = environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or ""
    if locale.partition(".")[0] in _LOCALES_WITHOUT_LANGUAGE:
        return "en"
    for wanted in (environ.get("LANGUAGE") or locale).split(":"):
        language = wanted.replace("@", "_").replace(".", "_").partition("_")[0]
        if language in {"fr", "en"}:
            return language
    return "en"
