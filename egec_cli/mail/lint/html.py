"""An HTML page as a mail program reads it: its elements, its styles and its visible words, each with its line."""

import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from typing import NamedTuple
from urllib.parse import urlsplit

from egec_cli.mail.compose.template import Template
from egec_cli.translation import Words

# They have no end tag.
_VOID = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
})  # fmt: skip
# Between these, words are apart even where no blank is.
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "div", "dl", "dt", "footer", "h1", "h2",
    "h3", "h4", "h5", "h6", "header", "hr", "html", "li", "main", "nav", "ol", "p", "pre", "section", "table", "tbody",
    "td", "tfoot", "th", "thead", "tr", "ul",
})  # fmt: skip
_NEVER_SHOWN = frozenset({"head", "script", "style", "template", "title"})


class Word(NamedTuple):
    """A visible word and the line that it stands in."""

    text: str
    line: int


class Element:
    """An element of a page.

    Attributes:
        tag: its name in small letters.
        attributes: by their names in small letters; one without a value is empty.
        line: where it begins.
        styles: those of its own `style`, by their names.
        fonts: the `font-family` that holds within it, as far as it is written in `style`; styles of a block or by a
            class do not count, for many mail programs take them away.
        own_text: the text directly in it.
        whole_text: the same with that of the elements within it.
        children: how many elements are directly in it.
    """

    def __init__(self, tag: str, attributes: dict[str, str], line: int, parent: "Element | None") -> None:
        self.tag = tag
        self.attributes = attributes
        self.line = line
        self.styles = _styles(attributes.get("style", ""))
        self.fonts: str = self.styles.get("font-family", parent.fonts if parent else "")
        self.own_text = ""
        self.whole_text = ""
        self.children = 0


class Page(HTMLParser):
    """A page that was read.

    Attributes:
        elements: in the order in which they begin.
        words: the visible ones, in their order.
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
        """Take the beginning of an element."""
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
        """Take the end of an element, and of those within it that have none of their own."""
        if tag in _BLOCKS:
            self._end_word()
        if any(element.tag == tag for element in self._open):
            while self._open.pop().tag != tag:
                pass

    def handle_data(self, data: str) -> None:
        """Take a piece of text."""
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


def _styles(text: str) -> dict[str, str]:
    pairs = (declaration.partition(":") for declaration in text.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs if value}


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


def find_page_flaws(source: Template, rendered: str, language: str) -> Iterator[Flaw]:
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
