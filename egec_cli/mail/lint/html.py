"""Parse an HTML page as mail programs do, with line numbers, and find what they block or show badly."""

import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from typing import NamedTuple
from urllib.parse import urlsplit

from egec_cli.mail.compose.template import Template
from egec_cli.translation import Words

# Elements without an end tag.
_VOID = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
})  # fmt: skip
# Elements that separate words even without a blank.
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "div", "dl", "dt", "footer", "h1", "h2",
    "h3", "h4", "h5", "h6", "header", "hr", "html", "li", "main", "nav", "ol", "p", "pre", "section", "table", "tbody",
    "td", "tfoot", "th", "thead", "tr", "ul",
})  # fmt: skip
_NEVER_SHOWN = frozenset({"head", "script", "style", "template", "title"})


class Word(NamedTuple):
    """A visible word and its line."""

    text: str
    line: int


class Element:
    """An element of a page.

    Attributes:
        tag: its name in lower case.
        attributes: by name in lower case; an attribute without a value is empty.
        line: the line of its start tag.
        styles: the declarations of its `style` attribute by name.
        fonts: its `font-family`, inherited from `style` attributes only, because many mail programs remove style
            sheets.
        own_text: the text directly in it.
        whole_text: the text in it and its descendants.
        children: the number of its child elements.
    """

    def __init__(self, tag: str, attributes: dict[str, str], line: int, parent: "Element | None") -> None:
        self.tag = tag
        self.attributes = attributes
        self.line = line
        self.styles = _parse_styles(attributes.get("style", ""))
        self.fonts: str = self.styles.get("font-family", parent.fonts if parent else "")
        self.own_text = ""
        self.whole_text = ""
        self.children = 0


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        elements: in the order of their start tags.
        words: the visible words in order.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.words: list[Word] = []
        self._open: list[Element] = []
        self._word, self._line_of_word = "", 1
        self.feed(html)
        self.close()
        self._end_word()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Open an element."""
        if tag in _BLOCKS:
            self._end_word()
        parent = self._open[-1] if self._open else None
        element = Element(tag, {name: value or "" for name, value in attrs}, self.getpos()[0], parent)
        self.elements.append(element)
        if parent is not None:
            parent.children += 1
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        """Close an element and all unclosed elements in it."""
        if tag in _BLOCKS:
            self._end_word()
        if any(element.tag == tag for element in self._open):
            while self._open.pop().tag != tag:
                pass

    def handle_data(self, data: str) -> None:
        """Add a piece of text."""
        if self._open:
            self._open[-1].own_text += data
        for element in self._open:
            element.whole_text += data
        if any(element.tag in _NEVER_SHOWN for element in self._open):
            return
        line = self.getpos()[0]
        for piece in re.split(r"(\s+)", data):
            if piece and not piece.isspace():
                if not self._word:
                    self._line_of_word = line
                self._word += piece
            elif piece:
                self._end_word()
                line += piece.count("\n")

    def _end_word(self) -> None:
        if self._word:
            self.words.append(Word(self._word, self._line_of_word))
            self._word = ""


def _parse_styles(text: str) -> dict[str, str]:
    pairs = (declaration.partition(":") for declaration in text.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs if value}


class Flaw(NamedTuple):
    """A problem of a template.

    Attributes:
        where: file and line.
        is_fatal: the flaw prevents mailing.
    """

    where: str
    what: str
    fix: str
    is_fatal: bool = True


class _Found(NamedTuple):
    line: int
    what: str
    fix: str
    is_fatal: bool = True


_SOUND, _FILM, _FRAME, _PLUG_IN = Words("sound"), Words("a video"), Words("a frame"), Words("a plug-in")
_FIELD, _BUTTON = Words("a form field"), Words("a form button")
_FORBIDDEN = {
    "applet": "Java", "audio": _SOUND, "base": Words("another base for links"), "button": _BUTTON, "embed": _PLUG_IN,
    "form": Words("a form"), "frame": _FRAME, "iframe": _FRAME, "input": _FIELD,
    "link": Words("an external file"), "object": _PLUG_IN, "script": Words("a script"), "select": _FIELD,
    "svg": Words("a drawing"), "textarea": _FIELD, "video": _FILM,
}  # fmt: skip
_SOURCES = ("src", "srcset", "background", "poster", "data", "action", "longdesc")
_REMOTE = re.compile(r"@import|@font-face|url\s*\(|expression\s*\(", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
# The placeholders that a link may use: the same for all clients, so that clicks are not tracked.
_SAME_FOR_ALL = {"app_name", "app_url", "support"}
_KEYS = ("identifier", "password")
_ADDRESS = re.compile(r"(?:https?://)?((?:[\w-]+\.)+[^\W\d_]{2,})", re.IGNORECASE)
_UNAMBIGUOUS = re.compile(r"mono|code|consol|courier|menlo|typewriter", re.IGNORECASE)
_FONTS = "Consolas,Menlo,'DejaVu Sans Mono','Courier New',monospace"
# The width of the narrowest screen in use, in CSS pixels.
_NARROW = 320


def find_page_flaws(source: Template, rendered: str, language: str) -> Iterator[Flaw]:
    """Yield the flaws of a page.

    Args:
        source: its template.
        rendered: the page filled in, with the same line numbers.
    """
    # A doubled dollar sign is not a placeholder.
    page = Page(source.text.replace("$$", "$ "))
    for found in (
        *_find_forbidden(page),
        *_find_unclear_keys(page),
        *_find_bad_links(page, Page(rendered)),
        *_find_hard_to_read(page, language),
    ):
        yield Flaw(f"{source.path}:{found.line}", *found[1:])


def _find_forbidden(page: Page) -> Iterator[_Found]:
    """Yield external and active content, and what reveals that the mail was read."""
    for element in page.elements:
        if element.tag in _FORBIDDEN:
            what = Words("<{tag}> is {kind}, which mail programs block", tag=element.tag, kind=_FORBIDDEN[element.tag])
            yield _Found(element.line, what, Words("Remove {what}.", what=f"<{element.tag}>"))
        if element.tag == "meta" and element.attributes.get("http-equiv", "").lower() == "refresh":
            yield _Found(element.line, Words("the page redirects to another"), Words("Remove {what}.", what="<meta>"))
        yield from _find_forbidden_attributes(element)
        styles = element.own_text if element.tag == "style" else element.attributes.get("style", "")
        for match in _REMOTE.finditer(styles):
            line = element.line + styles.count("\n", 0, match.start())
            yield _Found(line, Words("the style loads an external file: {found}", found=match[0]), Words("Remove it."))


def _find_forbidden_attributes(element: Element) -> Iterator[_Found]:
    for name, value in element.attributes.items():
        if name.startswith("on"):
            yield _Found(
                element.line,
                Words("{name}= is a script, which mail programs block", name=name),
                Words("Remove {what}.", what=f"{name}="),
            )
        elif name in _SOURCES and element.tag not in _FORBIDDEN:
            if value.strip().lower().startswith("data:"):
                what = Words("many mail programs do not show the picture in {name}=", name=name)
                yield _Found(element.line, what, Words("Use text instead."), is_fatal=False)
            else:
                what = Words("{name}= loads an external file, which reveals who reads the mail", name=name)
                yield _Found(element.line, what, Words("Remove {what}.", what=f"<{element.tag}>"))
        for key in _KEYS:
            if name != "href" and key in _find_placeholders(value):
                yield _Found(
                    element.line, Words("{name}= contains ${key}", name=name, key=key), Words("Use it in text only.")
                )


def _find_placeholders(text: str) -> set[str]:
    return {match[1] or match[2] for match in _PLACEHOLDER.finditer(text)}


def _find_unclear_keys(page: Page) -> Iterator[_Found]:
    """Yield obstacles to reading or copying the identifier and the password."""
    for element in page.elements:
        for key in _KEYS:
            if key not in _find_placeholders(element.own_text):
                continue
            if element.children or element.own_text not in {f"${key}", f"${{{key}}}"}:
                yield _Found(
                    element.line,
                    Words("${key} shares its element with other text or blanks, which would be copied too", key=key),
                    Words("Write <code>${key}</code>, with nothing else between the tags.", key=key),
                )
            if not _is_unambiguous(element.fonts):
                yield _Found(
                    element.line,
                    Words("${key} needs a font in which 0 and O, 1, l and I look different", key=key),
                    Words('Give its element style="font-family:{fonts}".', fonts=_FONTS),
                )
            if key == "password" and element.styles.get("user-select") != "all":
                yield _Found(
                    element.line,
                    Words("a double click on $password selects only a part of it"),
                    Words('Add "-webkit-user-select:all;user-select:all" to the style of its element.'),
                    is_fatal=False,
                )


def _is_unambiguous(fonts: str) -> bool:
    names = [name.strip(" '\"") for name in fonts.split(",")]
    return names[-1] == "monospace" and all(_UNAMBIGUOUS.search(name) for name in names)


def _find_bad_links(page: Page, rendered: Page) -> Iterator[_Found]:
    for element, filled in zip(page.elements, rendered.elements, strict=False):
        if element.tag not in {"a", "area"} or "href" not in element.attributes:
            continue
        own = sorted(_find_placeholders(element.attributes["href"]) - _SAME_FOR_ALL)
        target = filled.attributes.get("href", "")
        if own:
            what = Words("the link has ${own}, which reveals who has clicked", own=own[0])
            yield _Found(element.line, what, Words("Remove ${own} from the link.", own=own[0]))
        elif not target.startswith(("https://", "mailto:", "tel:")):
            what = Words("the link leads to {target!r}, not to an https:// address", target=target)
            yield _Found(element.line, what, Words("Use an address with https://."))
        elif re.search(r"[?&]utm_", target):
            yield _Found(element.line, Words("the link is tracked"), Words("Remove utm_... from its address."))
        shown = _ADDRESS.search(filled.whole_text)
        host = urlsplit(target).hostname or target.partition("@")[2]
        if shown and not own and _strip_www(shown[1]) != _strip_www(host):
            what = Words(
                "the link shows {shown} but leads to {target!r}, like a phishing mail",
                shown=shown[1],
                target=host or target,
            )
            yield _Found(element.line, what, Words("Show the address to which the link leads."))


def _strip_www(host: str) -> str:
    return host.lower().removeprefix("www.")


def _find_hard_to_read(page: Page, language: str) -> Iterator[_Found]:
    """Yield obstacles for screen readers, dark mode and phones."""
    if not any(element.attributes.get("lang") == language for element in page.elements):
        what = Words("screen readers do not know the language")
        yield _Found(1, what, Words('Write <html lang="{language}">.', language=language), is_fatal=False)
    has_headers = any(element.tag == "th" for element in page.elements)
    for element in page.elements:
        if element.tag == "table" and not has_headers and element.attributes.get("role") != "presentation":
            what = Words("screen readers announce the table, although it has no headers")
            yield _Found(element.line, what, Words('Add role="presentation", or avoid the table.'), is_fatal=False)
        colours = ("color" in element.styles, bool({"background", "background-color"} & element.styles.keys()))
        if colours[0] != colours[1]:
            what = Words("only one of text colour and background colour is set")
            yield _Found(element.line, what, Words("Set both or neither, because of dark mode."), is_fatal=False)
        if (width := _fixed_width(element)) > _NARROW:
            what = Words(
                "the element is {width} pixels wide, but a phone screen only {narrow}", width=width, narrow=_NARROW
            )
            yield _Found(element.line, what, Words("Write max-width:{width}px instead.", width=width), is_fatal=False)


def _fixed_width(element: Element) -> int:
    widths = (element.styles.get("width", ""), element.styles.get("min-width", ""), element.attributes.get("width", ""))
    return max(int(match[1]) if (match := re.fullmatch(r"(\d{1,5})(?:px)?", width)) else 0 for width in widths)
