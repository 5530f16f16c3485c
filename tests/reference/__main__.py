"""`python -m tests.reference` generates the guide `reference` and the man page."""

from pathlib import Path

from tests.reference import man_page, reference

CHECKOUT = Path(__file__).parent.parent.parent


def write(checkout: Path = CHECKOUT) -> None:
    """Write what is generated into the checkout."""
    guide = checkout / "egec_cli" / "guides" / "reference.md"
    guide.write_text(reference.in_guide(guide.read_text(encoding="utf-8")), encoding="utf-8")
    (checkout / "egec_cli" / "man" / "egec.1").write_text(man_page.text(), encoding="utf-8")


if __name__ == "__main__":
    write()
