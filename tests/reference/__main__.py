"""`python -m tests.reference` generates the README's reference and the man page."""

from pathlib import Path

from tests.reference import man_page, reference

CHECKOUT = Path(__file__).parent.parent.parent


def write(checkout: Path = CHECKOUT) -> None:
    """Write what is generated into the checkout."""
    readme = checkout / "README.md"
    readme.write_text(reference.in_readme(readme.read_text(encoding="utf-8")), encoding="utf-8")
    (checkout / "egec_cli" / "man" / "egec.1").write_text(man_page.text(), encoding="utf-8")


if __name__ == "__main__":
    write()
