"""Monday: upgrade the database of the first release, then import clients."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.store.test_upgrade import CLIENT, PASSWORD
from tests.week import logins, people
from tests.week.logins import Login
from tests.week.people import Person
from tests.week.state import Given, Week
from tests.week.store import OldClient

# As wrong as rows get: no address, an unknown language, an address that is another's.
_FAULTY = "W-x1;no-address;;;Personne;fr\nW-x2;x2@example.org;;;Personne;klingon\nW-x3;{taken};;;Personne;fr\n"
_NUMBER_OF_FAULTY = 3
_OF_FIRST_RELEASE = ("jeanne", "marc", "paul")
_DISABLED = "6079512745"
# The latest time of a kill, in seconds after the start of an import.
_LATEST_KILL = 0.5


def live(week: Week, folder: Path) -> None:
    """Upgrade, and import the clients."""
    crowd = people.crowd(week.number, week.chance)
    for one in crowd:
        week.register(one.reference, one.email)
    old, new = crowd[: week.number // 10], crowd[week.number // 10 :]
    _upgrade(week, _old_clients(week, old))
    half = len(new) // 2
    _import_spreadsheet(week, new[:half], folder / "clients.csv")
    _import_export(week, new[half:], folder / "other-system.jsonl")
    _learn_identifiers(week)
    week.egec("doctor", codes=(3,))


def _old_clients(week: Week, persons: Sequence[Person]) -> list[OldClient]:
    return [OldClient(one, str(2_000_000_000 + n), people.password(week.chance)) for n, one in enumerate(persons)]


def _upgrade(week: Week, old: Sequence[OldClient]) -> None:
    week.store.lay_down_first_release()
    week.store.add_old_clients(old)
    # Issues are counted by `promises` in another way.
    for event in week.store.rows("SELECT action, outcome FROM event WHERE action <> 'credential.issue'"):
        week.books.expect(*event)
    for command in ("db status", "client list", "activate jeanne@example.org"):
        week.egec(*command.split(), codes=(78,))
    week.egec("db", "upgrade")
    week.egec("db", "status")
    week.books.expect("db.upgrade", "upgraded")
    week.shut[_DISABLED] = "disabled"
    week.books.count("clients of the first release's database", len(old) + len(_OF_FIRST_RELEASE))
    for one in old:
        week.by_hand[one.identifier].append(Given(1, one.password, None))
        week.settled[one.identifier] = 1
    week.by_hand[CLIENT].append(Given(2, PASSWORD, None))
    week.settled[CLIENT] = 2
    because = "its password was right before the upgrade"
    some = week.some((one.identifier for one in old), 40)
    logins.try_all(week, [[logins.with_last(one, week.by_hand[one], because)] for one in (*some, CLIENT)])
    logins.try_one(week, Login(CLIENT, PASSWORD.swapcase(), False, "capitals count"))


def _import_spreadsheet(week: Week, persons: Sequence[Person], file: Path) -> None:
    """Import what French Excel wrote, with mistakes in it; the rejected rows are corrected and imported."""
    taken = persons[0].email
    file.write_bytes(people.spreadsheet(persons) + _FAULTY.format(taken=taken).encode("windows-1252"))
    rejects = file.with_name("rejects.csv")
    ended = week.egec("client", "import", str(file), "--rejects", str(rejects), "--format", "json", codes=(3,))
    _add_up(week, ended.out, rows=len(persons) + _NUMBER_OF_FAULTY, rejected=_NUMBER_OF_FAULTY)
    corrected = rejects.read_text("windows-1252").replace("no-address", "x1@example.org").replace("klingon", "en")
    rejects.write_text(corrected.replace(taken, "x3@example.org"), "windows-1252")
    ended = week.egec("client", "import", str(rejects), "--format", "json")
    _add_up(week, ended.out, rows=_NUMBER_OF_FAULTY, rejected=0)
    for number in (1, 2, 3):
        week.register(f"W-x{number}", f"x{number}@example.org")


def _import_export(week: Week, persons: Sequence[Person], file: Path) -> None:
    """Import what another program exported, some with their passwords; the first import is killed."""
    kept = {one.reference: people.password(week.chance) for one in week.chance.sample(persons, week.share(20))}
    file.write_bytes(people.export(persons, kept))
    ends = time.monotonic() + week.chance.uniform(0, _LATEST_KILL)
    week.egec.begin("client", "import", str(file)).kill_when(lambda: time.monotonic() > ends)
    ended = week.egec("client", "import", str(file), "--format", "json")
    _add_up(week, ended.out, rows=len(persons), rejected=0)
    ended = week.egec("client", "import", str(file), "--format", "json")
    week.books.require(
        json.loads(ended.out)["skipped"] == len(persons), "an import that was done has changed something"
    )
    _keep_passwords(week, kept)


def _add_up(week: Week, out: str, *, rows: int, rejected: int) -> None:
    counted: Mapping[str, int] = {word: number for word, number in json.loads(out).items() if word != "email_changes"}
    week.books.require(sum(counted.values()) == rows, f"an import of {rows} rows counted {counted}")
    week.books.require(
        counted["rejected"] == rejected, f"an import rejected {counted['rejected']}, not {rejected} rows"
    )
    for word, number in counted.items():
        week.books.count(f"rows of tables {word}", number)


def _keep_passwords(week: Week, kept: Mapping[str, str]) -> None:
    identifiers = {one.reference: one.identifier for one in week.store.clients()}
    for reference, clear in kept.items():
        week.by_hand[identifiers[reference]].append(Given(1, clear, None))
        week.settled[identifiers[reference]] = 1
    week.books.count("passwords taken over from another program", len(kept))
    because = "the password came along with the import"
    some = week.some((identifiers[one] for one in kept), 40)
    logins.try_all(week, [[logins.with_last(one, week.by_hand[one], because)] for one in some])


def _learn_identifiers(week: Week) -> None:
    week.register("D-2047", "jeanne@example.org")
    week.register("marc@example.org", "marc@example.org")
    expected, found = week.number + _NUMBER_OF_FAULTY + len(_OF_FIRST_RELEASE), week.look_at_identifiers()
    week.books.require(found == expected, f"{found} clients are listed, not {expected}")
    week.books.count("clients", found)
