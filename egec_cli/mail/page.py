"""An HTML page as a mail program reads it: its elements, its styles and its visible words, each with its line."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import NamedTuple

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
