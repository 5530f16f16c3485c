"""The guides: their names, summaries, texts and sections, and which of them belongs to a command or an error."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent
_FENCE = "```"
# A comment with the line that it fills; fenced blocks and code, in which comments and links are text, come first.
_COMMENT = re.compile(r"(?P<kept>^```.*?^```$|`[^`\n]+`)|^<!--(?:.(?!-->))*.-->\n|<!--.*?-->", re.MULTILINE | re.DOTALL)
_LINK = re.compile(
    r"(?P<kept>^```.*?^```$|(?<!\[)`[^`]+`)|\[(?P<text>[^]]+)\]\((?P<target>[^)\s]+)\)", re.MULTILINE | re.DOTALL
)
_GUIDE_LINK = re.compile(r"(?:(?P<name>[\w-]+)\.md)?(?:#(?P<anchor>.*))?")
_CODE = re.compile("[a-z][a-z0-9]*(_[a-z0-9]+)*")

# The guide that helps with a command. A command that is not here belongs to the guide of its group.
COMMANDS: Mapping[str, str] = {
    "init": "install",
    "client": "helpdesk",
    "client export": "import",
    "client import": "import",
    "client list": "import",
    "activate": "helpdesk",
    "verify": "logins",
    "reissue": "runs",
    "mail": "mail",
    "mail bounces": "bounces",
    "password": "security",
    "audit": "audit",
    "stats": "monitoring",
    "db": "server",
    "doctor": "troubleshooting",
    "completion": "install",
    "help": "reference",
}

# What to type after `egec help` to read about an error: a guide, or the code itself for its section. Other errors are
# not here, because their hints say all that there is to do.
ERRORS: Mapping[str, str] = {
    "invalid_origin": "portal",
    "rejected": "import",
    "ambiguous_client": "ambiguous_client",
    "mail_refused": "mail_refused",
    "smtputf8_not_offered": "smtputf8_not_offered",
    "run_exists": "runs",
    "database_busy": "database_busy",
    "copies_remain": "copies_remain",
    "in_doubt": "in_doubt",
    "mail_deferred": "mail_deferred",
    "mail_throttled": "mail_throttled",
    "too_many_connections": "too_many_connections",
    "mail_blocked": "mail_blocked",
    "mail_server_unavailable": "mail_server_unavailable",
    "mail_server_refuses": "mail_server_refuses",
    "mail_quota_reached": "mail_quota_reached",
    "login_secret_unavailable": "login_secret_unavailable",
    "run_in_progress": "runs",
    "run_paused": "runs",
    "run_deferred": "run_deferred",
    "not_permitted": "not_permitted",
    "client_inactive": "client_inactive",
    "too_many_in_doubt": "too_many_in_doubt",
    "configuration": "settings",
    "mail_url_missing": "mail",
    "database_older": "server",
    "database_newer": "server",
}

# Outcomes other than errors: the guide and the heading of the section about each.
OUTCOMES: Mapping[str, tuple[str, str]] = {
    "not_recognised": ("portal", "What a portal calls"),
    "not_sent": ("portal", "What a portal calls"),
    "unavailable": ("portal", "What a portal calls"),
    "client_limited": ("portal", "Limits"),
    "origin_limited": ("portal", "Limits"),
    "pending": ("portal", "Hide who is a client"),
    "waiting": ("helpdesk", '"I am blocked"'),
    "blocked": ("helpdesk", '"I am blocked"'),
}

# The guides with a section for each code of an error.
TROUBLESHOOTING = ("troubleshooting", "troubleshooting-mail")
# Where the codes of errors are explained, the most helpful guides first.
CODES = (*TROUBLESHOOTING, "reference")
# Where settings are explained.
SETTINGS = "settings"


class Guide(NamedTuple):
    """A guide.

    Attributes:
        name: what to type after `egec help`.
        summary: what it is for, in one line.
    """

    name: str
    summary: str


def list_guides() -> list[Guide]:
    """Return all guides by name."""
    return [Guide(path.stem, _read_summary(path)) for path in sorted(_FOLDER.glob("*.md"))]


def names() -> list[str]:
    """Return the names of all guides."""
    return sorted(path.stem for path in _FOLDER.glob("*.md"))


def _read_summary(path: Path) -> str:
    # A guide begins with its title, an empty line, and its summary.
    with path.open(encoding="utf-8") as file:
        return [next(file) for _ in range(3)][2].strip()


def read_guide(name: str) -> str:
    """Return a guide as Markdown for a reader: without comments, and links to guides as commands to type."""
    text = _COMMENT.sub(lambda found: found["kept"] or "", (_FOLDER / f"{name}.md").read_text(encoding="utf-8"))
    return _LINK.sub(lambda link: _link_to_type(link, name), text)


def _link_to_type(link: re.Match[str], name: str) -> str:
    if link["kept"] or "://" in link["target"]:
        return link[0]
    text = link["text"]
    label = text.strip("`")
    target = _GUIDE_LINK.fullmatch(link["target"])
    if target is None:
        return text
    guide = target["name"] or name
    if guide in TROUBLESHOOTING and label == target["anchor"] and _CODE.fullmatch(label):
        return f"`egec help {label}`"
    if target["name"] is None:
        return text
    command = f"`egec help {guide}`"
    return command if label in {guide, f"egec help {guide}"} else f"{text} ({command})"


def find_guide_of_command(path: str) -> str:
    """Return the name of the guide that helps with a command or a group, such as `reissue start`."""
    return COMMANDS.get(path) or COMMANDS[path.partition(" ")[0]]


def list_codes() -> list[str]:
    """Return the codes that have a section of their own."""
    guides = [read_guide(name).splitlines() for name in TROUBLESHOOTING]
    titles = (_title(lines[number]) for lines in guides for number, level in _headings(lines) if level > 1)
    return [title for title in titles if _CODE.fullmatch(title)]


def find_section(name: str, term: str) -> str:
    """Return the section of a guide about a code or a setting.

    Args:
        name: the guide.
        term: letters, digits and underscores, such as `in_doubt`. It is the heading, or a word of it; or the text has
            it in backticks, in bold or as a cell of a table.

    Returns:
        The section with its heading, as Markdown for a reader; empty if the guide does not have one.
    """
    lines = read_guide(name).splitlines()
    headings = [(number, level) for number, level in _headings(lines) if level > 1]
    # A plain word in a heading is not yet a code.
    in_heading = re.compile(f"`{term}`" if term.isalpha() else rf"(?<![\w-]){term}(?![\w-])")
    found = [one for one in headings if _title(lines[one[0]]) == term]
    found += [one for one in headings if in_heading.search(lines[one[0]])]
    if found:
        number, level = found[0]
        end = next((other for other, its_level in headings if other > number and its_level <= level), len(lines))
        return _joined(lines[number:end])
    in_text = re.compile(rf"`{term}`|\*\*{term}\*\*|\|\s*{term}\s*\|")
    for number, line in enumerate(lines):
        if in_text.search(line):
            begin = max((other for other, _ in headings if other <= number), default=0)
            end = next((other for other, _ in headings if other > number), len(lines))
            return _joined(lines[begin:end])
    return ""


def _headings(lines: list[str]) -> Iterator[tuple[int, int]]:
    """Yield the number of each line that is a heading, and its level."""
    fenced = False
    for number, line in enumerate(lines):
        if line.startswith(_FENCE):
            fenced = not fenced
        elif not fenced and (mark := re.match("#+ ", line)):
            yield number, len(mark[0]) - 1


def _title(heading: str) -> str:
    return heading.lstrip("#").strip().strip("`")


def _joined(lines: list[str]) -> str:
    return "\n".join(lines).strip() + "\n"
