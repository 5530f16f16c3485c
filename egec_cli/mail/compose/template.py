"""The texts of `templates/`: found, checked and filled in by a strict `string.Template`."""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from string import Template as StringTemplate
from typing import NamedTuple

from egec_cli.errors import ConfigError
from egec_cli.settings import trust
from egec_cli.settings.schema import Settings
from egec_cli.translation import Words, system_message

_PACKAGE = Path(__file__).parents[2]
# The wheel carries the folder inside the package; a checkout has it beside the package.
BUILT_IN = next(path for path in (_PACKAGE / "templates", _PACKAGE.parent / "templates") if path.is_dir())


class Mistake(NamedTuple):
    """What is wrong in a line of a template, and what to write instead."""

    line: int
    what: str
    cure: str


class Template(NamedTuple):
    """The text of one file, with placeholders `$name`; `$$` stands for a dollar sign."""

    path: Path
    text: str

    def render(self, values: Mapping[str, str], required: Iterable[str] = ()) -> str:
        """Return the text with every placeholder replaced, in one pass: what a value holds is never replaced.

        In a file that ends in `.html`, values are escaped.

        Args:
            values: what the placeholders stand for.
            required: the placeholders that the text must use.

        Raises:
            ConfigError: a placeholder is unknown, misspelt, or required but not used; names file and line.
        """
        for mistake in self.mistakes(values, required):
            raise ConfigError(
                "{path}:{line}: {what}", mistake.cure, path=self.path, line=mistake.line, what=mistake.what
            )
        return self.filled(values)

    def filled(self, values: Mapping[str, str]) -> str:
        """Return what `render` does, of a template that has been rendered once with values of the same names."""
        if self.path.suffix == ".html":
            values = {name: escape(value) for name, value in values.items()}
        return StringTemplate(self.text).substitute(values)

    def without_paragraph(self, name: str) -> "Template":
        """Return the template without the paragraphs that consist of this placeholder alone.

        In plain text that is a line and the empty line below it, in HTML a line such as `<p>$name</p>`.
        """
        placeholder = rf"\$(?:{name}|\{{{name}\}})"
        paragraph = (
            rf"^[ \t]*<(\w+)\b[^<>]*>{placeholder}</\1>[ \t]*(?:\n|\Z)"
            if self.path.suffix == ".html"
            else rf"^[ \t]*{placeholder}[ \t]*(?:\n|\Z)(?:[ \t]*\n)?"
        )
        return self._replace(text=re.sub(paragraph, "", self.text, flags=re.MULTILINE))

    def mistakes(self, known: Collection[str], required: Iterable[str] = ()) -> Iterator[Mistake]:
        """Yield each placeholder that is not known, then those that are required but not used."""
        names = ", ".join(f"${name}" for name in sorted(known))
        cure = Words("Write $$ for a dollar sign; the placeholders here are: {names}.", names=names or Words("none"))
        used = set()
        for line, name in self.placeholders():
            if name is None:
                yield Mistake(line, Words("a dollar sign stands alone"), cure)
            elif name not in known:
                yield Mistake(line, Words("there is no placeholder ${name}", name=name), cure)
            else:
                used.add(name)
        for name in sorted(set(required) - used):
            yield Mistake(
                1,
                Words("the text never uses ${name}", name=name),
                Words("Write ${name} where the client is to read it.", name=name),
            )

    def placeholders(self) -> Iterator[tuple[int, str | None]]:
        """Yield the placeholders that are used, each with its line; None for a dollar sign that begins none."""
        for match in StringTemplate.pattern.finditer(self.text):
            if match["escaped"] is None:
                yield self.text.count("\n", 0, match.start()) + 1, match["named"] or match["braced"]


def find_template(settings: Settings, name: str) -> Template:
    """Return the template of this file name: the organisation's own where there is one, else the built-in one.

    Raises:
        ConfigError: the file cannot be read as UTF-8 text, or somebody else can change it.
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
    """Return the filled-in text `NAME.LANGUAGE.txt`, without white space at its end."""
    return find_template(settings, f"{name}.{language}.txt").render(values, required=values).rstrip()
