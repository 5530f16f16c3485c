"""The README's table of guides: each with its own summary."""

from pathlib import Path

CHECKOUT = Path(__file__).parent.parent.parent
GUIDES = CHECKOUT / "egec_cli" / "guides"
# From the first day to the source code; a guide without a place here comes last.
ORDER = (
    "install", "server", "settings", "mail", "bounces", "import", "runs", "helpdesk", "logins", "audit", "monitoring",
    "security", "troubleshooting", "troubleshooting-mail", "reference", "architecture", "glossary",
)  # fmt: skip
BEGIN, END = "<!-- guides -->\n", "<!-- end -->"


def rows() -> list[list[str]]:
    """Return the link and the summary of each guide."""
    places = {name: place for place, name in enumerate(ORDER)}
    names = sorted((path.stem for path in GUIDES.glob("*.md")), key=lambda name: (places.get(name, len(ORDER)), name))
    return [[f"[{name}](egec_cli/guides/{name}.md)", _summary(GUIDES / f"{name}.md")] for name in names]


def _summary(guide: Path) -> str:
    title, blank, summary, *_ = guide.read_text(encoding="utf-8").splitlines()
    if not title.startswith("# ") or blank or not summary:
        raise ValueError(f"{guide.name}: begin with a title, a blank line, and one line that says what it is for")
    return summary


def in_readme(text: str) -> str:
    """Return the README with its table of guides as it should be."""
    before, _, rest = text.partition(BEGIN)
    lines = ["| guide | what it is for |", "|---|---|", *(f"| {' | '.join(row)} |" for row in rows())]
    return before + BEGIN + "".join(f"{line}\n" for line in lines) + END + rest.partition(END)[2]
