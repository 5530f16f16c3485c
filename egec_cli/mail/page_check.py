"""What is wrong with the HTML of a mail: what mail programs block or filters punish, and what clients stumble over."""

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from egec_cli.mail.page import Element, Page
from egec_cli.mail.template import Template
from egec_cli.translation import Words


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


_SOUND, _FILM, _FRAME, _PLUG_IN = Words("sound"), Words("a film"), Words("a frame"), Words("a plug-in")
_FIELD, _BUTTON = Words("a field of a form"), Words("a button of a form")
_FORBIDDEN = {
    "applet": "Java", "audio": _SOUND, "base": Words("another base of links"), "button": _BUTTON, "embed": _PLUG_IN,
    "form": Words("a form"), "frame": _FRAME, "iframe": _FRAME, "input": _FIELD,
    "link": Words("a file from elsewhere"), "object": _PLUG_IN, "script": Words("a script"), "select": _FIELD,
    "svg": Words("a drawing"), "textarea": _FIELD, "video": _FILM,
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
            what = Words("<{tag}> is {kind}, which mail programs block", tag=element.tag, kind=_FORBIDDEN[element.tag])
            yield _Found(element.line, what, Words("Take {what} out.", what=f"<{element.tag}>"))
        if element.tag == "meta" and element.attributes.get("http-equiv", "").lower() == "refresh":
            yield _Found(
                element.line, Words("the page leads to another by itself"), Words("Take {what} out.", what="<meta>")
            )
        yield from _forbidden_attributes(element)
        styles = element.own_text if element.tag == "style" else element.attributes.get("style", "")
        for match in _FROM_ELSEWHERE.finditer(styles):
            line = element.line + styles.count("\n", 0, match.start())
            yield _Found(
                line,
                Words("the style has {found}: it loads a file from elsewhere", found=match[0]),
                Words("Take it out."),
            )


def _forbidden_attributes(element: Element) -> Iterator[_Found]:
    for name, value in element.attributes.items():
        if name.startswith("on"):
            yield _Found(
                element.line,
                Words("{name}= is a script, which mail programs block", name=name),
                Words("Take {what} out.", what=f"{name}="),
            )
        elif name in _SOURCES and element.tag not in _FORBIDDEN:
            if value.strip().lower().startswith("data:"):
                what = Words("the picture in {name}= is not shown by many mail programs", name=name)
                yield _Found(element.line, what, Words("Let words say it."), is_fatal=False)
            else:
                what = Words("{name}= loads a file from elsewhere, which tells its owner who reads the mail", name=name)
                yield _Found(element.line, what, Words("Take {what} out.", what=f"<{element.tag}>"))
        for key in _KEYS:
            if name != "href" and key in _placeholders(value):
                yield _Found(
                    element.line, Words("{name}= has ${key}", name=name, key=key), Words("Write it as text only.")
                )


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
                    Words("${key} is not alone in its element: other text or blanks would be copied along", key=key),
                    Words("Write <code>${key}</code>, with nothing else between the two tags.", key=key),
                )
            if not _tells_apart(element.fonts):
                yield _Found(
                    element.line,
                    Words("${key} has no font of its own in which 0 and O, 1, l and I look different", key=key),
                    Words('Give its element style="font-family:{fonts}".', fonts=_FONTS),
                )
            if key == "password" and element.styles.get("user-select") != "all":
                yield _Found(
                    element.line,
                    Words("a double click on $password selects only what is between two of its special characters"),
                    Words('Add "-webkit-user-select:all;user-select:all" to the style of its element.'),
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
            what = Words("the link has ${own}: it tells others who has clicked", own=own[0])
            yield _Found(element.line, what, Words("Take ${own} out of the link.", own=own[0]))
        elif not target.startswith(("https://", "mailto:", "tel:")):
            what = Words("the link leads to {target!r}, which is no https:// address", target=target)
            yield _Found(element.line, what, Words("Begin the address with https://."))
        elif re.search(r"[?&]utm_", target):
            yield _Found(element.line, Words("the link is tracked"), Words("Take utm_... out of its address."))
        shown = _ADDRESS.search(filled.whole_text)
        host = urlsplit(target).hostname or target.partition("@")[2]
        if shown and not own and _bare(shown[1]) != _bare(host):
            what = Words(
                "the link shows {shown} and leads to {target!r}, as those of thieves do",
                shown=shown[1],
                target=host or target,
            )
            yield _Found(element.line, what, Words("Let it show the address that it leads to."))


def _bare(host: str) -> str:
    return host.lower().removeprefix("www.")


def _hard_to_read(page: Page, language: str) -> Iterator[_Found]:
    """Yield what makes a page hard to read: with a screen reader, in the dark, on a telephone."""
    if not any(element.attributes.get("lang") == language for element in page.elements):
        what = Words("no element tells screen readers the language")
        yield _Found(1, what, Words('Write <html lang="{language}">.', language=language), is_fatal=False)
    has_headers = any(element.tag == "th" for element in page.elements)
    for element in page.elements:
        if element.tag == "table" and not has_headers and element.attributes.get("role") != "presentation":
            what = Words("screen readers read the table out as one, although it has no headers")
            yield _Found(element.line, what, Words('Use no table, or write role="presentation".'), is_fatal=False)
        colours = ("color" in element.styles, bool({"background", "background-color"} & element.styles.keys()))
        if colours[0] != colours[1]:
            what = Words("the colour of the text is set without that of the ground, or the other way round")
            yield _Found(
                element.line, what, Words("Set both or neither, for readers with a dark screen."), is_fatal=False
            )
        if (width := _fixed_width(element)) > _NARROW:
            what = Words(
                "it is {width} pixels wide, and the screen of a telephone {narrow}", width=width, narrow=_NARROW
            )
            yield _Found(element.line, what, Words("Write max-width:{width}px instead.", width=width), is_fatal=False)


def _fixed_width(element: Element) -> int:
    widths = (element.styles.get("width", ""), element.styles.get("min-width", ""), element.attributes.get("width", ""))
    return max(int(match[1]) if (match := re.fullmatch(r"(\d{1,5})(?:px)?", width)) else 0 for width in widths)
