"""Find, check and fill in the texts of `templates/`, each a strict `string.Template`."""

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
# In a wheel the folder is inside the package; in a checkout it is beside it.
BUILT_IN = next(path for path in (_PACKAGE / "templates", _PACKAGE.parent / "templates") if path.is_dir())


class Mistake(NamedTuple):
    """An error in a line of a template, and its correction."""

    line: int
    what: str
    fix: str


class Template(NamedTuple):
    """The text of one file, with placeholders `$name`; `$$` stands for a dollar sign."""

    path: Path
    text: str

    def render(self, values: Mapping[str, str], required: Iterable[str] = ()) -> str:
        """Check the text, then replace its placeholders in one pass; values are inserted as they are.

        In `.html` files values are escaped.

        Args:
            values: the values of the placeholders.
            required: the placeholders that the text must use.

        Raises:
            ConfigError: a placeholder is unknown, misspelt or missing; names file and line.
        """
        for mistake in self.find_mistakes(values, required):
            raise ConfigError(
                "{path}:{line}: {what}", mistake.fix, path=self.path, line=mistake.line, what=mistake.what
            )
        return self.substitute(values)

    def substitute(self, values: Mapping[str, str]) -> str:
        """Replace the placeholders as `render` does, of a template already checked for these names."""
        if self.path.suffix == ".html":
            values = {name: escape(value) for name, value in values.items()}
        return StringTemplate(self.text).substitute(values)

    def drop_paragraph(self, name: str) -> "Template":
        """Remove the paragraphs that consist of this placeholder alone.

        In plain text these are a line and the empty line below it, in HTML a line such as `<p>$name</p>`.
        """
        placeholder = rf"\$(?:{name}|\{{{name}\}})"
        paragraph = (
            rf"^[ \t]*<(\w+)\b[^<>]*>{placeholder}</\1>[ \t]*(?:\n|\Z)"
            if self.path.suffix == ".html"
            else rf"^[ \t]*{placeholder}[ \t]*(?:\n|\Z)(?:[ \t]*\n)?"
        )
        return self._replace(text=re.sub(paragraph, "", self.text, flags=re.MULTILINE))

    def find_mistakes(self, known: Collection[str], required: Iterable[str] = ()) -> Iterator[Mistake]:
        """Yield the unknown placeholders, then the missing ones."""
        names = ", ".join(f"${name}" for name in sorted(known))
        fix = Words("Write $$ for a dollar sign; valid placeholders: {names}.", names=names or Words("none"))
        used = set()
        for line, name in self.find_placeholders():
            if name is None:
                yield Mistake(line, Words("a dollar sign without a placeholder"), fix)
            elif name not in known:
                yield Mistake(line, Words("unknown placeholder ${name}", name=name), fix)
            else:
                used.add(name)
        for name in sorted(set(required) - used):
            yield Mistake(
                1,
                Words("the text does not use ${name}", name=name),
                Words("Write ${name} where the client should read it.", name=name),
            )

    def find_placeholders(self) -> Iterator[tuple[int, str | None]]:
        """Yield the placeholders in use, each with its line; None for a dollar sign without a placeholder."""
        for match in StringTemplate.pattern.finditer(self.text):
            if match["escaped"] is None:
                yield self.text.count("\n", 0, match.start()) + 1, match["named"] or match["braced"]


def find_template(settings: Settings, name: str) -> Template:
    """Return the organisation's own template of this file name, or else the built-in one.

    Raises:
        ConfigError: the file is not readable as UTF-8, or other users can change it.
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
    """Return the filled-in text `NAME.LANGUAGE.txt` without trailing white space."""
    return find_template(settings, f"{name}.{language}.txt").render(values, required=values).rstrip()
