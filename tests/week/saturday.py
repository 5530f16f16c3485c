"""Saturday: the database is backed up while operators work, is destroyed, and comes back as it was."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.week import logins, operators, runs
from tests.week.state import Week

_RUN = "after-restore"


def live(week: Week) -> None:
    """Back up, continue, lose everything, restore, and mail those again whose mails the restored database lost."""
    living = [one for one in week.given() if one not in week.shut]
    during, afterwards = week.some(living, 500), week.some(living, 500)
    first_lost, records = week.post.received, Counter(week.books.events)
    with ThreadPoolExecutor() as pool:
        work = pool.submit(operators.activate_all, week, during, "carla")
        backup = week.store.backed_up(week.egec)
        work.result()
    operators.activate_all(week, afterwards, "carla")
    week.store.destroy()
    week.egec("doctor", codes=(78,))
    if week.store.restored(week.egec, backup):
        records["db.restore", "done"] += 1
    week.egec("db", "status")
    # What was done after the backup is not on record any more.
    week.books.events, week.lost = records, range(first_lost, week.post.received)
    _mail_again(week)


def _mail_again(week: Week) -> None:
    """Mail the recipients since the backup again, according to the mail server's log; the others need nothing."""
    mailed = week.post.letters()[week.lost.start : week.lost.stop]
    forgotten = {letter.identifier for letter in mailed}
    for one in forgotten:
        week.settled.pop(one, None)
    given = week.given()
    untouched = [one for one in given if one not in week.shut and one not in forgotten]
    because = "P1: it is the last mail's, and was when the backup was made"
    logins.try_all(week, [[logins.with_last(one, given[one], because)] for one in week.some(untouched, 20)])
    listed = "\n".join(sorted({letter.recipient for letter in mailed}))
    runs.finish(week, _RUN, runs.begin(week, _RUN, "--from", "-", stdin=listed))
    week.books.expect("reissue.start", "recorded")
    week.books.count("mails whose record was lost with the database", len(mailed))
