"""`python -m tests.reference` generates the guide `reference`, the README's table of guides and the man pages."""

from pathlib import Path

from tests.reference import guides_table, man_page, reference

CHECKOUT = Path(__file__).parent.parent.parent


def generated() -> dict[Path, str]:
    """Return the files that are generated, by their paths in the checkout, with their texts."""
    package = Path("egec_cli")
    readme = Path("README.md")
    return {
        readme: guides_table.in_readme((CHECKOUT / readme).read_text(encoding="utf-8")),
        package / "guides" / "reference.md": reference.text(),
        package / "man" / "egec.1": man_page.english(),
        package / "man" / "fr" / "egec.1": man_page.french(),
    }


def write(checkout: Path = CHECKOUT) -> None:
    """Write what is generated into the checkout."""
    for path, text in generated().items():
        (checkout / path).parent.mkdir(exist_ok=True)
        (checkout / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
