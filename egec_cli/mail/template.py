"""The texts of `templates/`: found, checked and filled in by a strict `string.Template`."""

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from string import Template as StringTemplate
from typing import NamedTuple

from egec_cli.errors import Misconfigured
from egec_cli.settings import Settings

_PACKAGE = Path(__file__).parent.parent
# The wheel carries the folder inside the package; a checkout has it beside the package.
BUILT_IN = next(path for path in (_PACKAGE / "templates", _PACKAGE.parent / "templates") if path.is_dir())


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
            Misconfigured: a placeholder is unknown, misspelt, or required but not used; names file and line.
        """
        used = self._placeholders(values)
        missing = sorted(set(required) - used)
        if missing:
            raise Misconfigured(
                f"{self.path}:1: the text never uses ${missing[0]}",
                f"Write ${missing[0]} where the client is to read it.",
            )
        return self.filled(values)

    def filled(self, values: Mapping[str, str]) -> str:
        """Return what `render` does, of a template that has been rendered once with values of the same names."""
        if self.path.suffix == ".html":
            values = {name: escape(value) for name, value in values.items()}
        return StringTemplate(self.text).substitute(values)

    def _placeholders(self, known: Iterable[str]) -> set[str]:
        known = set(known)
        used = set()
        for match in StringTemplate.pattern.finditer(self.text):
            if match["escaped"] is not None:
                continue
            name = match["named"] or match["braced"]
            if name not in known:
                line = self.text.count("\n", 0, match.start()) + 1
                what = f"there is no placeholder ${name}" if name else "a dollar sign stands alone"
                names = ", ".join(f"${known_name}" for known_name in sorted(known))
                raise Misconfigured(
                    f"{self.path}:{line}: {what}",
                    f"Write $$ for a dollar sign; the placeholders here are: {names or 'none'}.",
                )
            used.add(name)
        return used


def find(settings: Settings, name: str) -> Template:
    """Return the template of this file name: the organisation's own where there is one, else the built-in one.

    Raises:
        Misconfigured: the file cannot be read as UTF-8 text.
    """
    own = settings.templates / name if settings.templates else None
    path = own if own is not None and own.exists() else BUILT_IN / name
    try:
        return Template(path, path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise Misconfigured(f"{path}:{line}: the text is not UTF-8", "Save the template as UTF-8.") from None
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}", "Mend EGEC_TEMPLATES or the file.") from None


def text(settings: Settings, name: str, language: str, /, **values: str) -> str:
    """Return the filled-in text `NAME.LANGUAGE.txt`, without white space at its end."""
    return find(settings, f"{name}.{language}.txt").render(values, required=values).rstrip()
