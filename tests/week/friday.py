"""Friday: mails have come back, addresses change, some clients leave, some for good."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.delivery_reports import report_of
from tests.week import logins, operators
from tests.week.logins import Login
from tests.week.state import Given, Week
from tests.week.thursday import change_address

_NOBODYS = "<7.0123456789abcdef01234567@egec.pro>"


def live(week: Week, folder: Path) -> None:
    """Read the reports, change the addresses, close accounts."""
    bounced = _read_reports(week, folder / "bounces")
    for number, identifier in enumerate(bounced[::4]):
        change_address(week, identifier, f"reachable{number}@example.org")
        week.books.expect("client.notice", "accepted")
    operators.activate_all(week, bounced[::4], "anne")
    given = {one: found for one, found in week.given().items() if one not in week.shut}
    leaving = week.some(given, 50)
    _close(week, "disable", leaving, "--reason", "contract ended")
    _require_shut(week, leaving, given)
    back = leaving[::3]
    _close(week, "enable", back)
    logins.try_all(week, [[logins.with_last(one, given[one], "the client is enabled again")] for one in back])
    _erase(week, week.some(given.keys() - {*leaving}, 100), given)


def _read_reports(week: Week, maildir: Path) -> list[str]:
    """Receive delivery reports and other mails; return the identifiers of the clients concerned."""
    last = {one: given[-1].letter for one, given in week.given().items() if one not in week.shut}
    bounced = week.some((one for one, letter in last.items() if letter is not None), 50)
    letters = [letter for one in bounced if (letter := last[one]) is not None]
    # Reports identify a mail by its Message-ID or by their own recipient; the client's address does not count.
    reports = [report_of(letter.message_id).replace(b"jeanne@", b"somebody@") for letter in letters[::2]]
    reports += [report_of(to=letter.sender).replace(b"jeanne@", b"somebody@") for letter in letters[1::2]]
    others = [
        reports[0],
        report_of(letters[0].message_id, action="delayed", status="4.4.1"),
        report_of(_NOBODYS),
        b"From: jeanne@example.org\nSubject: Re: Vos identifiants\n\nMerci !\n",
    ]
    for name in ("new", "cur", "tmp"):
        (maildir / name).mkdir(parents=True)
    for number, report in enumerate([*reports, *others]):
        (maildir / "new" / f"{number:06}.week").write_bytes(report)
    read = ("mail", "bounces", str(maildir), "--move", "--format", "jsonl")
    outcomes = Counter(row["outcome"] for row in week.egec(*read, codes=(3,)).rows())
    expected = {"marked": len(bounced), "known": 1, "temporary": 1, "unknown": 1, "not_a_report": 1}
    week.books.require(outcomes == expected, f"the reports were {outcomes}, not {expected}")
    week.egec(*read)
    week.books.expect("mail.bounce", "marked", len(bounced))
    week.books.count("mails that came back", len(bounced))
    selected = week.egec("client", "list", "--last-mail-failed", "--format", "ids").out.split()
    week.books.require({*bounced} <= {*selected}, "--last-mail-failed leaves out whose mail came back")
    return bounced


def _close(week: Week, command: str, clients: Sequence[str], *options: str) -> None:
    """Disable, enable or erase clients, twice: the repetition changes nothing."""
    done = f"{command}d" if command.endswith("e") else command
    change = ("client", command, "--from", "-", "--format", "jsonl", *options)
    listed = "\n".join(clients)
    for outcome in (done, "unchanged"):
        rows = week.egec(*change, stdin=listed).rows()
        is_so = [row["identifier"] for row in rows if row["outcome"] == outcome] == list(clients)
        week.books.require(is_so, f"client {command}: not all of {len(clients)} are {outcome}: {rows}")
    week.books.expect(f"client.{command}", done, len(clients))
    week.books.count(f"clients {done}", len(clients))
    for one in clients:
        if command == "enable":
            del week.shut[one]
        else:
            week.shut[one] = done


def _erase(week: Week, clients: Sequence[str], given: dict[str, Sequence[Given]]) -> None:
    _close(week, "erase", clients, "--yes")
    _require_shut(week, clients, given)
    known_by = {identifier: name for name, identifier in week.identifiers.items()}
    # No file made from now on may contain these; the marks of earlier mails are erased with them.
    for one in clients:
        week.erased |= {address.encode() for address in week.addresses[known_by[one]]}
        week.by_hand[one] = list(given[one])


def _require_shut(week: Week, clients: Sequence[str], given: dict[str, Sequence[Given]]) -> None:
    logins.try_all(
        week, [[Login(one, given[one][-1].password, False, f"the client was {week.shut[one]}")] for one in clients]
    )
