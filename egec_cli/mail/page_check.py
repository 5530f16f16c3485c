"""What is wrong with the HTML of a mail: what mail programs block or filters punish, and what clients stumble over."""

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from egec_cli.mail.page import Element, Page
from egec_cli.mail.template import Template


class Flaw(NamedTuple):
    """Something about a template that is not as it should be.

    Attributes:
        where: the file and the line.
        is_fatal: no run of mails may begin with it.
    """

    where: str
    what: str
    cure: str
    is_fatal: bool = True


class _Found(NamedTuple):
    line: int
    what: str
    cure: str
    is_fatal: bool = True


_FORBIDDEN = {
    "applet": "Java", "audio": "sound", "base": "another base of links", "button": "a button of a form",
    "embed": "a plug-in", "form": "a form", "frame": "a frame", "iframe": "a frame", "input": "a field of a form",
    "link": "a file from elsewhere", "object": "a plug-in", "script": "a script", "select": "a field of a form",
    "svg": "a drawing", "textarea": "a field of a form", "video": "a film",
}  # fmt: skip
_SOURCES = ("src", "srcset", "background", "poster", "data", "action", "longdesc")
_FROM_ELSEWHERE = re.compile(r"@import|@font-face|url\s*\(|expression\s*\(", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
# What a link may be made of: the same for all clients, so that nobody learns who has clicked.
_THE_SAME_FOR_ALL = {"app_name", "app_url", "support"}
_KEYS = ("identifier", "password")
_ADDRESS = re.compile(r"(?:https?://)?((?:[\w-]+\.)+[^\W\d_]{2,})", re.IGNORECASE)
_TELLS_APART = re.compile(r"mono|code|consol|courier|menlo|typewriter", re.IGNORECASE)
_FONTS = "Consolas,Menlo,'DejaVu Sans Mono','Courier New',monospace"
# The width of the narrowest screen that is still in use, in CSS pixels.
_NARROW = 320


def flaws(source: Template, rendered: str, language: str) -> Iterator[Flaw]:
    """Yield what is wrong with a page.

    Args:
        source: its template.
        rendered: the page filled in; each of its lines is the same line of the template.
        language: that of its words.
    """
    # A doubled dollar sign begins no placeholder.
    page = Page(source.text.replace("$$", "$ "))
    for found in (
        *_forbidden(page),
        *_keys(page),
        *_links(page, Page(rendered)),
        *_hard_to_read(page, language),
    ):
        yield Flaw(f"{source.path}:{found.line}", *found[1:])


def _forbidden(page: Page) -> Iterator[_Found]:
    """Yield what comes from elsewhere, what acts, and what tells others that the mail was read."""
    for element in page.elements:
        if element.tag in _FORBIDDEN:
            what = f"<{element.tag}> is {_FORBIDDEN[element.tag]}, which mail programs block"
            yield _Found(element.line, what, f"Take <{element.tag}> out.")
        if element.tag == "meta" and element.attributes.get("http-equiv", "").lower() == "refresh":
            yield _Found(element.line, "the page leads to another by itself", "Take this <meta> out.")
        yield from _forbidden_attributes(element)
        styles = element.own_text if element.tag == "style" else element.attributes.get("style", "")
        for match in _FROM_ELSEWHERE.finditer(styles):
            line = element.line + styles.count("\n", 0, match.start())
            yield _Found(line, f"the style has {match[0]}: it loads a file from elsewhere", "Take it out.")


def _forbidden_attributes(element: Element) -> Iterator[_Found]:
    for name, value in element.attributes.items():
        if name.startswith("on"):
            yield _Found(element.line, f"{name}= is a script, which mail programs block", f"Take {name}= out.")
        elif name in _SOURCES and element.tag not in _FORBIDDEN:
            if value.strip().lower().startswith("data:"):
                what = f"the picture in {name}= is not shown by many mail programs"
                yield _Found(element.line, what, "Let words say it.", is_fatal=False)
            else:
                what = f"{name}= loads a file from elsewhere, which tells its owner who reads the mail"
                yield _Found(element.line, what, f"Take <{element.tag}> out.")
        for key in _KEYS:
            if name != "href" and key in _placeholders(value):
                yield _Found(element.line, f"{name}= has ${key}", "Write it as text only.")


def _placeholders(text: str) -> set[str]:
    return {match[1] or match[2] for match in _PLACEHOLDER.finditer(text)}


def _keys(page: Page) -> Iterator[_Found]:
    """Yield what hinders from reading or copying the identifier and the password."""
    for element in page.elements:
        for key in _KEYS:
            if key not in _placeholders(element.own_text):
                continue
            if element.children or element.own_text not in {f"${key}", f"${{{key}}}"}:
                yield _Found(
                    element.line,
                    f"${key} is not alone in its element: other text or blanks would be copied along",
                    f"Write <code>${key}</code>, with nothing else between the two tags.",
                )
            if not _tells_apart(element.fonts):
                yield _Found(
                    element.line,
                    f"${key} has no font of its own in which 0 and O, 1, l and I look different",
                    f'Give its element style="font-family:{_FONTS}".',
                )
            if key == "password" and element.styles.get("user-select") != "all":
                yield _Found(
                    element.line,
                    "a double click on $password selects only what is between two of its special characters",
                    'Add "-webkit-user-select:all;user-select:all" to the style of its element.',
                    is_fatal=False,
                )


def _tells_apart(fonts: str) -> bool:
    names = [name.strip(" '\"") for name in fonts.split(",")]
    return names[-1] == "monospace" and all(_TELLS_APART.search(name) for name in names)


def _links(page: Page, rendered: Page) -> Iterator[_Found]:
    for element, filled in zip(page.elements, rendered.elements, strict=False):
        if element.tag not in {"a", "area"} or "href" not in element.attributes:
            continue
        own = sorted(_placeholders(element.attributes["href"]) - _THE_SAME_FOR_ALL)
        target = filled.attributes.get("href", "")
        if own:
            what = f"the link has ${own[0]}: it tells others who has clicked"
            yield _Found(element.line, what, f"Take ${own[0]} out of the link.")
        elif not target.startswith(("https://", "mailto:", "tel:")):
            what = f"the link leads to {target!r}, which is no https:// address"
            yield _Found(element.line, what, "Begin the address with https://.")
        elif re.search(r"[?&]utm_", target):
            yield _Found(element.line, "the link is tracked", "Take utm_... out of its address.")
        shown = _ADDRESS.search(filled.whole_text)
        host = urlsplit(target).hostname or target.partition("@")[2]
        if shown and not own and _bare(shown[1]) != _bare(host):
            what = f"the link shows {shown[1]} and leads to {host or target!r}, as those of thieves do"
            yield _Found(element.line, what, "Let it show the address that it leads to.")


def _bare(host: str) -> str:
    return host.lower().removeprefix("www.")


def _hard_to_read(page: Page, language: str) -> Iterator[_Found]:
    """Yield what makes a page hard to read: with a screen reader, in the dark, on a telephone."""
    if not any(element.attributes.get("lang") == language for element in page.elements):
        what = "no element tells screen readers the language"
        yield _Found(1, what, f'Write <html lang="{language}">.', is_fatal=False)
    has_headers = any(element.tag == "th" for element in page.elements)
    for element in page.elements:
        if element.tag == "table" and not has_headers and element.attributes.get("role") != "presentation":
            what = "screen readers read the table out as one, although it has no headers"
            yield _Found(element.line, what, 'Use no table, or write role="presentation".', is_fatal=False)
        colours = ("color" in element.styles, bool({"background", "background-color"} & element.styles.keys()))
        if colours[0] != colours[1]:
            what = "the colour of the text is set without that of the ground, or the other way round"
            yield _Found(element.line, what, "Set both or neither, for readers with a dark screen.", is_fatal=False)
        if (width := _fixed_width(element)) > _NARROW:
            what = f"it is {width} pixels wide, and the screen of a telephone {_NARROW}"
            yield _Found(element.line, what, f"Write max-width:{width}px instead.", is_fatal=False)


def _fixed_width(element: Element) -> int:
    widths = (element.styles.get("width", ""), element.styles.get("min-width", ""), element.attributes.get("width", ""))
    return max(int(match[1]) if (match := re.fullmatch(r"(\d{1,5})(?:px)?", width)) else 0 for width in widths)
